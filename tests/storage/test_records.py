"""Exchanges and the sums of their days are written together, and counted exactly once."""

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ai_proxy.core.exceptions import Unstorable
from ai_proxy.core.types import Exchange, KeptAnswer, Usage
from ai_proxy.storage import keys, records, schema
from ai_proxy.storage.engine import Database
from tests import ledger

pytestmark = pytest.mark.anyio

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)

SUMMED_UP, DAYS = text(ledger.SUMMED_UP), text(ledger.DAYS)


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await prepare(database)
        yield database


async def prepare(database: Database) -> None:
    await schema.upgrade(database)
    for name in ("key", "other"):
        await keys.add(database, key_id=name, name=name, digest=name, hint="h", created_at=1)


def microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def exchange(identifier: str, **fields) -> Exchange:
    given = {"key_id": "key", "user_id": "user", "question": "q", "model": "m", "provider": "p"}
    given |= {"conversation_id": None, "created_at": microseconds(MONDAY)}
    return Exchange(id=identifier, started=0.0, **{**given, **fields})


async def rows(database: Database, query=DAYS) -> list[tuple]:
    async with database.transaction() as connection:
        return [tuple(row) for row in await connection.execute(query)]


async def test_calls_are_counted_in_their_day_by_key_user_project_provider_and_model(database):
    night = datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)
    usage = Usage(10, 5, cache_read_tokens=3, cache_write_tokens=2, reasoning_tokens=1)

    await records.add(
        database,
        [
            exchange("1", usage=usage, cost=700),
            exchange("2", usage=usage, cost=None, project_id="project"),
            exchange("3", usage=usage, cost=1, status="failed"),
            exchange("4", cost=0, cached=True),
            exchange("5", created_at=microseconds(night) + 999_999, cost=2),
            exchange("6", created_at=microseconds(night) + 1_000_000, cost=3),
        ],
    )

    assert await rows(database) == [
        ("2026-11-23", "key", "user", "", "p", "m", 4, 1, 1, 0, 20, 10, 6, 4, 2, 703),
        ("2026-11-23", "key", "user", "project", "p", "m", 1, 0, 0, 1, 10, 5, 3, 2, 1, 0),
        ("2026-11-24", "key", "user", "", "p", "m", 1, 0, 0, 0, 0, 0, 0, 0, 0, 3),
    ]


@pytest.mark.parametrize(
    ("fields", "unpriced"),
    [
        ({}, 1),
        ({"cost": 0}, 0),
        ({"status": "failed"}, 0),
        ({"status": "cancelled"}, 0),
        ({"cached": True}, 0),
        ({"mock": True}, 0),
    ],
)
async def test_unpriced_is_what_was_answered_for_a_price_that_nobody_knows(database, fields, unpriced):
    await records.add(database, [exchange("1", **fields)])

    assert await rows(database, text("select unpriced from daily_usage")) == [(unpriced,)]


async def test_a_batch_whose_commit_was_not_heard_of_is_counted_once(database):
    batch = [exchange(str(number), cost=5) for number in range(3)]
    await records.add(database, batch)

    await records.add(database, batch)

    assert await rows(database, text("select calls, cost from daily_usage")) == [(3, 15)]


async def test_of_a_mixed_batch_only_what_is_new_is_counted(database):
    await records.add(database, [exchange("1", cost=1), exchange("2", cost=10)])

    await records.add(database, [exchange("2", cost=10), exchange("3", cost=100, request=b"{}"), exchange("1", cost=1)])

    assert await rows(database, text("select calls, cost from daily_usage")) == [(3, 111)]
    assert await rows(database, text("select id from exchanges order by id")) == [("1",), ("2",), ("3",)]
    assert await rows(database, text("select exchange_id from bodies")) == [("3",)]


async def test_a_repeated_exchange_leaves_the_answer_that_was_kept_with_it(database):
    def kept(body: bytes) -> KeptAnswer:
        return KeptAnswer(key="k", digest="d", body=body, headers={}, exchange_id="1")

    await records.add(database, [exchange("1", kept=kept(b"first"))])

    await records.add(database, [exchange("1", kept=kept(b"again")), exchange("2")])

    assert await rows(database, text("select body from idempotent_answers")) == [(b"first",)]


async def test_a_batch_with_a_bad_row_counts_nothing(database):
    with pytest.raises(Unstorable):
        await records.add(database, [exchange("1"), exchange("2", key_id="nobody's")])

    assert await rows(database) == []


async def test_sums_that_cannot_be_written_leave_no_exchange_behind(database):
    async with database.transaction() as connection:
        await connection.execute(text("create unique index one_day_only on daily_usage (day)"))
    await records.add(database, [exchange("0")])

    with pytest.raises(Unstorable):
        await records.add(database, [exchange("1", model="another")])

    assert await rows(database, text("select id from exchanges")) == [("0",)]


def test_sums_come_in_the_order_of_their_keys():
    batch = [exchange(str(number), model=model) for number, model in enumerate("cabbac")]

    found = records.summed(batch)

    assert [(row["model"], row["calls"]) for row in found] == [("a", 2), ("b", 2), ("c", 2)]


counts = st.integers(0, 10**9)
usages = st.builds(
    Usage,
    counts,
    counts,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
    reasoning_tokens=counts,
)
calls = st.fixed_dictionaries(
    {
        "key_id": st.sampled_from(["key", "other"]),
        "user_id": st.sampled_from(["user", "another"]),
        "project_id": st.sampled_from([None, "project"]),
        "provider": st.sampled_from(["", "p"]),
        "model": st.sampled_from(["m", "n"]),
        "status": st.sampled_from(["completed", "failed", "cancelled"]),
        "cached": st.booleans(),
        "mock": st.booleans(),
        "usage": usages,
        "cost": st.none() | counts,
        "created_at": st.integers(microseconds(MONDAY) - 10**11, microseconds(MONDAY) + 10**11),
    }
)


@given(st.lists(calls, min_size=1, max_size=12), st.data())
@settings(max_examples=25)
def test_the_days_add_up_to_the_history_whatever_is_written_again(all_calls, data):
    batch = [exchange(str(number), **fields) for number, fields in enumerate(all_calls)]
    batches = data.draw(st.lists(st.lists(st.sampled_from(batch), min_size=1, unique_by=lambda row: row.id)))

    days, history = asyncio.run(_written([*batches, batch]))

    assert days == history
    assert sum(row[6] for row in days) == len(batch)


async def _written(batches: list[list[Exchange]]) -> tuple[list[tuple], list[tuple]]:
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite+aiosqlite:///{directory}/x.db"
        async with Database(url, directory=Path(directory)) as database:
            await prepare(database)
            for batch in batches:
                await records.add(database, batch)
            return await rows(database), await rows(database, SUMMED_UP)
