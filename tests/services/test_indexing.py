"""The index of words is filled in the background, and nothing that happens to the database stops that."""

import asyncio
import time

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from ai_proxy.services.indexing import Indexing, pause_after
from ai_proxy.storage import records, search
from ai_proxy.storage.engine import Database
from tests import stores

pytestmark = pytest.mark.anyio


def indexing(database: Database) -> Indexing:
    return Indexing(database, interval=0.01)


async def record(database: Database, *names: str, question: str = "whale") -> None:
    await records.add(database, [stores.exchange(name, question=question) for name in names])


async def found(database: Database) -> set[str]:
    async with database.transaction() as connection:
        return {identifier for identifier, _ in await search.find(connection, "whale", {}, newest=1000)}


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement))


async def until(condition) -> None:
    """Wait until it is so."""
    give_up = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.02)


async def test_what_is_recorded_can_be_found_soon_afterwards(database):
    async with indexing(database):
        await record(database, "1", "2")
        await until(lambda: has(database, {"1", "2"}))

        await record(database, "3")
        await until(lambda: has(database, {"1", "2", "3"}))


async def has(database: Database, names: set[str]) -> bool:
    return await found(database) == names


async def test_it_ends_at_once(database):
    began = time.monotonic()

    async with Indexing(database, interval=3600):
        await asyncio.sleep(0.1)

    assert time.monotonic() - began < 2


async def test_a_database_that_is_away_is_waited_for_and_logged_once(database):
    await record(database, "1")
    await execute(database, "alter table unindexed rename to elsewhere")

    with capture_logs() as logs:
        async with indexing(database) as work:
            await until(lambda: is_failing(work))
            await asyncio.sleep(0.3)
            await execute(database, "alter table elsewhere rename to unindexed")
            await until(lambda: has(database, {"1"}))

    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "search: the database is away, texts are indexed later"),
        ("info", "search: the database is back"),
    ]
    assert not work.failing


async def is_failing(work: Indexing) -> bool:
    return work.failing


async def test_an_exchange_that_cannot_be_indexed_stops_no_other(database, store):
    await record(database, *(f"{number:02}" for number in range(20)))
    await refuse(database, store, "07")

    with capture_logs() as logs:
        async with indexing(database):
            await until(lambda: all_but(database, "07"))

    assert [line["exchange_id"] for line in logs if line["event"].endswith("found by its words")] == ["07"]


async def refuse(database: Database, store: stores.Store, name: str) -> None:
    """From now on the database takes no such row into the index, whatever the reason."""
    if store.on_server:
        await execute(database, f"alter table indexed add constraint c check (exchange_id <> '{name}')")
    else:
        fail = f"begin select raise(abort, 'no') where new.exchange_id = '{name}'; end"
        await execute(database, f"create trigger t before insert on indexed {fail}")


async def all_but(database: Database, name: str) -> bool:
    return await found(database) == {f"{number:02}" for number in range(20)} - {name}


@pytest.mark.parametrize(
    ("took", "busy", "pause"),
    [
        (0.03, 0.0, 0.07),
        (0.03, 0.19, 0.07),
        (0.03, 0.21, 1.97),
        (0.03, 1.0, 1.97),
        (20.0, 1.0, 30.0),
    ],
    ids=["idle", "little to do", "more to do", "full load", "a long wait"],
)
def test_the_more_there_is_to_do_the_smaller_the_share_of_the_index(took, busy, pause):
    assert pause_after(took, busy) == pytest.approx(pause)
