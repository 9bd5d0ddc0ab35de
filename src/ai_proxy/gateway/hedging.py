"""Hedging: when a target is slower than it mostly is, the next one is asked as well, and the first answer counts."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ai_proxy.gateway.course import Course
from ai_proxy.gateway.targets import Target

T = TypeVar("T")

_LEAST_PATIENCE = 0.05  # seconds


async def hedged(
    first: Target,
    one: Callable[[Target], Coroutine[Any, Any, T | None]],
    drop: Callable[[T], Awaitable[None]],
    course: Course,
) -> T | None:
    """One try of `first`, and of the next target once it takes longer than 95 of 100 tries have taken.

    A try by `one` gives None if another target shall be asked, and so does this when there is no answer. `drop` takes
    an answer that came too late to count.
    """
    patience = first.health.latency(stream=course.stream).p95()
    if patience is None:
        return await one(first)
    running = [asyncio.create_task(one(first))]
    answer: T | None = None
    try:
        done, _ = await asyncio.wait(running, timeout=max(patience, _LEAST_PATIENCE))
        second = None if done else course.spare()
        if second is not None:
            running.append(asyncio.create_task(one(second)))
        answer = await _first_answer(running)
    finally:
        if running:
            await _finish(running, answer, drop)
    return answer


async def _first_answer(running: list[asyncio.Task[T | None]]) -> T | None:
    """Takes what is done out of `running`, up to the answer. Raises what ends the call."""
    while running:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in running if task.done()]:
            running.remove(task)
            answer = task.result()
            if answer is not None:
                return answer
    return None


async def _finish(
    running: list[asyncio.Task[T | None]], answer: T | None, drop: Callable[[T], Awaitable[None]]
) -> None:
    """End what lost. When the client leaves meanwhile, nobody gets the answer, and it is dropped as well."""
    ending = asyncio.ensure_future(_end(running, drop))
    try:
        await asyncio.shield(ending)
    except BaseException:
        dropped = [] if answer is None else [drop(answer)]
        await asyncio.shield(asyncio.gather(ending, *dropped, return_exceptions=True))
        raise


async def _end(running: list[asyncio.Task[T | None]], drop: Callable[[T], Awaitable[None]]) -> None:
    """Cancel what lost, and wait until it has let go of its connection."""
    for task in running:
        task.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if outcome is not None and not isinstance(outcome, BaseException):
            await drop(outcome)
