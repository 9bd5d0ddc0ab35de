"""Limits and budgets as a person administers them, on a real database."""

import json

import pytest
from sqlalchemy import insert, text

from ai_proxy.core.exceptions import BadRequest, NotFound, PermissionDenied
from ai_proxy.core.money import DOLLAR
from ai_proxy.core.types import COMMAND_LINE, SERVICE, Actor, Budget, Limit
from ai_proxy.services import budgets, limits, subjects
from ai_proxy.storage import keys as stored_keys
from ai_proxy.storage import schema
from ai_proxy.storage import subjects as stored_subjects
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import ApiKey, Member, Project, User

pytestmark = pytest.mark.anyio

# Always the same, because they are in the tests' names.
NOBODY = "01980000-0000-7000-8000-000000000009"
ADA, BOB, VERA, ADAS_KEY, BOBS_KEY, SEARCH, SECRET = (f"01980000-0000-7000-8000-{number:012}" for number in range(7))
MEMBER = Actor(user_id=ADA, name="ada", role="member", address="10.0.0.7", request_id="r-1")
VIEWER = Actor(user_id=VERA, name="vera", role="viewer")
SUBJECTS = [f"key:{ADAS_KEY}", f"key:{BOBS_KEY}", f"user:{ADA}", f"user:{BOB}"]
SUBJECTS += [f"project:{SEARCH}", f"project:{SECRET}", SERVICE]
ADAS = {f"key:{ADAS_KEY}", f"user:{ADA}", f"project:{SEARCH}"}


@pytest.fixture
async def database(tmp_path):
    """Ada and Bob have a key each; Ada is in the project search, nobody in the project secret."""
    people = [{"id": uid, "name": name, "role": "member"} for uid, name in ((ADA, "ada"), (BOB, "bob"))]
    people.append({"id": VERA, "name": "vera", "role": "viewer"})
    keys = [
        {"id": kid, "name": "laptop", "digest": kid, "hint": "…", "user_id": uid, "scopes": '["calls"]', "labels": "{}"}
        for kid, uid in ((ADAS_KEY, ADA), (BOBS_KEY, BOB))
    ]
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", directory=tmp_path) as database:
        await schema.upgrade(database)
        async with database.changing() as connection:
            await connection.execute(insert(User), [{**row, "created_at": 1} for row in people])
            projects = [{"id": pid, "name": name} for pid, name in ((SEARCH, "search"), (SECRET, "secret"))]
            await connection.execute(insert(Project), [{**row, "created_at": 1} for row in projects])
            await connection.execute(insert(Member), {"project_id": SEARCH, "user_id": ADA})
            await connection.execute(insert(ApiKey), [{**row, "created_at": 1} for row in keys])
        yield database


def budget(subject: str = SERVICE, amount: int = 5 * DOLLAR, **fields) -> Budget:
    return Budget(**{"subject": subject, "period": "day", "amount": amount, "alerts": (80, 100), **fields})


async def audited(database: Database) -> list[tuple]:
    """Oldest first: who, what, to whom, and the details."""
    async with database.transaction() as connection:
        rows = await connection.execute(text("select actor, action, target, details from audit order by id"))
        return [(row.actor, row.action, row.target, json.loads(row.details)) for row in rows]


async def limits_in(database: Database) -> list[Limit]:
    return [found.limit for found in await limits.list_all(database, COMMAND_LINE)]


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_an_administrator_limits_whom_they_like(database, subject):
    found = await limits.change(database, COMMAND_LINE, subject, {"requests_per_minute": 60, "concurrent": 2})

    assert found.limit == Limit(subject=subject, requests_per_minute=60, concurrent=2)
    assert await limits_in(database) == [found.limit]


async def test_a_limit_is_listed_with_the_name_of_whom_it_is_for(database):
    for subject in SUBJECTS:
        await limits.change(database, COMMAND_LINE, subject, {"concurrent": 1})

    found = await limits.list_all(database, COMMAND_LINE)

    names = {one.limit.subject: one.name for one in found}
    assert [names[subject] for subject in SUBJECTS] == ["laptop", "laptop", "ada", "bob", "search", "secret", None]


async def test_what_is_not_named_stays_and_none_takes_away(database):
    await limits.change(database, COMMAND_LINE, SERVICE, {"requests_per_minute": 60, "tokens_per_minute": 1000})

    await limits.change(database, COMMAND_LINE, SERVICE, {"requests_per_minute": None, "concurrent": 3})

    assert await limits_in(database) == [Limit(subject=SERVICE, tokens_per_minute=1000, concurrent=3)]


async def test_a_limit_of_which_nothing_is_left_is_no_more(database):
    await limits.change(database, COMMAND_LINE, SERVICE, {"concurrent": 3})

    await limits.change(database, COMMAND_LINE, SERVICE, {"concurrent": None})

    assert await limits_in(database) == []


async def test_what_is_set_holds_for_the_keys_holder(database):
    subject = f"project:{SEARCH}"
    async with database.changing() as connection:
        await connection.execute(
            text("update api_keys set project_id = :p where id = :k"), {"p": SEARCH, "k": ADAS_KEY}
        )
    await limits.change(database, COMMAND_LINE, subject, {"tokens_per_minute": 5})
    await budgets.put(database, COMMAND_LINE, budget(subject, period="month"))

    principal = await stored_keys.find(database, ADAS_KEY)

    assert principal.limits == (Limit(subject=subject, tokens_per_minute=5),)
    assert principal.budgets == (budget(subject, period="month"),)


@pytest.mark.parametrize("number", [1, 10**9])
async def test_the_least_and_the_most_of_a_limit(database, number):
    await limits.change(database, COMMAND_LINE, SERVICE, {"tokens_per_minute": number})

    assert (await limits_in(database))[0].tokens_per_minute == number


@pytest.mark.parametrize("number", [0, -1, 10**9 + 1])
async def test_a_limit_beyond_them_is_refused(database, number):
    with pytest.raises(BadRequest) as refused:
        await limits.change(database, COMMAND_LINE, SERVICE, {"tokens_per_minute": number})

    assert refused.value.param == "tokens_per_minute"
    assert await limits_in(database) == []
    assert await audited(database) == []


async def test_a_change_of_nothing_is_refused(database):
    with pytest.raises(BadRequest, match="at least one of"):
        await limits.change(database, COMMAND_LINE, SERVICE, {})


@pytest.mark.parametrize(
    "subject",
    [
        f"key:{NOBODY}",
        f"user:{NOBODY}",
        f"project:{NOBODY}",
        f"user:{ADAS_KEY}",
        "user:ada",
        "key:\x00",
        "team:x",
        "",
    ],
)
async def test_nothing_is_set_for_who_is_not_there(database, subject):
    with pytest.raises(NotFound):
        await limits.change(database, COMMAND_LINE, subject, {"concurrent": 1})
    with pytest.raises(NotFound):
        await budgets.put(database, COMMAND_LINE, budget(subject))

    assert await audited(database) == []


async def test_others_see_what_holds_for_them_alone(database):
    for subject in SUBJECTS:
        await limits.change(database, COMMAND_LINE, subject, {"concurrent": 1})
        await budgets.put(database, COMMAND_LINE, budget(subject))

    seen = [one.limit.subject for one in await limits.list_all(database, MEMBER)]
    seen_budgets = [one.budget.subject for one in await budgets.list_all(database, MEMBER)]

    assert set(seen) == set(seen_budgets) == ADAS
    assert await limits.list_all(database, VIEWER) == []


async def test_members_limit_their_own_keys(database):
    subject = f"key:{ADAS_KEY}"

    await limits.change(database, MEMBER, subject, {"concurrent": 1})
    await budgets.put(database, MEMBER, budget(subject))
    await limits.remove(database, MEMBER, subject)
    await budgets.remove(database, MEMBER, subject, "day")

    assert [(who, action) for who, action, _, _ in await audited(database)] == [
        ("ada", "limit.set"),
        ("ada", "budget.set"),
        ("ada", "limit.remove"),
        ("ada", "budget.remove"),
    ]


@pytest.mark.parametrize(
    ("actor", "subject", "error"),
    [
        (MEMBER, f"user:{ADA}", PermissionDenied),
        (MEMBER, f"project:{SEARCH}", PermissionDenied),
        (MEMBER, SERVICE, PermissionDenied),
        (MEMBER, f"key:{BOBS_KEY}", NotFound),
        (MEMBER, f"user:{BOB}", NotFound),
        (MEMBER, f"project:{SECRET}", NotFound),
        (VIEWER, f"user:{VERA}", PermissionDenied),
        (VIEWER, SERVICE, PermissionDenied),
        (VIEWER, f"key:{ADAS_KEY}", NotFound),
    ],
)
async def test_others_change_nothing_else(database, actor, subject, error):
    changes = [
        lambda: limits.change(database, actor, subject, {"concurrent": 1}),
        lambda: limits.remove(database, actor, subject),
        lambda: budgets.put(database, actor, budget(subject)),
        lambda: budgets.remove(database, actor, subject, "day"),
    ]
    for change in changes:
        with pytest.raises(error):
            await change()

    assert await audited(database) == []


async def test_a_limit_is_removed_once(database):
    await limits.change(database, COMMAND_LINE, SERVICE, {"concurrent": 1})

    await limits.remove(database, COMMAND_LINE, SERVICE)

    assert await limits_in(database) == []
    with pytest.raises(NotFound):
        await limits.remove(database, COMMAND_LINE, SERVICE)


async def test_changes_of_limits_are_audited_with_what_was_before(database):
    subject = f"user:{ADA}"
    await limits.change(database, COMMAND_LINE, subject, {"concurrent": 1})
    await limits.change(database, COMMAND_LINE, subject, {"concurrent": 2})
    await limits.remove(database, COMMAND_LINE, subject)

    assert await audited(database) == [
        ("command line", "limit.set", subject, {"before": None, "after": {"concurrent": 1}}),
        ("command line", "limit.set", subject, {"before": {"concurrent": 1}, "after": {"concurrent": 2}}),
        ("command line", "limit.remove", subject, {"before": {"concurrent": 2}, "after": None}),
    ]


async def test_a_budget_takes_the_place_of_the_one_for_the_same_period_only(database):
    await budgets.put(database, COMMAND_LINE, budget(period="day"))
    await budgets.put(database, COMMAND_LINE, budget(period="total"))

    await budgets.put(database, COMMAND_LINE, budget(period="day", amount=1, alerts=()))

    found = [one.budget for one in await budgets.list_all(database, COMMAND_LINE)]
    assert found == [budget(period="day", amount=1, alerts=()), budget(period="total")]


async def test_alerts_are_kept_in_rising_order_each_once(database):
    found = await budgets.put(database, COMMAND_LINE, budget(alerts=(100, 50, 80, 50)))

    assert found.budget.alerts == (50, 80, 100)


@pytest.mark.parametrize("amount", [1, 10**9 * DOLLAR])
async def test_the_least_and_the_most_of_a_budget(database, amount):
    found = await budgets.put(database, COMMAND_LINE, budget(amount=amount))

    assert found.budget.amount == amount


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"amount": 0}, "amount_usd"),
        ({"amount": -1}, "amount_usd"),
        ({"amount": 10**9 * DOLLAR + 1}, "amount_usd"),
        ({"alerts": (0,)}, "alerts"),
        ({"alerts": (101,)}, "alerts"),
        ({"alerts": (1, 2, 3, 4, 5, 6)}, "alerts"),
    ],
)
async def test_a_budget_beyond_them_is_refused(database, fields, param):
    with pytest.raises(BadRequest) as refused:
        await budgets.put(database, COMMAND_LINE, budget(**fields))

    assert refused.value.param == param
    assert await budgets.list_all(database, COMMAND_LINE) == []


async def test_changes_of_budgets_are_audited_with_what_was_before(database):
    await budgets.put(database, COMMAND_LINE, budget())
    await budgets.put(database, COMMAND_LINE, budget(amount=DOLLAR // 2, alerts=()))
    await budgets.remove(database, COMMAND_LINE, SERVICE, "day")
    with pytest.raises(NotFound):
        await budgets.remove(database, COMMAND_LINE, SERVICE, "day")

    first, second = {"amount_usd": "5.00", "alerts": [80, 100]}, {"amount_usd": "0.50", "alerts": []}
    assert await audited(database) == [
        ("command line", "budget.set", SERVICE, {"period": "day", "before": None, "after": first}),
        ("command line", "budget.set", SERVICE, {"period": "day", "before": first, "after": second}),
        ("command line", "budget.remove", SERVICE, {"period": "day", "before": second, "after": None}),
    ]


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        ("service", SERVICE),
        ("user:ada", f"user:{ADA}"),
        ("user:Ada", f"user:{ADA}"),
        (f"user:{ADA}", f"user:{ADA}"),
        ("project:search", f"project:{SEARCH}"),
        (f"project:{SEARCH}", f"project:{SEARCH}"),
        (f"key:{ADAS_KEY}", f"key:{ADAS_KEY}"),
    ],
)
async def test_a_subject_is_found_as_a_person_writes_it(database, written, subject):
    assert await subjects.named(database, written) == subject


@pytest.mark.parametrize("written", ["user:zoe", "key:laptop", "project:none", f"user:{SEARCH}"])
async def test_a_subject_that_is_not_there_is_not_found(database, written):
    with pytest.raises(NotFound, match="see 'ai-proxy"):
        await subjects.named(database, written)


@pytest.mark.parametrize("written", ["", "ada", "user:", "team:x", "service:x"])
async def test_a_subject_in_another_form_is_refused(database, written):
    with pytest.raises(BadRequest, match="write key:ID"):
        await subjects.named(database, written)


async def test_more_subjects_than_one_query_takes_have_their_names(database):
    unknown = [f"key:{number}" for number in range(300_000)]
    async with database.transaction() as connection:
        found = await stored_subjects.names(connection, [*unknown, f"user:{ADA}", f"key:{ADAS_KEY}"])

    assert found == {f"user:{ADA}": "ada", f"key:{ADAS_KEY}": "laptop"}
