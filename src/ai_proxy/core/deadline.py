"""One timer for all the waits of a call."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

_AGAIN = 1.0  # seconds: what is waited for may have swallowed the cancellation, as some libraries do while they end


class Expired(Exception):
    """The time is over. Not a `TimeoutError`, which what is waited for may raise for reasons of its own."""


class Deadline:
    """Waits for one thing after the other, each until a time of its own.

    The timer is set once and looks at the clock when it goes off, for most waits end long before: setting and
    cancelling one for each would cost as much as relaying a chunk. Use it from one task at a time.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._until = 0.0
        self._cancels = 0  # by us

    async def wait(self, coming: Awaitable[T], until: float) -> T:
        """Raises `Expired` when the loop's clock passes `until`."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - there is always one in a coroutine
        cancelling = task.cancelling()
        self._task, self._until, self._cancels = task, until, 0
        if self._timer is None or self._timer.when() > until:
            self._set(until)
        try:
            return await coming
        except asyncio.CancelledError:
            if self._cancels and task.cancelling() - self._cancels <= cancelling:
                raise Expired from None
            raise
        finally:
            self._task = None
            for _ in range(self._cancels):
                task.uncancel()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:  # nobody waits at the moment
            return
        if self.clock() < self._until:
            self._set(self._until)
            return
        self._cancels += 1
        self._task.cancel()
        self._set(self.clock() + _AGAIN)
