"""Where it is counted what subjects do: in memory here, for one process."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from ai_proxy.core.types import Limit
from ai_proxy.gateway.limits.window import SLOTS, Window

Scope = Literal["requests", "tokens", "concurrent"]


class Claim(msgspec.Struct, kw_only=True):
    """What a call takes of one subject's limits: one request, `tokens`, and a place among those that run.

    The store notes the `second` in which it was taken, and what is left then: `requests_left`, and after how many
    seconds all are free again, `requests_reset`; the same of tokens. Who settles says what was `used`.
    """

    limit: Limit
    tokens: int
    used: int = 0
    second: int = 0
    requests_left: int = 0
    requests_reset: float = 0.0
    tokens_left: int = 0
    tokens_reset: float = 0.0


class Refusal(msgspec.Struct, frozen=True):
    """Which limit stood in the way, and for how many seconds. None: for ever, since more was asked than it is."""

    scope: Scope
    limit: Limit
    retry_after: float | None


class Counters(Protocol):
    """A store that several processes share can stand in its place: each operation is one script there.

    `now` is the reading of a clock, in seconds. `settle` must not be broken off halfway by a cancellation.
    """

    async def take(self, claims: Sequence[Claim], now: float) -> Refusal | None:
        """All claims of one call or, if any does not fit, none: then the refusal that lasts longest is returned.

        Either way the claims are told what is left.
        """
        ...

    async def settle(self, claims: Sequence[Claim], now: float) -> None:
        """The call is over: give back its places, and count the tokens that it `used` instead of those it took."""
        ...


class _Subject:
    """What one subject does."""

    __slots__ = ("_second", "requests", "running", "tokens")

    def __init__(self) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.running = 0
        self._second = 0

    def advance(self, now: float) -> int:
        """To the second that it is, which is returned. A clock that goes back stands still here."""
        second = int(now)
        if second > self._second:
            self._second = second
            self.requests.advance(second)
            self.tokens.advance(second)
        return self._second

    def fits(self, claim: Claim) -> bool:
        limit = claim.limit
        requests, tokens, concurrent = limit.requests_per_minute, limit.tokens_per_minute, limit.concurrent
        return (
            (requests is None or self.requests.total < requests)
            and (tokens is None or self.tokens.total + claim.tokens <= tokens)
            and (concurrent is None or self.running < concurrent)
        )

    def take(self, claim: Claim, now: float) -> None:
        """And tell what is left. What is taken now is what comes free last."""
        self.requests.take(1)
        self.tokens.take(claim.tokens)
        self.running += 1
        limit = claim.limit
        reset = claim.second + SLOTS - now
        if limit.requests_per_minute is not None:
            claim.requests_left = limit.requests_per_minute - self.requests.total
            claim.requests_reset = reset
        if limit.tokens_per_minute is not None:
            claim.tokens_left = limit.tokens_per_minute - self.tokens.total
            claim.tokens_reset = reset if claim.tokens else self.tokens.reset(now)

    def tell(self, claim: Claim, now: float) -> None:
        """What is left of what others have taken."""
        limit = claim.limit
        most = limit.requests_per_minute
        if most is not None:
            claim.requests_left = max(most - self.requests.total, 0)
            claim.requests_reset = self.requests.reset(now)
        most = limit.tokens_per_minute
        if most is not None:
            claim.tokens_left = max(most - self.tokens.total, 0)
            claim.tokens_reset = self.tokens.reset(now)

    def refusal(self, claim: Claim, now: float) -> Refusal | None:
        limit = claim.limit
        refusals = (
            _full("requests", limit, self.requests, 1, limit.requests_per_minute, now),
            _full("tokens", limit, self.tokens, claim.tokens, limit.tokens_per_minute, now),
            None if limit.concurrent is None or self.running < limit.concurrent else _busy(limit),
        )
        return max(filter(None, refusals), key=_length, default=None)

    @property
    def is_idle(self) -> bool:
        return not (self.running or self.requests.total or self.tokens.total)


class MemoryCounters:
    """Nothing is awaited in it, so that each operation is one step. Those who do nothing any more are forgotten."""

    def __init__(self) -> None:
        self._subjects: dict[str, _Subject] = {}
        self._room = _LEAST_ROOM

    async def take(self, claims: Sequence[Claim], now: float) -> Refusal | None:
        if len(self._subjects) >= self._room:
            self._forget_idle(now)
        taken: list[tuple[_Subject, Claim]] = []
        fit = True
        for claim in claims:
            subject = self._subjects.get(claim.limit.subject) or self._new(claim.limit.subject)
            claim.second = subject.advance(now)
            fit = fit and subject.fits(claim)
            taken.append((subject, claim))
        for subject, claim in taken:
            if fit:
                subject.take(claim, now)
            else:
                subject.tell(claim, now)
        return None if fit else _longest(taken, now)

    async def settle(self, claims: Sequence[Claim], now: float) -> None:
        for claim in claims:
            subject = self._subjects[claim.limit.subject]  # it has a call that runs
            subject.running -= 1
            if claim.used != claim.tokens:
                subject.advance(now)
                subject.tokens.correct(claim.second, claim.used - claim.tokens)

    def _new(self, name: str) -> _Subject:
        subject = self._subjects[name] = _Subject()
        return subject

    def _forget_idle(self, now: float) -> None:
        for subject in self._subjects.values():
            subject.advance(now)
        self._subjects = {name: subject for name, subject in self._subjects.items() if not subject.is_idle}
        self._room = max(2 * len(self._subjects), _LEAST_ROOM)


_LEAST_ROOM = 1024
_PLACE = 1.0  # seconds after which a place may be free: nobody knows how long calls run


def _longest(taken: Sequence[tuple[_Subject, Claim]], now: float) -> Refusal | None:
    refusals = (subject.refusal(claim, now) for subject, claim in taken)
    return max(filter(None, refusals), key=_length, default=None)


def _length(refusal: Refusal) -> float:
    return float("inf") if refusal.retry_after is None else refusal.retry_after


def _full(scope: Scope, limit: Limit, window: Window, amount: int, most: int | None, now: float) -> Refusal | None:
    if most is None or window.total + amount <= most:
        return None
    return Refusal(scope, limit, None if amount > most else window.wait(amount, most, now))


def _busy(limit: Limit) -> Refusal:
    return Refusal("concurrent", limit, _PLACE if limit.concurrent else None)
