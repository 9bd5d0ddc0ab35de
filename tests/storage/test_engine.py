"""The database's errors and its file, and what the history makes of rows."""

import asyncio
import shutil
import sqlite3
import threading
import time
from contextlib import AsyncExitStack, closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.types import Exchange, Turn, Usage
from ai_proxy.storage import history, keys, schema
from ai_proxy.storage.engine import DRIVER_THREAD, Database, outlast_lock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/data/x.db", directory=tmp_path / "data") as database:
        await schema.upgrade(database)
        await keys.add(database, key_id="key", name="laptop", digest="d", hint="h", created_at=1)
        yield database


def exchange(identifier: str, **fields) -> Exchange:
    given = {"key_id": "key", "question": "q", "answer": "a", "model": "m", "conversation_id": None}
    return Exchange(id=identifier, created_at=1, started=0.0, **{**given, **fields})


async def page(database: Database) -> list[Exchange]:
    found, _ = await history.page(database, key_id="key", before=None, limit=100)
    return list(found)


async def test_a_row_comes_back_as_it_went_in(database):
    row = exchange(
        "1",
        question="Ünïcödé 🦆\x00\n",
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

    await history.add(database, [row])

    assert await page(database) == [row]


async def test_a_row_that_is_there_already_stays_as_it_is(database):
    await history.add(database, [exchange("1"), exchange("2")])

    await history.add(database, [exchange("2", answer="another"), exchange("3")])

    assert [(row.id, row.answer) for row in await page(database)] == [("3", "a"), ("2", "a"), ("1", "a")]


async def test_a_bad_row_is_not_taken_for_a_database_that_is_away_and_takes_the_others_with_it(database):
    with pytest.raises(IntegrityError) as refused:
        await history.add(database, [exchange("1", question="a secret"), exchange("2", question=None)])

    assert await page(database) == []
    assert "a secret" not in str(refused.value)


async def test_a_database_without_tables_is_away(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", directory=tmp_path) as database:
        with pytest.raises(DatabaseUnavailable) as refused:
            await history.add(database, [exchange("1", question="a secret")])

    assert refused.value.reason == "(sqlite3.OperationalError) no such table: exchanges"
    assert "a secret" not in str(refused.value.__cause__)


async def test_a_file_that_was_replaced_is_opened_anew(database, tmp_path):
    file = tmp_path / "data" / "x.db"
    await history.add(database, [exchange("1")])
    async with database.transaction() as connection:
        await connection.execute(text(f"vacuum into '{tmp_path}/copy.db'"))
    await history.add(database, [exchange("2")])
    shutil.rmtree(file.parent)
    with pytest.raises(DatabaseUnavailable) as gone:
        await history.add(database, [exchange("3")])
    file.parent.mkdir()
    (tmp_path / "copy.db").rename(file)

    await history.add(database, [exchange("3")])

    assert [row.id for row in await page(database)] == ["3", "1"]
    assert gone.value.reason == "[Errno 2] the database file is gone"


async def test_earlier_exchanges_come_oldest_first_as_far_as_they_fit(database):
    rows = [exchange(str(number), question="qqq", answer=str(number) * 2, conversation_id="c") for number in range(5)]
    await history.add(database, rows)

    everything = await history.earlier(database, "key", "c", budget=25)
    fitting = await history.earlier(database, "key", "c", budget=14)
    nothing = await history.earlier(database, "key", "c", budget=4)

    assert everything == [Turn("qqq", str(number) * 2) for number in range(5)]
    assert fitting == [Turn("qqq", "33"), Turn("qqq", "44")]
    assert nothing == []


async def test_the_schema_is_told_and_brought_to_head(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", directory=tmp_path) as database:
        before = await schema.current(database)
        await schema.upgrade(database)
        await schema.upgrade(database)
        after = await schema.current(database)

    assert (before, after) == (None, schema.HEAD)


async def test_commits_survive_the_process_and_readers_do_not_wait_for_writers(database):
    async with database.transaction() as connection:
        found = [
            await connection.scalar(text(f"pragma {name}")) for name in ("journal_mode", "synchronous", "busy_timeout")
        ]

    assert found == ["wal", 1, 2000]


async def test_an_exchange_of_a_key_that_does_not_exist_is_a_bad_row(database):
    with pytest.raises(IntegrityError):
        await history.add(database, [exchange("1", key_id="nobody's")])

    assert await page(database) == []


async def test_readers_that_take_every_connection_do_not_keep_the_history_waiting(database):
    async with AsyncExitStack() as readers:
        for _ in range(5):
            reader = await readers.enter_async_context(database.transaction())
            await reader.execute(text("select count(*) from exchanges"))

        async with asyncio.timeout(2):  # a place among the readers would be waited for longer
            await history.add(database, [exchange("1")])

    assert [row.id for row in await page(database)] == ["1"]


# A lock that another process holds


@pytest.fixture
def lock(database, tmp_path):
    """The lock that writers need, taken and given back as a test likes."""
    with closing(sqlite3.connect(tmp_path / "data" / "x.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        yield other


async def test_a_database_that_is_locked_is_told_from_one_that_is_broken(database, lock, tmp_path):
    with pytest.raises(DatabaseUnavailable) as locked:
        await history.add(database, [exchange("1")])
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/locked.db", directory=tmp_path) as empty:
        with pytest.raises(DatabaseUnavailable) as broken:  # its message speaks of a lock too
            async with empty.transaction() as connection:
                await connection.execute(text('select * from "the database is locked"'))

    assert locked.value.busy
    assert "locked" in broken.value.reason
    assert not broken.value.busy


async def test_a_lock_that_lasts_longer_than_one_try_is_outlasted(database, lock):
    began = time.monotonic()
    writing = asyncio.create_task(outlast_lock(lambda: history.add(database, [exchange("1")])))
    await asyncio.sleep(2.2)
    waiting = not writing.done()
    lock.execute("rollback")

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


# The driver's threads


def driver_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith(DRIVER_THREAD)]


async def test_the_drivers_threads_have_the_name_that_they_are_looked_for_by(database):
    async with database.transaction():
        assert driver_threads() != []


async def test_no_thread_of_the_driver_outlives_the_database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}", directory=tmp_path) as database:
        with pytest.raises(DatabaseUnavailable):
            await schema.current(database)

    assert driver_threads() == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the connection that is left
async def test_a_connection_that_does_not_close_is_left_after_a_while_and_the_log_says_so(tmp_path):
    answer = threading.Event()
    with capture_logs() as log:
        async with Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", directory=tmp_path, closing_time=0.1) as database:
            async with database.writing() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                await driver.create_function("hang", 0, lambda: answer.wait(30))
            hanging = asyncio.create_task(driver.execute_fetchall("select hang()"))
            await asyncio.sleep(0)
            began = time.monotonic()
    waited = time.monotonic() - began
    answer.set()
    await asyncio.wait([hanging])

    assert 0.1 <= waited < 3
    assert [(line["log_level"], line["event"]) for line in log] == [
        ("error", "database: connections that could not be closed are left")
    ]
