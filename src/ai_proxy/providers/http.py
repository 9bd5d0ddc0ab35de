"""The one HTTP client towards providers: pooled, bounded, with a deadline on every wait. Nothing else names aiohttp."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Self, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from yarl import URL

from ai_proxy.core.deadline import Deadline, Expired
from ai_proxy.core.exceptions import PoolFull
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import BadUpstreamResponse, UpstreamError, UpstreamTimeout, UpstreamUnreachable

# An idle connection is dropped before the provider is likely to: most keep theirs for a minute or more.
_KEEP_ALIVE = 15.0
# A provider that closes a reused connection within this time had given it up before our request came: see `_send`.
_IDLE_CLOSE = 0.5
# How long a finished stream may take to close its HTTP body before its connection is thrown away.
_LINGER = 0.05
_SHORT = 32 * 1024  # a longer body is sent as fast as the provider reads it

_FAILURES = (aiohttp.ClientError, OSError, ValueError)  # OSError: TimeoutError is one of them


class Http:
    """Use as an async context manager: connections are closed at its end."""

    def __init__(self) -> None:
        self._connector: _Connector

    async def __aenter__(self) -> Self:
        self._connector = _Connector(limit=0, keepalive_timeout=_KEEP_ALIVE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connector.close()

    def channel(self, provider: str, *, max_connections: int, pool_timeout: float) -> "Channel":
        """The way to one provider: at most `max_connections` calls at a time, whatever becomes of the others."""
        return Channel(self._connector, provider, asyncio.Semaphore(max_connections), pool_timeout)


class Channel:
    """Sends requests to one provider."""

    def __init__(self, connector: "_Connector", provider: str, slots: asyncio.Semaphore, pool_timeout: float) -> None:
        self.provider = provider
        self.slots = slots
        self._connector = connector
        self._pool_timeout = pool_timeout

    def request(
        self, method: str, url: URL, headers: Mapping[str, str], limits: Bounds, body: bytes | None = None
    ) -> "Reply":
        """As an async context manager: send a request. The answer's body is read, or broken off, before its end.

        Raises `PoolFull`, `UpstreamUnreachable`, `UpstreamTimeout` or `BadUpstreamResponse`.
        """
        return Reply(self, partial(self._send, method, url, headers, limits.connect, body), limits)

    async def take_slot(self) -> None:
        if not self.slots.locked():
            await self.slots.acquire()
            return
        try:
            async with asyncio.timeout(self._pool_timeout):
                await self.slots.acquire()
        except TimeoutError:
            message = f"{self.provider}: too many calls to it are running: try again in a moment."
            raise PoolFull(message, retry_after=1) from None

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], connect: float, body: bytes | None
    ) -> aiohttp.ClientResponse:
        """Send once; and once more when a kept connection turns out to have been closed by the other side.

        The second try is made only if the connection was a reused one, not a byte came back, and it ended so soon
        that the provider cannot have worked on the request.
        """
        loop = asyncio.get_running_loop()
        request = _Request(method, url, headers=headers, data=body, loop=loop)
        sent = loop.time()
        try:
            return await self._connector.exchange(request, connect)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not request.reused or _begun(error) or loop.time() - sent > _IDLE_CLOSE:
                raise
        return await self._connector.exchange(request, connect)


def _begun(error: aiohttp.ClientError) -> bool:
    """Whether an answer had begun: what there is of it is kept in place of a message."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


class Reply:
    """A provider's answer while it comes in. Its deadlines begin to run when it is asked for."""

    def __init__(self, channel: Channel, send: Callable[[], Awaitable[Any]], limits: Bounds) -> None:
        self._channel = channel
        self._provider = channel.provider
        self._send = send
        self._limits = limits
        self._deadline = Deadline()
        self._clock = self._deadline.clock
        started = self._clock()
        self._first = started + limits.first_byte
        self._end = started + limits.total
        self._left = limits.max_bytes
        self._response: aiohttp.ClientResponse
        self.has_content = False  # set it when the answer proper has begun: until then `first_byte` is the limit

    async def __aenter__(self) -> Self:
        await self._channel.take_slot()
        try:
            self._response = await self._within(self._send())
        except BaseException:
            self._let_go()
            raise
        self.status = self._response.status
        self._content = self._response.content
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give the connection back, or cut it off when the answer is still coming in: the provider can stop."""
        self._let_go()
        if self._content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def _let_go(self) -> None:
        self._deadline.close()
        self._channel.slots.release()

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    async def read(self) -> bytes:
        """The whole body."""
        blocks = []
        while block := await self.block():
            self.has_content = True
            blocks.append(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def block(self) -> bytes:
        """What has arrived of the body, waiting for it if need be; nothing at its end."""
        content = self._content
        if self._left == self._limits.max_bytes and (self.header("content-encoding") or "identity") != "identity":
            raise BadUpstreamResponse(self._provider, "sent a compressed answer that was not asked for")
        while not content.at_eof():
            if self._clock() > self._end:
                raise UpstreamTimeout(self._provider, _TIMEOUTS["total"], phase="total")
            block = self._arrived() or await self._within(content.readany())
            self._left -= len(block)
            if self._left < 0:
                raise BadUpstreamResponse(self._provider, "sent an answer over the size limit")
            if block:
                return block
        return b""

    def _arrived(self) -> bytes:
        """What is there already, for which no timer need be set."""
        try:
            return self._content.read_nowait()
        except aiohttp.ClientError as error:
            raise _translated(self._provider, error) from None

    async def finish(self) -> None:
        """Call when nothing more is expected: lets the connection be used again if the body ends here."""
        try:
            async with asyncio.timeout(_LINGER):
                while not self._content.at_eof():
                    if await self._content.readany():
                        return
        except (TimeoutError, aiohttp.ClientError):
            return

    async def _within(self, coming: Any) -> Any:
        """Wait for something, within the limit of the phase that the answer is in, and the total."""
        phase, limit = "first_byte", self._first
        if self.has_content:
            phase, limit = "idle", self._clock() + self._limits.idle
        if limit > self._end:
            phase, limit = "total", self._end
        try:
            return await self._deadline.wait(coming, limit)
        except Expired:
            raise UpstreamTimeout(self._provider, _TIMEOUTS[phase], phase=phase) from None
        except _FAILURES as error:
            raise _translated(self._provider, error) from None


_TIMEOUTS = {
    "connect": "could not be connected to in time",
    "first_byte": "did not begin to answer in time",
    "idle": "fell silent in the middle of its answer",
    "total": "took too long for the whole answer",
}


class _Request(aiohttp.ClientRequest):
    """Sends no headers that it was not given, and a short body together with them: aiohttp starts a task for any."""

    reused = False  # whether it went over a kept connection
    _short: bytes | None = None

    def update_auto_headers(self, *_: object) -> None:
        """There are none."""

    def update_body_from_data(self, body: bytes | None, *args: Any) -> None:
        if body is None or len(body) > _SHORT:
            super().update_body_from_data(body, *args)
        else:
            self._short = body
            self.headers["Content-Length"] = str(len(body))

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if self._short is None or conn.protocol is None:
            return await super().send(conn)
        writer = StreamWriter(conn.protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write(self._short)
        return aiohttp.ClientResponse(
            self.method,
            self.url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]

    async def exchange(self, request: _Request, connect: float) -> aiohttp.ClientResponse:
        """What `ClientSession.request` comes to without redirects, cookies and all else that we do not use."""
        limit = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)  # sets no timer for a kept connection
        connection = await self.connect(request, traces=[], timeout=limit)
        try:
            protocol = cast("_Protocol", connection.protocol)
            request.reused, protocol.used = protocol.used, True
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            response = await request.send(connection)
            return await response.start(connection)
        except BaseException:
            connection.close()
            raise


class _Protocol(ResponseHandler):
    """Tells the reader of a body when its framing breaks, which aiohttp's parser in C forgets to do."""

    used = False  # whether a request was sent over it

    def set_exception(self, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        body = self._payload
        super().set_exception(exc, *args, **kwargs)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("broken framing"))


# The HTTP client's exceptions, the more special first, and what we make of them. The words are our own: the library's
# name hosts and addresses.
_TRANSLATIONS: tuple[tuple[type[Exception], Callable[[str], UpstreamError]], ...] = (
    (TimeoutError, lambda provider: UpstreamTimeout(provider, _TIMEOUTS["connect"], phase="connect")),
    (
        aiohttp.ClientConnectorDNSError,
        lambda provider: UpstreamUnreachable(provider, "its name could not be resolved", code="upstream_dns"),
    ),
    (
        aiohttp.ClientSSLError,
        lambda provider: UpstreamUnreachable(provider, "no trusted TLS connection could be made", code="upstream_tls"),
    ),
    (
        aiohttp.ClientConnectorError,
        lambda provider: UpstreamUnreachable(provider, "refused the connection", connected=False),
    ),
    (aiohttp.ClientPayloadError, lambda provider: BadUpstreamResponse(provider, "broke off its answer")),
    (aiohttp.ClientConnectionError, lambda provider: UpstreamUnreachable(provider, "closed the connection early")),
    (Exception, lambda provider: BadUpstreamResponse(provider, "sent something that is not HTTP")),
)


def _translated(provider: str, error: Exception) -> UpstreamError:
    return next(build(provider) for kind, build in _TRANSLATIONS if isinstance(error, kind))
