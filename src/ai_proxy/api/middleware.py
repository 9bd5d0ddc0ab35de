"""Request id, log line and metrics, as plain ASGI: no task, no queue, no copy of the body."""

import asyncio
import re
import time
from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_proxy.api.disconnect import shutting_down
from ai_proxy.api.error_handlers import bug, on_bug, render
from ai_proxy.core import logging
from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.ids import uuid7
from ai_proxy.core.logging import request_id
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.money import dollars_of

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        started = time.perf_counter()
        sent = _Sent(send, _request_id(scope), scope["path"])
        self.metrics.inflight += 1
        try:
            await self._serve(scope, receive, sent)
        finally:
            self.metrics.inflight -= 1
            self._settle(scope, sent.status, time.perf_counter() - started)

    async def _serve(self, scope: Scope, receive: Receive, send: "_Sent") -> None:
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:  # by the server, whose patience at shutdown has ended
            scope["error"] = farewell = shutting_down()
            if not send.status:
                await render(farewell, scope["path"])(scope, receive, send)
        except Exception as error:  # a bug of ours, which the framework may have answered
            if not send.status:
                await (await on_bug(Request(scope), error))(scope, receive, send)
            elif send.status < _SERVER_ERROR:  # it had begun, and the line must not call it a success
                scope["error"] = bug()
                self.metrics.stream_aborted("gateway")
            raise

    def _settle(self, scope: Scope, status: int, seconds: float) -> None:
        error: GatewayError | None = scope.get("error")
        if error is not None and status < _CLIENT_ERROR:  # it failed after its beginning had been sent
            status = error.status
        status = status or _SERVER_ERROR
        self.metrics.request(scope["method"], _route(scope), status, seconds)
        self._log(scope, status, seconds)
        if error is not None:  # its traceback leads to the body, and back to itself through the scope
            error.__traceback__ = error.__context__ = None

    @staticmethod
    def _log(scope: Scope, status: int, seconds: float) -> None:
        if status >= _SERVER_ERROR:
            method = "error"
        elif status >= _CLIENT_ERROR:
            method = "warning"
        else:
            method = "debug" if scope["path"] in _QUIET else "info"
        logging.write(method, _line(scope, status, seconds))


class _Sent:
    """Sends, with the request's id. `status` is the response's, once it has begun."""

    def __init__(self, send: Send, identifier: str, path: str) -> None:
        request_id.set(identifier)
        self._send = send
        self._headers = [(b"x-request-id", identifier.encode())]
        if path.startswith("/v1/"):
            self._headers.append((b"request-id", identifier.encode()))  # where Anthropic's clients look for it
        self.status = 0

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"].extend(self._headers)
        return self._send(message)


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
        "event": "request",
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
            "cost_usd": dollars_of(exchange.cost),
            "attempts": exchange.attempts,
        }
    error: GatewayError | None = scope.get("error")
    if error is not None:
        line["error"] = error.code
        if not error.quotes:
            line["error_message"] = error.message
    return line
