"""The tries of a call: asking target after target until one answers."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import structlog

from ai_proxy.core.exceptions import BadRequest, GatewayError, PoolFull
from ai_proxy.core.types import Attempt, Bounds
from ai_proxy.core.upstream_errors import StreamTruncated, UpstreamError, UpstreamTimeout
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway.course import Course, NotOffered, Own, Runtime
from ai_proxy.gateway.health import Try
from ai_proxy.gateway.hedging import hedged
from ai_proxy.gateway.targets import Route, Target

log = structlog.get_logger()

Ask = Callable[[Target, Bounds], Awaitable[Completion]]
Open = Callable[[Target, Bounds], AsyncGenerator[Chunk, None]]

Clock = Callable[[], float]

T = TypeVar("T")

# What does not end a call. A request that cannot be put into one provider's format may fit into the next one's.
_ANOTHER_MAY_DO_BETTER = (UpstreamError, PoolFull, BadRequest)


class Opened(NamedTuple):
    """A stream that has come to its first content, and what was held back until then."""

    chunks: AsyncGenerator[Chunk, None]
    held: list[Chunk]


class Answered(NamedTuple, Generic[T]):
    """A target's answer, or its beginning."""

    target: Target
    this: Try
    answer: T


class Attempts:
    """Each try that is over is added to the list that comes with the call. One is a try if somebody was asked."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or Runtime()

    async def complete(self, route: Route, ask: Ask, attempts: list[Attempt]) -> tuple[Target, Completion]:
        """The answer, and who gave it. Raises `GatewayError`."""
        tries = _Tries(self._runtime, Course(route, self._runtime, stream=False), ask, attempts)
        answered = await tries.run()
        if not isinstance(answered.answer, Own):
            tries.note(answered.target, answered.this, "completed")
        return answered.target, answered.answer

    async def stream(
        self, route: Route, open_stream: Open, attempts: list[Attempt], answered_by: Callable[[Target], None]
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of the target that comes to content, which `answered_by` is told of before the first one.

        Nothing is given out before there is content, and no other target is asked after that. Raises `GatewayError`.
        Must be closed when it is left early.
        """
        course = Course(route, self._runtime, stream=True)
        tries = _Tries(self._runtime, course, partial(_until_content, open_stream, self._runtime.clock), attempts)
        target, this, opened = await tries.run()
        try:
            async with aclosing(opened.chunks) as chunks:
                answered_by(target)
                for chunk in opened.held:
                    yield chunk
                async for chunk in chunks:
                    yield chunk
        except BaseException as error:
            if isinstance(error, UpstreamError):
                target.health.broke(error, self._runtime.clock())
            tries.note(target, this, error)
            raise
        tries.note(target, this, "completed")


async def _until_content(open_stream: Open, clock: Clock, target: Target, limits: Bounds) -> Opened:
    """Providers bound the wait for the first byte; what comes without content does not prolong it."""
    chunks = open_stream(target, limits)
    held = []
    until = clock() + limits.first_byte
    try:
        async for chunk in chunks:
            held.append(chunk)
            if chunk.content:
                return Opened(chunks, held)
            if clock() > until:
                raise UpstreamTimeout(target.provider.name, "did not begin to answer in time", phase="first_byte")
    except BaseException:
        await chunks.aclose()
        raise
    raise StreamTruncated(target.provider.name, "ended its answer before it began")


class _Tries(Generic[T]):
    """Those of one call. `do` is one try: it returns the answer, or a stream's beginning."""

    __slots__ = ("_attempts", "_clock", "_course", "_do", "_sleep")

    def __init__(
        self, runtime: Runtime, course: Course, do: Callable[[Target, Bounds], Awaitable[T]], attempts: list[Attempt]
    ) -> None:
        self._clock = runtime.clock
        self._sleep = runtime.sleep
        self._course = course
        self._do = do
        self._attempts = attempts

    async def run(self) -> Answered[T]:
        """Ask until there is an answer."""
        course = self._course
        while True:
            target, wait = course.next()
            if course.last is not None:
                _tell(*course.last, target, wait)
            if wait:
                await self._sleep(wait)
            answered = await self._hedged(target) if course.hedges else await self._one(target)
            if answered is not None:
                return answered

    def note(self, target: Target, this: Try, outcome: str | BaseException) -> None:
        status = None
        if isinstance(outcome, BaseException):
            status = getattr(outcome, "upstream_status", None)
            outcome = _named(outcome)
        milliseconds = round((self._clock() - this.started) * 1000, 3)
        self._attempts.append(Attempt(target.provider.name, target.model, outcome, milliseconds, status))

    async def _hedged(self, target: Target) -> Answered[T] | None:
        answered: Answered[T] | None = await hedged(target, self._one, self._drop, self._course)
        return answered

    async def _one(self, target: Target) -> Answered[T] | None:
        """One try. None when it failed and another target shall be asked."""
        health = target.health
        this = health.begin(self._clock(), stream=self._course.stream)
        try:
            answer = await self._do(target, self._course.limits(target))
        except NotOffered as error:
            health.released(this)
            self._course.skipped(target, error)
            return None
        except BaseException as error:
            if isinstance(error, UpstreamError):
                health.failed(this, error, self._clock())
            else:
                health.released(this)
            self.note(target, this, error)
            if not isinstance(error, _ANOTHER_MAY_DO_BETTER):
                raise
            self._course.failed(target, error)
            return None
        if isinstance(answer, Own):
            health.released(this)
        else:
            health.succeeded(this, self._clock())
        return Answered(target, this, answer)

    async def _drop(self, answered: Answered[T]) -> None:
        """An answer that came just too late."""
        if isinstance(answered.answer, Own):
            return
        if isinstance(answered.answer, Opened):
            await answered.answer.chunks.aclose()
        self.note(answered.target, answered.this, "cancelled")


def _named(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    return error.code if isinstance(error, GatewayError) else GatewayError.code


def _tell(failed: Target, error: GatewayError, target: Target, wait: float) -> None:
    log.warning(
        "routing: a try failed, another follows",
        target=failed.label,
        error=error.code,
        upstream_status=error.upstream_status,
        next=target.label,
        wait=round(wait, 3),
    )
