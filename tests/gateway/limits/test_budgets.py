"""What is spent in which period, what is told of it, and when."""

from datetime import UTC, datetime

import pytest

from ai_proxy.core.exceptions import BudgetExceeded
from ai_proxy.core.types import Spending
from ai_proxy.gateway.limits.budgets import Budgets
from ai_proxy.gateway.limits.periods import next_begins, periods_at
from tests.gateway.limits.calls import CENTS, DOLLAR, World, budget, principal, rates

pytestmark = pytest.mark.anyio

TEN_CENTS = rates(request=10 * CENTS)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


SUNDAY = at("2026-11-29 23:59:59.999999")  # the last moment of an ISO week
MONDAY = at("2026-11-30 00:00:00")
TUESDAY = at("2026-12-01 00:00:00")  # the first of a month


async def test_each_period_begins_with_nothing_spent():
    world = World(TEN_CENTS)

    for moment in (SUNDAY, MONDAY, TUESDAY):
        await world.ask(principal(), at=moment)

    assert world.spent(at=SUNDAY) == Spending(10 * CENTS, 10 * CENTS, 20 * CENTS, 30 * CENTS)
    assert world.spent(at=MONDAY) == Spending(10 * CENTS, 20 * CENTS, 20 * CENTS, 30 * CENTS)
    assert world.spent(at=TUESDAY) == Spending(10 * CENTS, 20 * CENTS, 10 * CENTS, 30 * CENTS)


@pytest.mark.parametrize("subject", ["key:alice", "user:alice-user", "project:p", "service"])
async def test_a_call_counts_for_its_key_user_project_and_the_service(subject):
    world = World(TEN_CENTS)

    await world.ask(principal(project_id="p"))

    assert world.spent(subject).total == 10 * CENTS


@pytest.mark.parametrize(
    ("period", "before", "after"),
    [("day", SUNDAY, MONDAY), ("week", SUNDAY, MONDAY), ("month", MONDAY, TUESDAY)],
)
async def test_a_budget_that_is_used_up_begins_anew_with_the_next_period(period, before, after):
    world = World(TEN_CENTS)
    caller = principal(budget(0.10, period=period))
    await world.ask(caller, at=before)

    with pytest.raises(BudgetExceeded) as told:
        await world.ask(caller, at=before)
    await world.ask(caller, at=after)

    assert datetime.fromtimestamp(after / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") in told.value.message
    assert told.value.should_retry is False


async def test_a_total_never_begins_anew():
    world = World(TEN_CENTS)
    caller = principal(budget(0.10, period="total"))
    await world.ask(caller, at=SUNDAY)

    with pytest.raises(BudgetExceeded, match="does not begin anew"):
        await world.ask(caller, at=TUESDAY)


async def test_what_a_call_costs_counts_when_it_began_not_when_it_ended():
    budgets = Budgets(wait=0, alert=lambda *_: None)
    daily = budget(1)
    late = await budgets.reserve((daily,), DOLLAR, SUNDAY)
    early = await budgets.reserve((daily,), DOLLAR, MONDAY)

    budgets.settle(("key:alice",), early, 30 * CENTS, MONDAY)
    budgets.settle(("key:alice",), late, 60 * CENTS, SUNDAY)

    assert budgets.spending("key:alice", SUNDAY) == Spending(60 * CENTS, 60 * CENTS, 90 * CENTS, 90 * CENTS)
    assert budgets.spending("key:alice", MONDAY) == Spending(30 * CENTS, 30 * CENTS, 90 * CENTS, 90 * CENTS)


async def test_the_budget_of_yesterday_holds_for_calls_that_began_yesterday():
    world = World(TEN_CENTS)
    caller = principal(budget(0.10))
    await world.ask(caller, at=SUNDAY)
    await world.ask(caller, at=MONDAY)

    with pytest.raises(BudgetExceeded):
        await world.ask(caller, at=SUNDAY)


def test_old_periods_are_forgotten():
    budgets = Budgets(wait=0, alert=lambda *_: None)

    for day in range(2000):
        budgets.settle(("key:alice",), None, CENTS, SUNDAY + day * 86_400_000_000)

    assert len(budgets._accounts["key:alice"]) <= 12
    assert budgets.spending("key:alice", SUNDAY + 1999 * 86_400_000_000).total == 2000 * CENTS


async def test_what_was_spent_before_the_start_counts():
    world = World(TEN_CENTS)
    world.limiter.load({"key:alice": Spending(95 * CENTS, 2 * DOLLAR, 3 * DOLLAR, 4 * DOLLAR)}, SUNDAY)

    with pytest.raises(BudgetExceeded):
        await world.ask(principal(budget(1)), at=SUNDAY)
    await world.ask(principal(budget(2.10, period="week")), at=SUNDAY)

    assert world.spent(at=SUNDAY).week == 210 * CENTS


async def test_the_refusal_says_whose_budget_it_is_and_names_nobody_else():
    world = World(TEN_CENTS)
    for subject, words in {
        "key:alice": "Today's budget of $0.05 of this API key does not leave enough for this call, which may cost",
        "user:alice-user": "Today's budget of $0.05 of this API key's user does not leave",
        "project:secret-p": "Today's budget of $0.05 of this API key's project does not leave",
        "service": "Today's budget of the whole service does not leave",
    }.items():
        with pytest.raises(BudgetExceeded) as told:
            await world.ask(principal(budget(0.05, subject), project_id="secret-p"))

        assert told.value.message.startswith(words)
        assert "secret" not in told.value.message


@pytest.mark.parametrize(
    ("period", "words"),
    [
        ("week", "This week's budget of $1.00 of this API key is used up. It begins anew at "),
        ("month", "This month's budget of $1.00 of this API key is used up. It begins anew at "),
        ("total", "The budget of $1.00 of this API key is used up. It does not begin anew."),
    ],
)
async def test_the_refusal_says_which_period_is_meant(period, words):
    world = World(TEN_CENTS)
    world.limiter.load({"key:alice": Spending(0, DOLLAR, DOLLAR, DOLLAR)}, SUNDAY)

    with pytest.raises(BudgetExceeded) as told:
        await world.ask(principal(budget(1, period=period)), at=SUNDAY)

    assert told.value.message.startswith(words)


async def test_each_alert_is_given_once_when_that_much_is_spent():
    world = World(TEN_CENTS)
    caller = principal(budget(1, alerts=(50, 75, 100)))

    for _ in range(10):
        await world.ask(caller)

    assert world.alerts == [
        ("key:alice", "day", 50, 50 * CENTS, DOLLAR),
        ("key:alice", "day", 75, 80 * CENTS, DOLLAR),
        ("key:alice", "day", 100, DOLLAR, DOLLAR),
    ]


async def test_one_call_may_give_several_alerts_and_the_next_period_gives_them_again():
    world = World(rates(request=90 * CENTS))
    caller = principal(budget(1, alerts=(50, 80)))

    await world.ask(caller, at=SUNDAY)
    await world.ask(caller, at=MONDAY)

    assert [percent for _, _, percent, _, _ in world.alerts] == [50, 80, 50, 80]


@pytest.mark.parametrize(
    ("period", "moment", "begins"),
    [
        ("day", "2026-12-31 12:00", "2027-01-01"),
        ("week", "2026-12-31 12:00", "2027-01-04"),
        ("week", "2026-11-23 00:00", "2026-11-30"),
        ("month", "2026-12-31 23:59", "2027-01-01"),
        ("month", "2024-02-29 12:00", "2024-03-01"),
    ],
)
def test_when_the_next_period_begins(period, moment, begins):
    begins_at = next_begins(period, at(moment))
    just_before = int(begins_at.timestamp() * 1_000_000) - 1

    assert begins_at == datetime.fromisoformat(begins).replace(tzinfo=UTC)
    assert periods_at(at(moment)).number(period) == periods_at(just_before).number(period)
    assert periods_at(just_before).number(period) != periods_at(just_before + 1).number(period)
