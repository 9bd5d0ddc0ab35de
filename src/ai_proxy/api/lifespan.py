"""The start of the application: one that fails for a reason that the operator can mend says so in one line."""

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_proxy.core.logging import say


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
