"""Limits and budgets of calls through the gateway, however they end."""

import asyncio
import json
import random
import re
from contextlib import suppress

import pytest

from ai_proxy.core.exceptions import BudgetExceeded, DatabaseUnavailable, HistoryFull, LargerThanLimit, RateLimited
from ai_proxy.core.types import Limit, Reuse, Spending, Usage
from ai_proxy.core.upstream_errors import UpstreamTimeout
from ai_proxy.dialects.call import parse
from ai_proxy.gateway.discovery import Discovery
from tests.gateway.limits.calls import BODY, CENTS, DOLLAR, World, budget, principal, rates

pytestmark = pytest.mark.anyio

TEN_CENTS = rates(request=10 * CENTS)


async def together(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


def kinds(outcomes) -> dict[str, int]:
    names = [type(outcome).__name__ for outcome in outcomes]
    return {name: names.count(name) for name in set(names)}


def refused(world: World) -> dict[str, float]:
    found = re.findall(r'aiproxy_rate_limited_total\{scope="(\w+)"\} (\S+)', world.metrics.render().decode())
    return {scope: float(number) for scope, number in found}


# Budgets, and many calls at one time.


@pytest.mark.parametrize("delay", [0, 0.001], ids=["at once", "after a while"])
async def test_of_a_thousand_calls_at_one_time_just_those_are_answered_that_the_budget_pays_for(delay):
    for _ in range(20):
        world = World(TEN_CENTS)
        world.provider.delay = delay
        caller = principal(budget(5))

        outcomes = await together(*(world.ask(caller) for _ in range(1000)))

        assert kinds(outcomes) == {"Exchange": 50, "BudgetExceeded": 950}
        assert world.provider.answers == len(world.history.rows) == 50
        assert world.spent().day == world.ledger() == 5 * DOLLAR
        assert world.history.held == 0


@pytest.mark.parametrize("period", ["day", "week", "month", "total"])
async def test_a_project_s_budget_holds_for_all_its_keys_together(period):
    world = World(TEN_CENTS)
    world.provider.delay = 0.001
    shared = budget(5, "project:p", period)
    callers = [principal(shared, name=name, project_id="p") for name in ("alice", "bob", "carol")]

    outcomes = await together(*(world.ask(callers[number % 3]) for number in range(300)))

    assert kinds(outcomes) == {"Exchange": 50, "BudgetExceeded": 250}
    assert getattr(world.spent("project:p"), period) == 5 * DOLLAR


async def test_when_the_worst_is_much_dearer_than_what_comes_calls_wait_for_each_other():
    world = World(rates(input=0, output=100 * CENTS), wait=10)  # a dollar for a million tokens
    world.provider.usage = Usage(10, 100_000)  # 10 cents
    world.provider.delay = 0.001
    caller = principal(budget(5.90))
    body = {**BODY, "max_tokens": 1_000_000}  # it may cost a dollar, so only 5 of them can run at one time

    outcomes = await together(*(world.ask(caller, body=body) for _ in range(1000)))

    assert kinds(outcomes) == {"Exchange": 50, "BudgetExceeded": 950}
    assert world.spent().day == 5 * DOLLAR


async def test_calls_wait_in_the_order_in_which_they_came():
    world = World(TEN_CENTS)
    world.provider.delay = 0.001
    caller = principal(budget(0.35))
    answered = []

    async def ask(number):
        await world.ask(caller)
        answered.append(number)

    world.provider.error = UpstreamTimeout("fake", "fell silent", phase="idle")  # fails, so that it costs nothing
    running = [asyncio.create_task(world.ask(caller)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(ask(number)) for number in range(3)]
    await together(*running)
    world.provider.error = None
    await together(*waiting)

    assert answered == [0, 1, 2]
    assert world.spent().day == 30 * CENTS


async def test_who_has_waited_long_enough_is_told_to_come_again():
    world = World(TEN_CENTS, wait=0.05)
    world.provider.delay = 0.5
    caller = principal(budget(0.10))
    first = asyncio.create_task(world.ask(caller))
    await asyncio.sleep(0.01)

    with pytest.raises(RateLimited) as told:
        await world.ask(caller)

    assert (told.value.retry_after, told.value.should_retry) == (1, True)
    assert refused(world) == {"budget": 1}
    await first
    assert len(world.history.rows) == 1


async def test_without_a_time_to_wait_nobody_waits():
    world = World(TEN_CENTS, wait=0)
    world.provider.delay = 0.05

    outcomes = await together(*(world.ask(principal(budget(0.10))) for _ in range(3)))

    assert kinds(outcomes) == {"Exchange": 1, "RateLimited": 2}


async def test_one_who_waits_and_leaves_stands_in_nobody_s_way():
    world = World(TEN_CENTS)
    world.provider.delay = 0.05
    caller = principal(budget(0.20))
    running = asyncio.create_task(world.ask(caller))
    await asyncio.sleep(0.01)
    dear = asyncio.create_task(world.ask(principal(budget(0.20), budget(0.10, "user:alice-user"))))
    await asyncio.sleep(0.01)
    cheap = asyncio.create_task(world.ask(caller))
    await asyncio.sleep(0.01)

    dear.cancel()

    assert kinds(await together(running, dear, cheap)) == {"Exchange": 2, "CancelledError": 1}
    assert world.spent().day == 20 * CENTS


@pytest.mark.parametrize("seed", range(10))
async def test_however_calls_end_no_money_stays_reserved_and_no_budget_is_exceeded(seed):
    chance = random.Random(seed)
    world = World(rates(output=100 * CENTS, request=CENTS), wait=0.02)
    world.provider.usage = Usage(1, 100_000)
    shared = budget(2, "service", "month")
    callers = [
        principal(budget(1, f"key:{name}"), shared, name=name, limits=[Limit(subject=f"key:{name}", concurrent=40)])
        for name in ("alice", "bob", "carol")
    ]

    async def one(number):
        world.provider.delay = chance.choice([0, 0.001, 0.01, 0.05])
        world.provider.error = chance.choice([None, None, UpstreamTimeout("fake", "fell silent", phase="idle")])
        caller, body = chance.choice(callers), {**BODY, "max_tokens": chance.choice([100_000, 300_000, 900_000])}
        way = world.stream(caller, body=body) if number % 3 == 0 else world.ask(caller, body=body)
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.choice([0.001, 0.01, 0.03, 9])):
                await way

    for _ in range(4):
        await together(*(one(number) for number in range(60)))

    assert world.history.held == world.provider.running == 0
    assert world.spent("service").month == world.ledger() <= 2 * DOLLAR
    for caller in callers:
        assert world.spent(f"key:{caller.key_id}").day <= DOLLAR
    pots = [pot for pots in world.limiter._budgets._accounts.values() for pot in pots.values()]
    assert {(pot.reserved, len(pot.waiting)) for pot in pots} == {(0, 0)}
    assert {subject.running for subject in world.limiter._counters._subjects.values()} == {0}


# What a call costs, and what is reserved for it.


@pytest.mark.parametrize("way", ["whole", "stream", "left", "failed"])
async def test_what_is_reserved_is_released_when_the_call_is_over(way):
    world = World(rates(output=100 * CENTS))
    world.provider.usage = Usage(10, 1000)
    caller = principal(budget(1))
    body = {**BODY, "max_tokens": 900_000}
    world.provider.error = UpstreamTimeout("fake", "fell silent", phase="idle") if way == "failed" else None

    if way == "stream":
        await world.stream(caller)
    elif way == "left":
        await world.stream(caller, leave=True)
    else:
        await together(world.ask(caller, body=body))
    world.provider.error = None
    again = await world.ask(caller, body=body)

    assert again.status == "completed"
    assert world.spent().day == world.ledger()


async def test_a_cancelled_call_releases_what_it_held():
    world = World(TEN_CENTS)
    world.provider.delay = 5
    caller = principal(budget(0.10), limits=[Limit(subject="key:alice", concurrent=1)])
    running = asyncio.create_task(world.ask(caller))
    await asyncio.sleep(0.01)
    running.cancel()
    await together(running)
    world.provider.delay = 0

    await world.ask(caller)

    assert [row.status for row in world.history.rows] == ["cancelled", "completed"]


async def test_an_answer_from_memory_costs_nothing():
    world = World(TEN_CENTS, cache={"ttl": 60})
    caller = principal(budget(0.20))

    first = await world.ask(caller, reuse=Reuse())
    again = [await world.ask(caller, reuse=Reuse()) for _ in range(5)]

    assert (first.cached, {exchange.cached for exchange in again}) == (False, {True})
    assert world.spent().day == world.ledger() == 10 * CENTS


async def test_one_answer_for_many_is_paid_once():
    world = World(TEN_CENTS, cache={"coalesce": True})
    world.provider.delay = 0.01
    caller = principal(budget(5))

    outcomes = await together(*(world.ask(caller, reuse=Reuse()) for _ in range(10)))

    assert kinds(outcomes) == {"Exchange": 10}
    assert world.spent().day == world.ledger() == 10 * CENTS


async def test_a_hedged_call_may_cost_twice():
    world = World(TEN_CENTS, hedge=True)

    with pytest.raises(BudgetExceeded, match=r"may cost up to \$0\.20"):
        await world.ask(principal(budget(0.15)))


async def test_a_call_without_a_limit_of_tokens_gets_one_where_it_is_under_a_budget():
    world = World(TEN_CENTS, max_output_tokens=777)

    await world.ask(principal(budget(5)))
    await world.ask(principal())

    assert [call.body.get("max_completion_tokens") for call in world.provider.calls] == [777, None]
    assert b'"max_completion_tokens":777' in world.provider.calls[0].payload("tiny")


async def test_what_costs_nothing_runs_on_when_the_budget_is_used_up():
    world = World(rates(source="free"))
    world.limiter.load({"key:alice": _spent(6 * DOLLAR)}, at=world.exchange(principal()).created_at)

    exchange = await world.ask(principal(budget(5)))

    assert exchange.cost == 0


async def test_to_count_tokens_needs_no_budget():
    world = World(TEN_CENTS)
    exchange = world.exchange(principal(budget(0.01)), dialect="count_tokens")

    await world.gateway.complete(exchange, parse("count_tokens", json.dumps(BODY).encode()))

    assert (exchange.cost, exchange.status) == (0, "completed")


async def test_settings_that_are_read_while_calls_wait_are_for_those_that_come_later():
    world, dearer = World(TEN_CENTS), World(rates(request=DOLLAR))
    world.provider.delay = 0.02
    world.provider.error = UpstreamTimeout("fake", "fell silent", phase="idle")  # costs nothing: the next ones can go
    caller = principal(budget(0.20))
    running = [asyncio.create_task(world.ask(caller)) for _ in range(2)]
    await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(way(caller)) for way in (world.ask, world.stream)]
    await asyncio.sleep(0)

    world.gateway.use(dearer.router, Discovery({}, {}))
    await together(*running)
    world.provider.error = None
    await together(*waiting)

    assert (world.provider.answers, dearer.provider.answers) == (2, 0)
    assert world.spent().day == world.ledger() == 20 * CENTS


@pytest.mark.parametrize(("models", "expected"), [(["cheap"], "completed"), (["cheap", "dear"], "failed")])
async def test_a_key_for_some_models_names_no_others_to_fall_back_on(models, expected):
    world = World(TEN_CENTS)
    caller = principal(models=("small", "fake/cheap"))

    await together(world.ask(caller, body={**BODY, "models": models}))

    assert [row.status for row in world.history.rows] == [expected]


async def test_what_nobody_knows_the_price_of_runs_until_the_budget_is_used_up():
    world = World(None)
    caller = principal(budget(5))

    exchange = await world.ask(caller)
    world.limiter.load({"key:alice": _spent(5 * DOLLAR)}, at=exchange.created_at)

    assert exchange.cost is None
    with pytest.raises(BudgetExceeded, match="used up"):
        await world.ask(caller)


def _spent(amount):
    return Spending(amount, amount, amount, amount)


# Requests, tokens and calls at one time.


async def test_what_a_limit_refuses_is_counted_and_not_recorded():
    world = World(TEN_CENTS)
    caller = principal(limits=[Limit(subject="key:alice", requests_per_minute=2)])

    outcomes = await together(*(world.ask(caller) for _ in range(5)))

    assert kinds(outcomes) == {"Exchange": 2, "RateLimited": 3}
    assert 60 <= outcomes[-1].retry_after <= 61
    assert outcomes[-1].headers["x-ratelimit-remaining-requests"] == "0"
    assert len(world.history.rows) == 2
    assert (world.history.held, refused(world)) == (0, {"requests": 3})


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"requests_per_minute": 1}, "The limit of this API key is 1 request a minute: try again in 6"),
        ({"tokens_per_minute": 1}, "The limit of this API key is 1 token a minute: try again in 6"),
        ({"requests_per_minute": 2}, "The limit of this API key is 2 requests a minute: try again in 6"),
    ],
)
async def test_a_refusal_reads_well(limit, words):
    world = World(TEN_CENTS)
    caller = principal(limits=[Limit(subject="key:alice", **limit)])

    outcomes = await together(*(world.ask(caller) for _ in range(3)))

    assert outcomes[-1].message.startswith(words)


async def test_no_more_calls_run_at_one_time_than_the_limit_says():
    world = World(TEN_CENTS)
    world.provider.delay = 0.01
    caller = principal(limits=[Limit(subject="key:alice", concurrent=3)])

    at_once = await together(*(world.ask(caller) for _ in range(10)))
    later = await together(*(world.stream(caller) for _ in range(10)))

    assert kinds(at_once) == kinds(later) == {"Exchange": 3, "RateLimited": 7}
    assert refused(world) == {"concurrent": 14}


async def test_tokens_that_were_really_used_count():
    world = World(TEN_CENTS)
    caller = principal(limits=[Limit(subject="key:alice", tokens_per_minute=1000)])
    world.provider.usage = Usage(600, 500)

    first = await world.ask(caller, body={**BODY, "max_tokens": 400})

    assert int(first.limits_told["x-ratelimit-remaining-tokens"]) in range(590, 600)
    with pytest.raises(RateLimited, match="1000 tokens a minute"):
        await world.ask(caller)


async def test_a_call_larger_than_the_limit_is_told_that_it_will_never_fit():
    world = World(TEN_CENTS)
    caller = principal(limits=[Limit(subject="key:alice", tokens_per_minute=1000)])

    with pytest.raises(LargerThanLimit, match="asks for 20") as told:
        await world.ask(caller, body={**BODY, "max_tokens": 2000})

    assert (told.value.retry_after, told.value.should_retry) == (None, False)


async def test_a_call_for_which_the_history_has_no_room_gives_its_place_back():
    world = World(TEN_CENTS)
    caller = principal(limits=[Limit(subject="key:alice", concurrent=1)])
    world.history.full = HistoryFull("no place")

    outcomes = await together(world.ask(caller), world.ask(caller))
    world.history.full = None
    await world.ask(caller)

    assert kinds(outcomes) == {"HistoryFull": 2}


async def test_a_caller_that_is_nobody_has_no_limits():
    world = World(TEN_CENTS)
    exchange = world.exchange(principal(budget(0)))
    exchange.principal = None

    await world.gateway.complete(exchange, parse("chat", b'{"messages": [{"role": "user", "content": "ping"}]}'))

    assert exchange.limits_told == {}


# Before the ledger was read


async def test_as_long_as_nobody_knows_what_was_spent_no_call_under_a_budget_begins():
    world = World(TEN_CENTS)
    world.limiter.expect()

    with pytest.raises(DatabaseUnavailable, match="budgets"):
        await world.ask(principal(budget(5)))
    free = await world.ask(principal())
    world.limiter.load({"key:alice": _spent(490 * CENTS)}, at=free.created_at)

    await world.ask(principal(budget(5.10)))  # all of it is spent now, together with what was spent meanwhile
    with pytest.raises(BudgetExceeded):
        await world.ask(principal(budget(5.10)))
    assert len(world.provider.calls) == 2
