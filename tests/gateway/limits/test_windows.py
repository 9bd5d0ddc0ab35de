"""Limits in any sixty seconds: against an oracle that reckons each decision anew from the full log of all calls."""

import random
from dataclasses import dataclass, field

import pytest

from ai_proxy.core.types import Limit
from ai_proxy.gateway.limits.counters import Claim, MemoryCounters

pytestmark = pytest.mark.anyio


@dataclass
class Entry:
    """One call that was let through, as it counts for one subject."""

    at: float
    tokens: int
    running: bool = True


@dataclass
class Oracle:
    """Knows the limits' definition and nothing else: what was taken counts until 60 s after the end of its second."""

    log: dict[str, list[Entry]] = field(default_factory=dict)

    def in_force(self, subject: str, now: float) -> list[Entry]:
        return [entry for entry in self.log.get(subject, []) if int(entry.at) + 61 > int(now)]

    def forget(self, now: float) -> None:
        """Only what can count no more, so that 100,000 decisions come to an end."""
        for subject, entries in self.log.items():
            self.log[subject] = [entry for entry in entries if entry.running or now - entry.at < 200]

    def wait(self, subject: str, limit: Limit, tokens: int, now: float) -> float | None:
        """How long until this one fits under this one limit. None: never."""
        entries = self.in_force(subject, now)
        waits = [
            _wait([(entry.at, 1) for entry in entries], 1, limit.requests_per_minute, now),
            _wait([(entry.at, entry.tokens) for entry in entries], tokens, limit.tokens_per_minute, now),
        ]
        if limit.concurrent is not None and sum(entry.running for entry in self.log.get(subject, [])) >= (
            limit.concurrent
        ):
            waits.append(1.0 if limit.concurrent else None)
        return None if None in waits else max(waits)

    def left(self, subject: str, limit: Limit, now: float) -> dict:
        entries = self.in_force(subject, now)
        told = {}
        if limit.requests_per_minute is not None:
            ends = [int(entry.at) + 61 - now for entry in entries]
            told["requests"] = (limit.requests_per_minute - len(entries), max(ends, default=0.0))
        if limit.tokens_per_minute is not None:
            ends = [int(entry.at) + 61 - now for entry in entries if entry.tokens]
            total = sum(entry.tokens for entry in entries)
            told["tokens"] = (max(limit.tokens_per_minute - total, 0), max(ends, default=0.0))
        return told


def _wait(amounts: list[tuple[float, int]], amount: int, most: int | None, now: float) -> float | None:
    if most is None or sum(its for _, its in amounts) + amount <= most:
        return 0.0
    if amount > most:
        return None
    return min(
        end - now
        for end in {int(at) + 61 for at, _ in amounts}
        if sum(its for at, its in amounts if int(at) + 61 > end) + amount <= most
    )


def told(claim: Claim) -> dict:
    found = {}
    if claim.limit.requests_per_minute is not None:
        found["requests"] = (claim.requests_left, claim.requests_reset)
    if claim.limit.tokens_per_minute is not None:
        found["tokens"] = (claim.tokens_left, claim.tokens_reset)
    return found


def some_limit(chance: random.Random, subject: str) -> Limit:
    return Limit(
        subject=subject,
        requests_per_minute=chance.choice([None, 1, 2, 5, 20, 60]),
        tokens_per_minute=chance.choice([None, 10, 100, 1000]),
        concurrent=chance.choice([None, 1, 3, 10]),
    )


class Trial:
    """Random calls of random subjects at random times, each decision of which is compared with the oracle's."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.counters, self.oracle = MemoryCounters(), Oracle()
        self.now = self.chance.choice([0.0, 12_345.678, 1e9])
        names = ("key:1", "key:2", "user:1", "project:1", "service")
        self.limits = {name: some_limit(self.chance, name) for name in names}
        self.running: list[tuple[list[Claim], list[Entry]]] = []
        self.outcomes = {True: 0, False: 0}

    def time_passes(self, step: int) -> None:
        chance = self.chance
        self.now += chance.choice([0, 0, 0.001, 0.3, 1, chance.expovariate(1), chance.expovariate(0.1)])
        if step % 1000 == 500:
            self.now += chance.choice([59.9, 60, 61, 500])
            self.oracle.forget(self.now)

    async def settle(self) -> None:
        claims, entries = self.running.pop(self.chance.randrange(len(self.running)))
        used = self.chance.choice([0, claims[0].tokens, self.chance.randrange(300)])
        for claim, entry in zip(claims, entries, strict=True):
            claim.used = entry.tokens = used
            entry.running = False
        await self.counters.settle(claims, self.now)

    async def take(self) -> None:
        names = self.chance.sample(sorted(self.limits), self.chance.randrange(1, 4))
        tokens = self.chance.choice([0, 1, 7, 60, 150, 1001])
        claims = [Claim(limit=self.limits[name], tokens=tokens) for name in names]
        waits = [self.oracle.wait(name, self.limits[name], tokens, self.now) for name in names]

        refusal = await self.counters.take(claims, self.now)

        if refusal is None:
            assert set(waits) == {0}
            entries = [Entry(self.now, tokens) for _ in names]
            for name, entry in zip(names, entries, strict=True):
                self.oracle.log.setdefault(name, []).append(entry)
            self.running.append((claims, entries))
        else:
            longest = None if None in waits else pytest.approx(max(waits))
            assert refusal.retry_after == longest != 0
        for claim in claims:
            expected = self.oracle.left(claim.limit.subject, claim.limit, self.now)
            assert told(claim) == {kind: (left, pytest.approx(reset)) for kind, (left, reset) in expected.items()}
        self.outcomes[refusal is None] += 1


@pytest.mark.parametrize("seed", range(20))
async def test_a_hundred_thousand_decisions_are_those_of_the_oracle(seed):
    trial = Trial(seed)

    for step in range(10_000):
        trial.time_passes(step)
        if trial.running and trial.chance.random() < 0.45:
            await trial.settle()
        else:
            await trial.take()

    assert min(trial.outcomes.values()) > 500
    assert sum(trial.outcomes.values()) > 5000


async def test_in_no_sixty_seconds_are_there_more_calls_than_the_limit_and_all_places_are_used():
    chance = random.Random(7)
    counters, limit = MemoryCounters(), Limit(subject="key:1", requests_per_minute=10)
    now, taken = 5000.0, []

    for _ in range(20_000):
        now += chance.expovariate(2)
        if await counters.take([Claim(limit=limit, tokens=0)], now) is None:
            taken.append(now)

    windows = [sum(begin <= at <= begin + 60 for at in taken[place : place + 20]) for place, begin in enumerate(taken)]
    assert max(windows) == 10
    assert len(taken) > (now - 5000) / 61 * 10 * 0.9


async def test_who_waits_as_long_as_told_is_let_through_and_no_sooner():
    counters = MemoryCounters()
    limit = Limit(subject="key:1", tokens_per_minute=100)
    for at in (100.2, 110.9, 130.0):
        await counters.take([Claim(limit=limit, tokens=30)], at)

    refusal = await counters.take([Claim(limit=limit, tokens=60)], 140.0)
    sooner = await counters.take([Claim(limit=limit, tokens=60)], 140.0 + refusal.retry_after - 0.001)
    then = await counters.take([Claim(limit=limit, tokens=60)], 140.0 + refusal.retry_after)

    assert refusal.retry_after == pytest.approx(171 - 140)
    assert (sooner is None, then) == (False, None)


async def test_a_call_that_one_subject_refuses_takes_nothing_of_the_others():
    counters = MemoryCounters()
    key, service = Limit(subject="key:1", requests_per_minute=5), Limit(subject="service", requests_per_minute=1)
    await counters.take([Claim(limit=service, tokens=0)], 100.0)
    claims = [Claim(limit=key, tokens=0), Claim(limit=service, tokens=0)]

    refusals = [await counters.take(claims, 100.0) for _ in range(10)]

    assert {refusal.limit.subject for refusal in refusals} == {"service"}
    assert claims[0].requests_left == 5


async def test_tokens_beyond_the_limit_make_the_next_calls_wait():
    counters, limit = MemoryCounters(), Limit(subject="key:1", tokens_per_minute=100)
    claim = Claim(limit=limit, tokens=10)
    await counters.take([claim], 100.0)
    claim.used = 500
    await counters.settle([claim], 105.0)

    later = Claim(limit=limit, tokens=1)
    refusal = await counters.take([later], 110.0)

    assert (refusal.scope, refusal.retry_after, later.tokens_left) == ("tokens", 51.0, 0)


async def test_a_correction_that_comes_when_its_second_is_over_changes_nothing():
    counters, limit = MemoryCounters(), Limit(subject="key:1", tokens_per_minute=100)
    claim = Claim(limit=limit, tokens=10)
    await counters.take([claim], 100.0)
    claim.used = 500

    await counters.settle([claim], 161.0)
    later = Claim(limit=limit, tokens=100)

    assert await counters.take([later], 161.0) is None


async def test_a_clock_that_goes_back_lets_nobody_through_twice():
    counters, limit = MemoryCounters(), Limit(subject="key:1", requests_per_minute=1)

    first = await counters.take([Claim(limit=limit, tokens=0)], 1000.0)
    second = await counters.take([Claim(limit=limit, tokens=0)], 900.0)

    assert first is None
    assert second is not None


@pytest.mark.parametrize(
    ("limit", "scope"),
    [
        (Limit(subject="key:1", requests_per_minute=0), "requests"),
        (Limit(subject="key:1", tokens_per_minute=5), "tokens"),
        (Limit(subject="key:1", concurrent=0), "concurrent"),
    ],
)
async def test_what_is_more_than_the_limit_can_never_fit(limit, scope):
    refusal = await MemoryCounters().take([Claim(limit=limit, tokens=6)], 0.0)

    assert (refusal.scope, refusal.retry_after) == (scope, None)


async def test_who_does_nothing_any_more_is_forgotten_but_not_who_has_a_call_that_runs():
    counters = MemoryCounters()
    busy = Claim(limit=Limit(subject="key:busy", concurrent=1), tokens=0)
    await counters.take([busy], 0.0)
    for number in range(5000):
        claim = Claim(limit=Limit(subject=f"key:{number}", requests_per_minute=1), tokens=0)
        await counters.take([claim], float(number))
        await counters.settle([claim], float(number))

    refusal = await counters.take([busy], 5000.0)

    assert refusal.scope == "concurrent"
    assert len(counters._subjects) <= 1100
