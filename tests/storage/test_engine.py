"""The database, in a file and on a server: its errors, its locks, and what the history makes of rows."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ai_proxy.core.exceptions import DatabaseUnavailable, Unstorable
from ai_proxy.core.types import Turn, Usage
from ai_proxy.storage import audit, conversations, keys, records, schema
from ai_proxy.storage.engine import outlast_lock
from tests.stores import exchange, page

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        await keys.add(database, key_id="key", name="laptop", digest="d", hint="h", created_at=1)
        yield database


async def test_a_row_comes_back_as_it_went_in(database):
    row = exchange(
        "1",
        question="Ünïcödé 🦆\n",
        answer="' or 1=1; --",
        conversation_id="c",
        provider="p",
        mock=True,
        status="failed",
        error="e",
        finish_reason="stop",
        usage=Usage(2**40, 5, estimated=True),
        duration_ms=1.5,
    )

    await records.add(database, [row])

    assert await page(database) == [row]


async def test_what_is_too_long_for_its_column_is_cut_and_takes_no_record_with_it(database, store):
    long = "x" * 5000

    await records.add(
        database,
        [exchange("1", model=long, provider=long, finish_reason=long, response_id=long, request=b"", question=long)],
    )

    (found,) = await page(database)
    assert (len(found.model), len(found.provider), len(found.finish_reason)) == (200, 100, 100)
    assert store.query("select length(response_id) from bodies") == [(200,)]
    assert store.query("select length(model), length(provider) from daily_usage") == [(200, 100)]
    assert found.question == long


async def test_a_row_that_is_there_already_stays_as_it_is(database):
    await records.add(database, [exchange("1"), exchange("2")])

    await records.add(database, [exchange("2", answer="another"), exchange("3")])

    assert [(row.id, row.answer) for row in await page(database)] == [("3", "a"), ("2", "a"), ("1", "a")]


async def test_a_bad_row_is_not_taken_for_a_database_that_is_away_and_takes_the_others_with_it(database):
    with pytest.raises(Unstorable) as refused:
        await records.add(database, [exchange("1", question="a secret"), exchange("2", question=None)])

    assert await page(database) == []
    assert "a secret" not in str(refused.value) + str(refused.value.__cause__)


async def test_a_database_without_tables_is_away(store):
    async with store.database() as database:
        with pytest.raises(DatabaseUnavailable) as refused:
            await records.add(database, [exchange("1", question="a secret")])

    assert refused.value.reason in {
        "(sqlite3.OperationalError) no such table: exchanges",
        '(psycopg.errors.UndefinedTable) relation "exchanges" does not exist',
    }
    assert "a secret" not in str(refused.value.__cause__)


async def test_earlier_exchanges_come_oldest_first_as_far_as_they_fit(database):
    rows = [exchange(str(number), question="qqq", answer=str(number) * 2, conversation_id="c") for number in range(5)]
    await records.add(database, rows)

    everything = await conversations.earlier(database, "key", "c", budget=25)
    fitting = await conversations.earlier(database, "key", "c", budget=14)
    nothing = await conversations.earlier(database, "key", "c", budget=4)

    assert everything == [Turn("qqq", str(number) * 2) for number in range(5)]
    assert fitting == [Turn("qqq", "33"), Turn("qqq", "44")]
    assert nothing == []


async def test_the_schema_is_told_and_brought_to_head(store):
    async with store.database() as database:
        before = await schema.current(database)
        await schema.upgrade(database)
        await schema.upgrade(database)
        after = await schema.current(database)

    assert (before, after) == (None, schema.HEAD)


async def test_an_exchange_of_a_key_that_does_not_exist_is_a_bad_row(database):
    with pytest.raises(Unstorable):
        await records.add(database, [exchange("1", key_id="nobody's")])

    assert await page(database) == []


async def test_readers_that_take_every_connection_do_not_keep_the_history_waiting(database):
    async with AsyncExitStack() as readers:
        for _ in range(5):
            reader = await readers.enter_async_context(database.transaction())
            await reader.execute(text("select count(*) from exchanges"))

        async with asyncio.timeout(2):  # a place among the readers would be waited for longer
            await records.add(database, [exchange("1")])

    assert [row.id for row in await page(database)] == ["1"]


async def test_two_who_read_and_then_change_take_turns(database):
    async def count() -> None:
        async with database.changing() as connection:
            found = await connection.scalar(text("select created_at from api_keys"))
            await asyncio.sleep(0.01)
            await connection.execute(text("update api_keys set created_at = :new"), {"new": found + 1})

    await asyncio.gather(*(count() for _ in range(4)))

    async with database.transaction() as connection:
        assert await connection.scalar(text("select created_at from api_keys")) == 5


async def test_what_a_caller_sends_may_be_longer_than_the_audit_log_has_room_for(database, store):
    long = "x" * 5000
    entry = {"id": "1", "created_at": 1, "actor_id": None, "action": "login.failed", "details": long}
    entry |= dict.fromkeys(("actor", "target", "address", "request_id"), long)

    async with database.changing() as connection:
        await audit.add(connection, entry)

    (row,) = store.query("select actor, target, address, request_id, details from audit")
    assert [len(text) for text in row] == [200, 250, 64, 128, 5000]


async def test_nobody_changes_or_deletes_what_the_audit_log_says(database, store):
    entry = "insert into audit values ('1', 1, null, 'a', 'login', 't', '{}', '', '')"
    async with database.transaction() as connection:
        await connection.execute(text(entry))

    refusals = []
    for change in ("update audit set actor = 'b'", "delete from audit"):
        with pytest.raises(DBAPIError, match="append-only") as refused:
            async with database.transaction() as connection:
                await connection.execute(text(change))
        refusals.append(refused)

    assert len(refusals) == 2
    assert store.query("select actor from audit") == [("a",)]


# A lock that another process holds


async def test_a_database_that_is_locked_is_told_from_one_that_is_broken(database, store):
    with store.locked(), pytest.raises(DatabaseUnavailable) as locked:
        await records.add(database, [exchange("1")])
    with pytest.raises(DatabaseUnavailable) as broken:  # its message speaks of a lock too
        async with database.transaction() as connection:
            await connection.execute(text('select * from "the database is locked"'))

    assert locked.value.busy
    assert "locked" in broken.value.reason
    assert not broken.value.busy


async def test_a_lock_that_lasts_longer_than_one_try_is_outlasted(database, store):
    with store.locked():
        began = time.monotonic()
        writing = asyncio.create_task(outlast_lock(lambda: records.add(database, [exchange("1")])))
        await asyncio.sleep(2.2)
        waiting = not writing.done()

    await writing

    assert waiting
    assert time.monotonic() - began < 5
    assert [row.id for row in await page(database)] == ["1"]


async def test_what_is_no_lock_is_not_waited_for():
    tries = []

    async def work() -> None:
        tries.append(1)
        message = "gone"
        raise DatabaseUnavailable(message)

    with pytest.raises(DatabaseUnavailable):
        await outlast_lock(work)

    assert tries == [1]
