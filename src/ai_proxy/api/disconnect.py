"""Notices that the client has gone, so that nobody works for it any longer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from starlette.types import Receive, Scope

from ai_proxy.core.exceptions import ClientGone, ShuttingDown
from ai_proxy.core.types import Exchange

WHEN_GONE = "ai_proxy.when_gone"  # where in the scope our server looks for whom to call; it is taken out after that


class UntilGone:
    """While inside, the current task is cancelled as soon as the client closes its connection.

    A client that closes only its sending half counts as gone, because nothing tells the one from the other.
    Raises `ClientGone` then, and `ShuttingDown` when it is the server that cancels. The body must have been read.
    `ping` is called after every `interval` seconds of silence, which `heard` ends.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        exchange: Exchange,
        *,
        ping: Callable[[], Awaitable[None]] | None = None,
        interval: float = 0.0,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._exchange = exchange
        self._ping = ping
        self._interval = interval
        self._gone = False
        self._last = 0.0
        self._watcher: asyncio.Task[None] | None = None

    def heard(self) -> None:
        """Something was sent."""
        self._last = self._clock()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - there is always one in a coroutine
        self._task = task
        if self._ping is None and WHEN_GONE in self._scope:
            self._scope[WHEN_GONE] = self._leave  # our own server tells us; a task that waits would cost 15 µs
            return self
        self._clock = task.get_loop().time
        self._last = self._clock()
        watch = self._wait() if self._ping is None else self._wait_and_ping(self._ping)
        self._watcher = asyncio.create_task(watch, name="client-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # it refers to us: what is no cycle is freed at once, without the garbage collector
        elif WHEN_GONE in self._scope:
            self._scope[WHEN_GONE] = None
        if error is None and self._gone:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # take the cancellation that came as the last step was ending
        elif not isinstance(error, asyncio.CancelledError):
            return
        if self._gone:
            self._task.uncancel()
            message = "The client went away before its answer was complete."
            raise ClientGone(message) from None
        raise shutting_down() from None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        if not self._exchange.duration_ms:  # else the call has ended, and only its record is waited for
            self._exchange.error = ClientGone.code
        self._task.cancel()

    async def _wait_and_ping(self, ping: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                async with asyncio.timeout_at(self._last + self._interval):
                    await self._wait()
                return
            except TimeoutError:
                if self._clock() >= self._last + self._interval:
                    await ping()
                    self.heard()


def shutting_down() -> ShuttingDown:
    """What a call is told that the server ends."""
    return ShuttingDown("The server is shutting down: try again in a moment.")
