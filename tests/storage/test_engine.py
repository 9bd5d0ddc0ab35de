"""The database's errors and its file, and what the history makes of rows."""

import asyncio
import shutil
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.types import Exchange, Turn, Usage
from ai_proxy.storage import history, schema
from ai_proxy.storage.engine import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/data/x.db", directory=tmp_path / "data") as database:
        await schema.upgrade(database)
        yield database


def exchange(identifier: str, **fields) -> Exchange:
    given = {"key_id": "key", "question": "q", "answer": "a", "model": "m", "conversation_id": None}
    return Exchange(id=identifier, created_at=1, started=0.0, **{**given, **fields})


async def page(database: Database) -> list[Exchange]:
    return list(await history.page(database, key_id="key", before=None, limit=100))


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


async def test_readers_that_take_every_connection_do_not_keep_the_history_waiting(database):
    async with AsyncExitStack() as readers:
        for _ in range(5):
            reader = await readers.enter_async_context(database.transaction())
            await reader.execute(text("select count(*) from exchanges"))

        async with asyncio.timeout(2):  # a place among the readers would be waited for longer
            await history.add(database, [exchange("1")])

    assert [row.id for row in await page(database)] == ["1"]
