"""One connection: uvicorn's HTTP protocol with the deadlines and limits that it lacks."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ai_proxy.api.body import ARRIVED
from ai_proxy.api.disconnect import WHEN_GONE
from ai_proxy.api.error_handlers import render
from ai_proxy.api.uploads import ANY_SIZE
from ai_proxy.core.exceptions import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    HeadersTooLarge,
    RequestTimeout,
    Unavailable,
)
from ai_proxy.core.groups import ServerSettings
from ai_proxy.core.ids import uuid7
from ai_proxy.core.logging import request_id
from ai_proxy.core.metrics import Metrics

log = structlog.get_logger()

_LINGER = 2.0  # seconds that a client which is still sending gets to read why it was refused
_HEADER_EXTRA = len(": \r\n")


class Protocol(HttpToolsProtocol):
    """One connection. The server calls `enforce` every second; between requests uvicorn's keep-alive timer holds."""

    limits: ServerSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limits = self.limits
        self._max_request = limits.max_header_bytes + 2 * limits.max_body_bytes  # small chunks cost as much again
        self.url = b""  # what is asked for, as far as it came
        self._running: RequestResponseCycle | None = None
        self._in_headers = False
        self._headers_by: float | None = None
        self._abort_at: float | None = None
        self._lingering = False
        self._received = 0  # bytes, after the packet that the request began in
        self._allowed = limits.max_header_bytes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._outgoing = _Outgoing(transport, self._close)
        self._headers_by = self.loop.time() + self.limits.header_timeout
        if len(self.connections) > self.limits.max_connections:
            self._refuse(Unavailable("Too many connections are open: try again in a moment."))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        cycle.__class__ = Cycle
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        scope[WHEN_GONE] = None
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon_call()
        super().connection_lost(exc)
        self._outgoing.close = self.transport.close  # no reference to us, that we are freed without the collector

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._received += len(data)
        super().data_received(data)
        if self._received > self._allowed and not self._may_be_of_any_size():
            self._refuse(self._headers_too_large() if self._in_headers else self._body_too_large())

    def _may_be_of_any_size(self) -> bool:
        """As long as it is read: what nobody reads has the usual bound."""
        cycle = None if self._in_headers else self.cycle
        return cycle is not None and ANY_SIZE in cycle.scope and not cycle.response_complete

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._headers_by = self.loop.time() + self.limits.header_timeout
        self._received = 0
        self._allowed = self.limits.max_header_bytes

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._headers_by = None
        self._allowed = self._max_request
        size = len(self.url) + sum([len(name) + len(value) + _HEADER_EXTRA for name, value in self.headers])
        if size > self.limits.max_header_bytes:
            self._stop(self._headers_too_large())
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in _BODY_HEADERS for name, _ in self.headers):
            self._stop(BadRequest("This server speaks HTTP/1.1 only: send the request without the header Upgrade."))
        super().on_headers_complete()
        self.headers = _NOWHERE  # what comes now are trailers, which have no say in who asks for what
        self.cycle.transport = self._outgoing  # type: ignore[assignment]
        if upgrade or self.expect_100_continue:
            self.cycle.keep_alive = False  # one cannot tell what follows: another protocol, a body or none

    def on_message_complete(self) -> None:
        super().on_message_complete()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[ARRIVED] = True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_at = self.loop.time() + self.limits.write_timeout

    def resume_writing(self) -> None:
        super().resume_writing()
        self._abort_at = self.loop.time() + _LINGER if self._lingering else None

    def enforce(self, now: float) -> None:
        """Close a connection whose headers do not come, or whose client does not read."""
        if self._abort_at is not None:
            if now > self._abort_at:
                self.transport.abort()
        elif self.transport.is_closing():
            self._abort_at = now + self.limits.write_timeout
        elif self._headers_by is not None:
            if now > self._headers_by:
                self._refuse_late_headers()
        elif self.timeout_keep_alive_task is None and self.cycle.response_complete:
            # The keep-alive timer was stopped by what is no request: empty lines, or a body that nobody waits for.
            self._headers_by = now + self.limits.header_timeout

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("This is not a valid HTTP request."))

    def _unsupported_upgrade_warning(self) -> None:
        """Not worth a line: the request is answered as if it had not asked for an upgrade."""

    def _refuse_late_headers(self) -> None:
        if self._in_headers:
            self._refuse(RequestTimeout(f"The headers did not arrive within {self.limits.header_timeout:g} s."))
        else:
            self.transport.close()

    def _headers_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The headers are over the limit of {self.limits.max_header_bytes:,} bytes.")

    def _body_too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request is over the limit of {self._max_request:,} bytes.")

    def _stop(self, error: GatewayError) -> None:
        """Refuse from within the parser, which must not go on."""
        self._refuse(error)
        raise error

    def _refuse(self, error: GatewayError) -> None:
        """Answer outside of any application, and close. An answer that has begun is cut off instead."""
        if self._lingering or self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and cycle.response_complete and cycle.more_body:
            self._linger()
            return
        metrics: Metrics = self.app_state["metrics"]
        metrics.refused(error.code)
        if cycle is not None and (self.pipeline or (cycle.response_started and not cycle.response_complete)):
            self.transport.close()
        else:
            self.transport.write(_refusal(error, _path(self.url)))
            self._abandon_call()
            self._linger()

    def _abandon_call(self) -> None:
        """For the application, the client has gone."""
        for cycle in (self._running, self.cycle):  # with pipelining, the one that was read last does not run yet
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = cycle.response_complete = True
                cycle.message_event.set()
                scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
                if (tell := scope.pop(WHEN_GONE, None)) is not None:
                    tell()

    def _close(self) -> None:
        if self.pipeline or self.cycle.more_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Stop sending, and throw away what still comes.

        Closing at once would make the client's system discard the answer, unread (RFC 9112 section 9.6).
        """
        if self._lingering or self.transport.is_closing():
            return
        self._lingering = True
        self._headers_by = None
        self._abort_at = self.loop.time() + _LINGER
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self.flow.resume_reading()
        self.transport.write_eof()


class Cycle(RequestResponseCycle):
    """Writes what calls send most often: pieces of streams, and heads that tell the `length` of their body.

    The headers of those are our own (see `calls._Answer`); uvicorn looks at each in ways that take 11 µs a call.
    """

    _head = b""  # of an answer whose body is to come, to go out with it: a packet of its own costs 7 µs more

    async def send(self, message: Any) -> None:
        if self._head:
            message, self._head = {**message, "body": self._head + message["body"]}, b""
        if self.disconnected or self.flow.write_paused:
            await super().send(message)
        elif self.chunked_encoding and message.get("more_body") and not self.response_complete:
            if block := message["body"]:
                self.transport.write(b"%x\r\n%b\r\n" % (len(block), block))
        elif "length" in message and not self.response_started:
            self._hold_head(message)
        else:
            await super().send(message)

    def _hold_head(self, message: Any) -> None:
        headers = [*self.default_headers, *message["headers"]]
        fields = b"".join([b"%s: %s\r\n" % field for field in headers])
        if not fields.count(b"\r") == fields.count(b"\n") == len(headers) or b"\0" in fields:
            reason = "a header holds a line break"
            raise RuntimeError(reason)
        self.response_started = True
        self.waiting_for_100_continue = self.chunked_encoding = False
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        self._head = b"%s%s%s\r\n" % (STATUS_LINE[message["status"]], fields, closing)
        self.expected_content_length = len(self._head) + message["length"]


class _Nowhere(list[tuple[bytes, bytes]]):
    """Keeps nothing."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        pass


_NOWHERE = _Nowhere()
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class _Outgoing:
    """The transport, as far as uvicorn needs it to answer a request; but for how it is closed."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def _path(url: bytes) -> str:
    """The path of a request's target, as far as it came. Other forms, which only proxies get, stay as they are."""
    return url.partition(b"?")[0].decode("latin-1")


def _refusal(error: GatewayError, path: str) -> bytes:
    """An answer in the same form as the application's."""
    identifier = uuid7()
    token = request_id.set(identifier)
    try:
        log.warning("refused", status=error.status, error=error.code, error_message=error.message)
        response = render(error, path)
    finally:
        request_id.reset(token)
    response.headers["x-request-id"] = identifier
    if path.startswith("/v1/"):
        response.headers["request-id"] = identifier  # where Anthropic's clients look for it
    response.headers["connection"] = "close"
    fields = [b"%s: %s\r\n" % field for field in response.raw_headers]
    return b"".join([STATUS_LINE[response.status_code], *fields, b"\r\n", bytes(response.body)])
