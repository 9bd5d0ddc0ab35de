"""uvicorn with the deadlines and limits that it lacks, and a shutdown that always ends in order."""

import asyncio
import signal
from types import FrameType
from typing import Any

import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ai_proxy.api.error_handlers import envelope
from ai_proxy.core.config import ServerSettings
from ai_proxy.core.exceptions import BadRequest, GatewayError, RequestTimeout

_TICKS_A_SECOND = 10


class HeadersTooLarge(GatewayError):
    status = 431
    code = "headers_too_large"
    kind = "invalid_request_error"
    source = "client"


class Protocol(HttpToolsProtocol):
    """One connection. The server calls `enforce` every second; between requests uvicorn's keep-alive timer holds."""

    limits: ServerSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaiting_headers_since: float | None = None
        self._stuck_since: float | None = None
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._awaiting_headers_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._header_bytes:  # headers that did not end with the packet before
            self._count_headers(len(data))
        if not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._awaiting_headers_since = self.loop.time()
        self._header_bytes = 1

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_headers(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_headers(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._awaiting_headers_since = None
        self._header_bytes = 0
        if not self.transport.is_closing():
            super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None

    def enforce(self, now: float) -> None:
        """Close a connection whose headers do not come, or whose client does not read."""
        if self._stuck_since is not None and now - self._stuck_since > self.limits.write_timeout:
            self.transport.abort()
        elif (
            self._awaiting_headers_since is not None and now - self._awaiting_headers_since > self.limits.header_timeout
        ):
            self._refuse_late_headers()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("This is not a valid HTTP request."))

    def _refuse_late_headers(self) -> None:
        if self._header_bytes:
            self._refuse(RequestTimeout(f"The headers did not arrive within {self.limits.header_timeout:g} s."))
        else:
            self.transport.close()

    def _count_headers(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > self.limits.max_header_bytes and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(f"The headers are over the limit of {self.limits.max_header_bytes:,} bytes."))

    def _refuse(self, error: GatewayError) -> None:
        """Answer outside of any application, and close."""
        body = msgspec.json.encode(envelope(error))
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()


class Server(uvicorn.Server):
    """A first SIGTERM or SIGINT lets running calls finish within the limit; a second one ends them now."""

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.enforce(now)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signals are not raised again at the end, as uvicorn does it: a stop that was asked for exits with 0."""
        if self.should_exit:
            for task in self.server_state.tasks:
                task.cancel()
        self.should_exit = True


def serve(app: ASGIApp, *, host: str, port: int, limits: ServerSettings) -> None:
    """Serve until a signal; returns when every record is written. Exits with 3 if the address cannot be had."""
    protocol = type("LimitedProtocol", (Protocol,), {"limits": limits})
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=limits.shutdown_timeout,
    )
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Server(config).run()
