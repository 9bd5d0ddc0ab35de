"""The life of the application: a start that fails says why in one line, and SIGHUP has the settings read again."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_proxy.core.logging import say

log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """The framework would answer a `SystemExit` with a traceback."""
    app.router.lifespan = _tersely(app.router.lifespan)  # type: ignore[method-assign,assignment]


def _tersely(lifespan: ASGIApp) -> ASGIApp:
    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        failure: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message
            else:
                await send(message)

        try:
            await lifespan(scope, receive, hold_failure)
        except SystemExit as error:
            failure = {"type": "lifespan.startup.failed", "message": str(error)}
            say(f"{error}\n")  # for the person who started it; the message goes to the log
        finally:
            if failure is not None:
                await send(failure)

    return run


@contextmanager
def on_hangup(act: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """At SIGHUP, `act`: one after the other, however often the signal comes."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()

    async def obey() -> None:
        while True:
            await came.wait()
            came.clear()
            try:
                await act()
            except Exception:  # whatever it is: the next signal must be obeyed
                log.exception("reload: failed, all stays as it was")

    try:
        loop.add_signal_handler(signal.SIGHUP, came.set)
    except (RuntimeError, ValueError):  # not in the main thread: somebody else's process
        yield
        return
    task = asyncio.create_task(obey(), name="reload")
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        task.cancel()
