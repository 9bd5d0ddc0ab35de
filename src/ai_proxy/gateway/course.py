"""Which target a call asks next, and when it is time to give up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import NoReturn

import msgspec

from ai_proxy.core.exceptions import GatewayError, ModelNotFound, PoolFull
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import (
    BadUpstreamResponse,
    ContentFiltered,
    ContextLengthExceeded,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from ai_proxy.dialects.chat import Completion
from ai_proxy.gateway.health import Health
from ai_proxy.gateway.targets import Route, Target

_LEAST = 0.05  # seconds; in less no try can succeed
_LONGEST_WAIT = 30.0  # for a target; who would have to wait longer is told so
_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 8.0
_NOT_FOUND = 404
_NOT_THERE = frozenset({_NOT_FOUND, 405, 410, 451})  # about this provider and place, not about the request
_WILL_PASS = frozenset({429, 502, 503, 504})
_REFUSALS = frozenset({500, 502})  # a 504 is none: something behind the provider's door may still be at work


class NotOffered(UpstreamRejected):
    """A target cannot take the call. Nobody was asked: it is no try, and tells nothing of the target's health.

    What cannot be translated are formats of OpenAI's, so it takes a provider that speaks those.
    """

    def __init__(self, provider: str, dialect: str) -> None:
        message = f"does not offer {dialect}: name a model of a provider with OpenAI's formats that does"
        super().__init__(provider, message, upstream_status=_NOT_FOUND)


class Own(Completion, frozen=True):
    """An answer that the gateway gives itself in a target's place. Nobody was asked for it either."""


class Runtime(msgspec.Struct, frozen=True):
    """Time and chance, which tests want to be their own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Random = msgspec.field(default_factory=Random)


class Course:
    """Of one call. Every other target comes before a second try of the same one.

    A target that is out of order is passed over. If all are, the one that is due soonest is asked all the same, once:
    a breaker on the only provider must not make a total outage of one failed call in two. Only a provider's own
    Retry-After is kept to the letter.
    """

    __slots__ = (
        "_again",
        "_end",
        "_errors",
        "_left",
        "_not_offered",
        "_route",
        "_runtime",
        "_tries",
        "_untried",
        "hedges",
        "last",
        "stream",
    )

    def __init__(self, route: Route, runtime: Runtime, *, stream: bool) -> None:
        self.stream = stream
        self.hedges = route.hedge
        self._runtime = runtime
        self._route = route
        now = runtime.clock()
        self._end = now + route.total_timeout
        self._left = route.max_attempts
        self._untried = list(route.order(runtime.random, now, stream=stream))
        self._again: list[tuple[Target, float]] = []  # those that may be asked once more, and from when
        self._tries: dict[Health, int] = {}
        self._errors: list[GatewayError] = []
        self._not_offered: NotOffered | None = None
        self.last: tuple[Target, GatewayError] | None = None  # what went wrong last, and where

    def next(self) -> tuple[Target, float]:
        """The target to ask, and how many seconds to wait before. Raises what the client is told when there is none."""
        now = self._runtime.clock()
        target = self.spare()
        if target is not None:
            return target, 0.0
        if not self._may_go_on(now):
            self._give_up(now)
        options = [option for option in self._later(now) if option[0] <= self._longest_wait(now)]
        if not options:
            self._give_up(now)
        wait, _, target = min(options, key=lambda option: option[:2])
        self._untried = [other for other in self._untried if other is not target]
        self._again = [(other, when) for other, when in self._again if other is not target]
        return self._counted(target), wait

    def spare(self) -> Target | None:
        """A target that was not asked yet and is in order."""
        now = self._runtime.clock()
        if self._may_go_on(now):
            for place, target in enumerate(self._untried):
                if target.health.ready(now):
                    del self._untried[place]
                    return self._counted(target)
        return None

    def limits(self, target: Target) -> Bounds:
        """Those of the target, cut to the time that is left."""
        limits = target.limits
        left = max(self._end - self._runtime.clock(), _LEAST)
        if limits.total <= left + _LEAST:  # a first try's always fit
            return limits
        return Bounds(
            connect=min(limits.connect, left),
            first_byte=min(limits.first_byte, left),
            idle=min(limits.idle, left),
            total=left,
            max_bytes=limits.max_bytes,
        )

    def failed(self, target: Target, error: GatewayError) -> None:
        """Take note. Raises `error` when it is an answer to what the caller sent, which no other target will change."""
        self._errors.append(error)
        self.last = (target, error)
        if isinstance(error, ContextLengthExceeded):
            self._divert(self._route.on_context_length, error)
        elif isinstance(error, ContentFiltered):
            self._divert(self._route.on_content_filter, error)
        elif isinstance(error, UpstreamRejected) and error.upstream_status not in _NOT_THERE:
            raise error
        elif isinstance(error, PoolFull):
            self._leave(target.provider.name)
        elif _did_nothing(error) and self._tries[target.health] <= self._route.retries:
            pause = self._backoff(self._tries[target.health])
            self._again.append((target, target.health.told_until(self._runtime.clock()) + pause))

    def skipped(self, target: Target, error: NotOffered) -> None:
        """Nobody was asked: it does not count."""
        self._not_offered = error
        self.last = None
        self._left += 1
        self._tries[target.health] -= 1
        if not self._tries[target.health]:
            del self._tries[target.health]

    def _leave(self, provider: str) -> None:
        """All keys of a provider share its connections: each would wait for one as long and as vainly."""
        self._untried = [target for target in self._untried if target.provider.name != provider]
        self._again = [(target, when) for target, when in self._again if target.provider.name != provider]

    def _may_go_on(self, now: float) -> bool:
        return self._left > 0 and (now <= self._end - _LEAST or not self._tries)

    def _counted(self, target: Target) -> Target:
        self._tries[target.health] = self._tries.get(target.health, 0) + 1
        self._left -= 1
        return target

    def _later(self, now: float) -> list[tuple[float, float, Target]]:
        """What may be asked beside the untried in order: the wait, when it is due, and the target.

        An open breaker forbids second tries: calls of many clients do not add up to a storm on a provider that is down.
        """
        options = [
            (max(when - now, 0.0), when, target) for target, when in self._again if target.health.state(now) != "open"
        ]
        if not self._tries:
            for target in self._untried:
                wait = target.health.told_until(now) - now
                options.append((wait + self._backoff(1) if wait else 0.0, target.health.due(), target))
        return options

    def _longest_wait(self, now: float) -> float:
        return max(min(_LONGEST_WAIT, self._end - _LEAST - now), 0.0)

    def _backoff(self, tries: int) -> float:
        """Seconds, by lot, so that callers who failed together do not come back together."""
        return self._runtime.random.uniform(0, min(_FIRST_BACKOFF * 2 ** (tries - 1), _LONGEST_BACKOFF))

    def _divert(self, model: str | None, error: GatewayError) -> None:
        """Go on with the targets of another model, as far as this call has not asked them. Raises `error` if none are.

        The number of tries and the time stay those of the model that was asked for.
        """
        if model is None:
            raise error
        try:
            route = self._route.lookup(model)
        except ModelNotFound:
            raise error from None
        ordered = route.order(self._runtime.random, self._runtime.clock(), stream=self.stream)
        self._untried = [target for target in ordered if target.health not in self._tries]
        if not self._untried:
            raise error
        self._route = route
        self._again = []

    def _give_up(self, now: float) -> NoReturn:
        """With the last error that will pass, or the last one. The client is told the shortest of all waits."""
        if not self._errors and self._not_offered is not None and not self._untried:
            raise self._not_offered
        if not self._errors:
            target = min(self._untried, key=lambda target: target.health.due())
            raise target.health.refusal(target.provider.name, now)
        passing = [error for error in self._errors if error.status in _WILL_PASS and error.should_retry is not False]
        waits = [error.wait for error in self._errors if isinstance(error, UpstreamError) and error.wait is not None]
        error = (passing or self._errors)[-1]
        if waits:
            error.retry_after = min(waits)
        raise error


def _did_nothing(error: GatewayError) -> bool:
    """Whether the provider surely did nothing with the request, so that asking it again cannot do harm."""
    match error:
        case UpstreamRateLimited() | UpstreamOverloaded():
            return True
        case UpstreamUnreachable():
            return not error.connected and error.code != "upstream_tls"  # a certificate stays wrong
        case UpstreamTimeout():
            return error.code == "upstream_timeout_connect"
        case BadUpstreamResponse():
            return error.upstream_status in _REFUSALS
        case _:
            return False
