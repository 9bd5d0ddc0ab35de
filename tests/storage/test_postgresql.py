"""What is PostgreSQL's own: a server that is gone, comes back or says nothing, and texts without NUL."""

import asyncio
import subprocess
import sys
import time

import psycopg
import pytest
from sqlalchemy import text

from ai_proxy.core.exceptions import DatabaseUnavailable, Unstorable
from ai_proxy.storage import keys, records, schema
from ai_proxy.storage.engine import Database
from ai_proxy.storage.postgresql import PostgreSQL
from tests.postgres import Postgres
from tests.stores import Store, exchange, page

pytestmark = pytest.mark.anyio


@pytest.fixture
def own_server():
    """A server that the test may stop."""
    with Postgres() as server:
        yield server


@pytest.fixture
def store(postgres, tmp_path):
    return Store(postgres.new_database(), tmp_path)


async def ready(database: Database) -> None:
    await schema.upgrade(database)
    await keys.add(database, key_id="key", name="laptop", digest="d", hint="h", created_at=1)


async def test_a_text_with_nul_is_kept_with_a_sign_in_its_place(store):
    async with store.database() as database:
        await ready(database)

        await records.add(database, [exchange("1", question="a\x00b", answer="\x00", request=b"\x00", response=None)])

        found = await page(database)
        by_nul = await keys.find(database, "\x00")

    assert [(row.question, row.answer) for row in found] == [
        ("a\N{REPLACEMENT CHARACTER}b", "\N{REPLACEMENT CHARACTER}")
    ]
    assert by_nul is None
    assert store.query("select request from bodies") == [(b"\x00",)]


async def test_an_error_of_a_row_does_not_show_the_row(store):
    async with store.database() as database:
        await ready(database)
        with pytest.raises(Unstorable) as refused:
            await records.add(database, [exchange("1", answer="a secret", question=None)])

    cause = refused.value.__cause__
    assert "null value in column" in str(cause)
    assert "a secret" not in str(refused.value) + str(cause) + repr(cause) + str(cause.orig)


async def test_a_reader_does_not_notice_that_the_server_was_restarted(own_server, tmp_path):
    async with Store(own_server.new_database(), tmp_path).database() as database:
        await ready(database)
        await records.add(database, [exchange("1")])
        await asyncio.to_thread(own_server.stop)
        await asyncio.to_thread(own_server.start)

        found = await page(database)

    assert [row.id for row in found] == ["1"]


async def test_a_server_that_is_gone_is_away_and_found_again_when_it_is_back(own_server, tmp_path):
    async with Store(own_server.new_database(), tmp_path).database() as database:
        await ready(database)
        await records.add(database, [exchange("1")])
        await asyncio.to_thread(own_server.stop)
        errors = []
        for work in (records.add(database, [exchange("2")]), page(database), schema.upgrade(database)):
            with pytest.raises(DatabaseUnavailable) as away:
                await work
            errors.append(away.value)
        await asyncio.to_thread(own_server.start)

        await records.add(database, [exchange("2")])

        found = await page(database)

    assert [row.id for row in found] == ["2", "1"]
    assert not any(error.busy for error in errors)
    assert all(error.reason for error in errors)


async def test_a_server_that_dies_in_the_middle_of_a_transaction_is_away(own_server, tmp_path):
    async with Store(own_server.new_database(), tmp_path).database() as database:
        await ready(database)

        async def work() -> None:
            async with database.writing() as connection:
                await connection.execute(text("select 1"))
                await asyncio.to_thread(own_server.stop)
                await connection.execute(text("select 1"))

        with pytest.raises(DatabaseUnavailable):
            await work()


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(own_server, tmp_path):
    async with Store(own_server.new_database(), tmp_path).database(closing_time=1, patience=0.5) as database:
        await ready(database)
        own_server.freeze()
        began = time.monotonic()
        try:
            with pytest.raises(DatabaseUnavailable) as away:
                await page(database)
        finally:
            own_server.thaw()
        waited = time.monotonic() - began

        found = await page(database)

    assert waited < 15
    assert away.value.reason == "the database does not answer"
    assert found == []


async def server_process(database: Database) -> int:
    """Which process of the server answers at the other end of the connection that is used now."""
    async with database.transaction() as connection:
        return await connection.scalar(text("select pg_backend_pid()"))


async def test_after_an_error_for_writing_at_a_read_only_server_the_connection_is_not_used_again(store):
    async def write(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute(text("set transaction read only"))  # of which the server tells nothing
            await connection.execute(text("create table x ()"))

    async with store.database() as database:
        before = await server_process(database)
        with pytest.raises(DatabaseUnavailable) as away:
            await write(database)
        after = await server_process(database)

    assert away.value.passing
    assert after != before


async def test_whoever_only_reads_leaves_a_server_that_says_that_it_is_read_only(store):
    async with store.database() as database:
        before = [await server_process(database) for _ in range(2)]
        async with database.transaction() as connection:
            await connection.execute(text("set session characteristics as transaction read only"))
        after = [await server_process(database) for _ in range(2)]

    assert before[0] == before[1] != after[0]
    assert after[0] == after[1]


async def test_a_statement_that_takes_too_long_is_broken_off(store):
    url = store.url + "&options=-c%20statement_timeout=100"
    async with Database(url, directory=store.directory) as database:
        with pytest.raises(DatabaseUnavailable) as away:
            async with database.transaction() as connection:
                await connection.execute(text("select pg_sleep(5)"))

    assert "statement timeout" in away.value.reason


async def test_statements_and_locks_have_a_limit(store):
    async with store.database() as database, database.transaction() as connection:
        limits = [
            await connection.scalar(text(f"show {name}"))
            for name in ("statement_timeout", "lock_timeout", "application_name")
        ]

    assert limits == ["10s", "2s", "ai-proxy"]


async def test_an_option_that_the_driver_does_not_know_is_one_line(store):
    with pytest.raises(SystemExit) as stopped:
        Database(store.url + "&pgbouncer=true", directory=store.directory)

    assert str(stopped.value) == 'ai-proxy: DATABASE_URL: invalid connection option "pgbouncer"'


def test_a_start_with_sqlite_does_not_load_the_driver_of_postgresql():
    program = "import ai_proxy.app, ai_proxy.storage.statements, sys; print('psycopg' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout == "False\n"


# What passes by itself

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    "message",
    [
        AT + "Connection refused",
        AT + "No route to host",
        AT + "FATAL:  the database system is starting up",
        AT + "FATAL:  the database system is shutting down",
        AT + "FATAL:  the database system is in recovery mode",
        AT + "FATAL:  the database system is not yet accepting connections",
        AT + "FATAL:  sorry, too many clients already",
        AT + "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        'connection failed: connection to server on socket "/x/.s.PGSQL.5432" failed: No such file or directory',
        "failed to resolve host 'db': [Errno -2] Name or service not known",
        "connection timeout expired",
        "server closed the connection unexpectedly",
    ],
)
def test_a_server_that_cannot_be_reached_or_is_not_ready_is_away_for_now(message):
    assert PostgreSQL.is_passing(psycopg.OperationalError(message))


@pytest.mark.parametrize(
    "message",
    [
        AT + 'FATAL:  password authentication failed for user "ai_proxy"',
        AT + 'FATAL:  database "ai_proxy" does not exist',
        AT + 'FATAL:  role "ai_proxy" does not exist',
        AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.2"',
        AT + "fe_sendauth: no password supplied",
        AT + "server does not support SSL, but SSL was required",
        AT + "SSL error: certificate verify failed",
    ],
)
def test_a_server_that_will_not_have_us_does_not_change_its_mind(message):
    assert not PostgreSQL.is_passing(psycopg.OperationalError(message))


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.errors.AdminShutdown, True),
        (psycopg.errors.TooManyConnections, True),
        (psycopg.errors.QueryCanceled, True),
        (psycopg.errors.LockNotAvailable, True),
        (psycopg.errors.ReadOnlySqlTransaction, True),
        (psycopg.errors.DiskFull, True),
        (psycopg.errors.InsufficientPrivilege, False),
        (psycopg.errors.UndefinedTable, False),
        (psycopg.errors.DataCorrupted, False),
    ],
)
def test_an_error_says_by_its_code_whether_it_passes(error, passes):
    assert PostgreSQL.is_passing(error("any text")) == passes


async def test_a_server_that_is_stopped_is_away_for_now_and_an_unknown_database_is_not(own_server, tmp_path):
    store, nowhere = Store(own_server.new_database(), tmp_path), Store(own_server.url("nowhere"), tmp_path)

    with pytest.raises(DatabaseUnavailable) as unknown:
        async with nowhere.database() as database:
            await schema.current(database)
    own_server.stop()
    with pytest.raises(DatabaseUnavailable) as stopped:
        async with store.database() as database:
            await schema.current(database)
    own_server.start()

    assert (unknown.value.passing, stopped.value.passing) == (False, True)
