"""Reports: who may see what, and how it is asked for."""

from datetime import UTC, date, datetime

import pytest

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import Actor, Exchange, Usage
from ai_proxy.services import audit, own_usage, usage
from ai_proxy.storage import keys, records, schema

pytestmark = pytest.mark.anyio

ADMIN = Actor(user_id="admin", name="admin", role="admin")
NOW = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()) * 1_000_000
DAY = 86_400_000_000


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        for name in ("key", "other"):
            await keys.add(database, key_id=name, name=name, digest=name, hint="h", created_at=1)
        yield database


def call(**fields) -> Exchange:
    given = {"key_id": "key", "user_id": "user", "question": "q", "model": "m", "provider": "p", "cost": 1}
    given |= {"conversation_id": None, "created_at": NOW, "usage": Usage(10, 5), "started": 0.0}
    return Exchange(id=uuid7(), **{**given, **fields})


def asked(group_by: str = "day", first: str = "2026-11-01", last: str = "2026-11-30", **filters):
    return usage.question(first, last, group_by, filters)


def test_without_days_it_is_the_last_thirty():
    found = usage.question(None, None, "day", {})

    assert date.fromisoformat(found.last) - date.fromisoformat(found.first) == date(2026, 1, 30) - date(2026, 1, 1)
    assert usage.question(None, "2026-11-30", "day", {}).first == "2026-11-01"
    assert usage.question(None, "0001-01-02", "day", {}).first == "0001-01-01"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (("2026-11-31", None, "day"), "from"),
        (("1", None, "day"), "from"),
        ((None, "tomorrow", "day"), "to"),
        (("2026-11-02", "2026-11-01", "day"), "from"),
        ((None, None, ""), "group_by"),
        ((None, None, "day,,model"), "group_by"),
        ((None, None, "key_id"), "group_by"),
        ((None, None, "day;drop table daily_usage"), "group_by"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(given, param):
    with pytest.raises(BadRequest) as refused:
        usage.question(*given, {})

    assert refused.value.param == param


async def test_a_report_has_items_and_their_total(database):
    await records.add(database, [call(cost=1_500_000_000), call(model="n", cost=None, cached=True), call(model="n")])

    found = await usage.report(database, ADMIN, asked("model, model"))

    figures = {"calls": 2, "failed": 0, "cached": 1, "unpriced": 0, "input_tokens": 20, "output_tokens": 10}
    figures |= {"cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "cost_usd": "0.000000001"}
    assert found.items[1] == {"model": "n", **figures}
    assert (found.total["calls"], found.total["cost_usd"]) == (3, "1.500000001")
    assert list(found.columns) == list(found.items[0])


async def test_no_project_is_null(database):
    await records.add(database, [call()])

    (item,) = (await usage.report(database, ADMIN, asked("project,key"))).items

    assert (item["project"], item["project_name"], item["key"], item["key_name"]) == (None, None, "key", "key")


@pytest.mark.parametrize(("role", "calls"), [("admin", 2), ("member", 1), ("viewer", 1)])
async def test_only_an_administrator_sees_the_calls_of_others(database, role, calls):
    await records.add(database, [call(), call(user_id="another", key_id="other")])
    actor = Actor(user_id="user", name="user", role=role)

    everything = await usage.report(database, actor, asked())
    others = await usage.report(database, actor, asked(user="another"))

    assert everything.total["calls"] == calls
    assert others.total["calls"] == calls - 1


async def test_too_many_rows_are_refused_with_a_word_on_what_to_do(database):
    await records.add(database, [call(model=f"m{number}") for number in range(usage.MAX_ROWS)])
    just_fits = await usage.report(database, ADMIN, asked("model"))
    await records.add(database, [call(model="one more")])

    with pytest.raises(BadRequest, match="fewer days"):
        await usage.report(database, ADMIN, asked("model"))
    with pytest.raises(BadRequest):
        await usage.export(database, ADMIN, asked("model"))

    exports, _ = await audit.page(database, audit.wanted(action="usage.export"), limit=1)
    assert len(just_fits.items) == usage.MAX_ROWS
    assert exports == []


async def test_what_is_carried_away_is_in_the_audit_log(database):
    await records.add(database, [call()])

    found = await usage.export(database, ADMIN, asked("day,model", model="m"))

    (entry,), _ = await audit.page(database, audit.wanted(), limit=1)
    assert found.total["calls"] == 1
    assert (entry.action, entry.actor, entry.target) == ("usage.export", "admin", "usage")
    assert entry.details == {
        "from": "2026-11-01",
        "to": "2026-11-30",
        "group_by": ["day", "model"],
        "filters": {"model": "m"},
        "rows": 1,
    }


# What a key has used


async def test_a_key_sees_its_own_use_of_the_current_periods(database):
    for days, cost in ((0, 1), (2, 10), (3, 100), (29, 1000), (30, 10_000)):
        await records.add(database, [call(created_at=NOW - days * DAY, cost=cost)])
    await records.add(database, [call(key_id="other", cost=5)])

    found = await own_usage.of_key(database, "key", NOW)  # on a Wednesday

    sums = {name: (found[name]["calls"], found[name]["cost_usd"]) for name in ("today", "this_week", "this_month")}
    assert sums == {"today": (1, "0.000000001"), "this_week": (2, "0.000000011"), "this_month": (3, "0.000000111")}
    assert (found["total"]["calls"], found["total"]["cost_usd"]) == (5, "0.000011111")
    assert [(item["day"], item["model"], item["cost_usd"]) for item in found["days"]] == [
        ("2026-10-27", "m", "0.000001"),
        ("2026-11-22", "m", "0.0000001"),
        ("2026-11-23", "m", "0.00000001"),
        ("2026-11-25", "m", "0.000000001"),
    ]


async def test_a_key_that_was_never_used_has_used_nothing(database):
    found = await own_usage.of_key(database, "key", NOW)

    assert (found["total"]["calls"], found["total"]["cost_usd"], found["days"]) == (0, "0.00", [])
