"""Request id, log line and metrics, as plain ASGI: no task, no queue, no copy of the body."""

import asyncio
import re
import time
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_proxy.api.disconnect import shutting_down
from ai_proxy.api.error_handlers import render
from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.ids import uuid7
from ai_proxy.core.logging import request_id
from ai_proxy.core.metrics import Metrics

_SANE_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # asked every few seconds by machines
_MAX_PATH = 200  # characters in the log
_SERVER_ERROR = 500
_CLIENT_ERROR = 400


class Requests:
    """Every HTTP request passes here. Endpoints leave `principal`, `exchange` and `error` in the scope to be logged."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        self.log = structlog.get_logger().bind()  # bound once: the look-up costs as much as the line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        identifier = _request_id(scope)
        request_id.set(identifier)
        headers = [(b"x-request-id", identifier.encode())]
        if scope["path"].startswith("/v1/"):  # the name by which Anthropic's clients look for it
            headers.append((b"request-id", identifier.encode()))
        started = time.perf_counter()
        status = 0
        self.metrics.inflight.inc()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].extend(headers)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # by the server, whose patience at shutdown has ended
            scope["error"] = farewell = shutting_down()
            if not status:
                await render(farewell)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            self.metrics.inflight.dec()
            error: GatewayError | None = scope.get("error")
            status = (status or _SERVER_ERROR) if error is None else error.status
            self.metrics.request(scope["method"], _route(scope), status, seconds)
            self._log(scope, status, seconds)
            if error is not None:  # its traceback leads to the body, and back to itself through the scope
                error.__traceback__ = error.__context__ = None

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        line = _line(scope, status, seconds)
        if status >= _SERVER_ERROR:
            self.log.error("request", **line)
        elif status >= _CLIENT_ERROR:
            self.log.warning("request", **line)
        elif scope["path"] in _QUIET:
            self.log.debug("request", **line)
        else:
            self.log.info("request", **line)


def _request_id(scope: Scope) -> str:
    """The client's own id if it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _SANE_ID.fullmatch(text):
                return text
    return uuid7()


def _route(scope: Scope) -> str:
    route = scope.get("route")
    return "other" if route is None else route.path


def _line(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    line: dict[str, Any] = {
        "method": scope["method"],
        "path": scope["path"][:_MAX_PATH],
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
    }
    if (principal := scope.get("principal")) is not None:
        line["key_id"] = principal.key_id
    if (exchange := scope.get("exchange")) is not None:
        line |= {
            "exchange_id": exchange.id,
            "model": exchange.model,
            "provider": exchange.provider,
            "input_tokens": exchange.usage.input_tokens,
            "output_tokens": exchange.usage.output_tokens,
        }
    error: GatewayError | None = scope.get("error")
    if error is not None:
        line["error"] = error.code
        if not error.quotes:
            line["error_message"] = error.message
    return line
