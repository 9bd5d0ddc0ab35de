"""Rows that are written more than once, as those from the spool may be: they are stored and counted once."""

import asyncio
import random

import pytest

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import keys, records, schema
from tests.stores import exchange

pytestmark = pytest.mark.anyio

COUNT = 60


@pytest.fixture
async def databases(store):
    """Of two processes."""
    async with store.database() as first, store.database() as second:
        await schema.upgrade(first)
        await keys.add(first, key_id="key", name="laptop", digest="d", hint="h", created_at=1)
        yield first, second


def rows() -> list:
    return [exchange(f"{number:03}", conversation_id=f"c{number % 3}", request=b"{}") for number in range(COUNT)]


async def write(database, batches) -> None:
    """As the recorder does: again and again while the database is away, or its lock is held."""
    for batch in batches:
        while True:
            try:
                await records.add(database, batch)
            except DatabaseUnavailable:
                await asyncio.sleep(0.01)
            else:
                break


def cut(given: list, order: random.Random) -> list[list]:
    """The same rows in another order, and in other batches."""
    shuffled = order.sample(given, len(given))
    size = order.randint(1, 20)
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]


def counted(store) -> tuple[int, int, int, int]:
    """How many rows there are, in the history and beside it, and how many the days and conversations have counted."""
    return tuple(
        int(store.query(query)[0][0])
        for query in (
            "select count(*) from exchanges",
            "select count(*) from bodies",
            "select sum(calls) from daily_usage",
            "select sum(exchanges) from conversations",
        )
    )


@pytest.mark.parametrize("seed", range(3))
async def test_rows_that_two_processes_write_at_once_are_stored_and_counted_once(store, databases, seed):
    order = random.Random(seed)
    given = rows()

    await asyncio.gather(*(write(database, cut(given, order)) for database in databases for _ in range(2)))

    assert counted(store) == (COUNT,) * 4


async def test_a_batch_that_has_a_row_twice_stores_it_once(store, databases):
    given = rows()

    await records.add(databases[0], [*given, *given[:5]])

    assert counted(store) == (COUNT,) * 4


async def test_a_write_that_is_still_running_and_its_replay_store_rows_once(store, databases):
    slow, replay = databases
    given = rows()

    with store.locked():
        writing = asyncio.create_task(write(slow, [given]))
        await asyncio.sleep(0.3)
        replaying = asyncio.create_task(write(replay, [given[:30], given[30:]]))
        await asyncio.sleep(0.1)
    await asyncio.gather(writing, replaying)

    assert counted(store) == (COUNT,) * 4
