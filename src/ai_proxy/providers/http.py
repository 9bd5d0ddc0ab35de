"""The one HTTP client towards providers: pooled, bounded, with a deadline on every wait. Nothing else names aiohttp."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
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

_FAILURES = (aiohttp.ClientError, OSError, ValueError)  # OSError: TimeoutError is one of them
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)  # all are ours

# Whether the request at hand got a new connection, and how long making one may take.
_connected: ContextVar[bool] = ContextVar("connected", default=False)
_connect_limit: ContextVar[float] = ContextVar("connect_limit", default=5.0)


class Http:
    """Use as an async context manager: connections are closed at its end."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, keepalive_timeout=_KEEP_ALIVE),
            timeout=_NO_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def channel(self, provider: str, *, max_connections: int, pool_timeout: float) -> "Channel":
        """The way to one provider: at most `max_connections` calls at a time, whatever becomes of the others."""
        return Channel(self._session, provider, asyncio.Semaphore(max_connections), pool_timeout)


class Channel:
    """Sends requests to one provider."""

    def __init__(
        self, session: aiohttp.ClientSession, provider: str, slots: asyncio.Semaphore, pool_timeout: float
    ) -> None:
        self._session = session
        self._provider = provider
        self._slots = slots
        self._pool_timeout = pool_timeout

    @asynccontextmanager
    async def request(
        self, method: str, url: URL, headers: Mapping[str, str], limits: Bounds, body: bytes | None = None
    ) -> AsyncIterator["Reply"]:
        """Send a request; the answer's status and headers are there at once, its body is read through the `Reply`.

        Raises `PoolFull`, `UpstreamUnreachable`, `UpstreamTimeout` or `BadUpstreamResponse`.
        """
        reply = Reply(self._provider, limits)  # its deadlines hold for the wait, too
        await self._take_slot()
        try:
            try:
                await reply.begin(self._send(method, url, headers, limits.connect, body))
                yield reply
            finally:
                reply.close()
        finally:
            self._slots.release()

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._pool_timeout):
                await self._slots.acquire()
        except TimeoutError:
            message = f"{self._provider}: too many calls to it are running: try again in a moment."
            raise PoolFull(message, retry_after=1) from None

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], connect: float, body: bytes | None
    ) -> aiohttp.ClientResponse:
        """Send once; and once more when a kept connection turns out to have been closed by the other side.

        The second try is made only if the connection was a reused one, not a byte came back, and it ended so soon
        that the provider cannot have worked on the request.
        """
        _connected.set(False)
        _connect_limit.set(connect)
        send = partial(self._session.request, method, url, data=body, headers=headers, allow_redirects=False)
        sent = asyncio.get_running_loop().time()
        try:
            return await send()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if _connected.get() or _begun(error) or asyncio.get_running_loop().time() - sent > _IDLE_CLOSE:
                raise
        return await send()


def _begun(error: aiohttp.ClientError) -> bool:
    """Whether an answer had begun: what there is of it is kept in place of a message."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


class Reply:
    """A provider's answer while it comes in."""

    response: aiohttp.ClientResponse | None = None

    def __init__(self, provider: str, limits: Bounds) -> None:
        self._provider = provider
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        started = self._clock()
        self._first = started + limits.first_byte
        self._end = started + limits.total
        self._left = limits.max_bytes
        self._deadline = Deadline()
        self._content: aiohttp.StreamReader
        self.has_content = False  # set it when the answer proper has begun: until then `first_byte` is the limit

    async def begin(self, sending: Any) -> None:
        self.response = await self._within(sending)
        self.status = self.response.status
        self._content = self.response.content

    def header(self, name: str) -> str | None:
        assert self.response is not None  # noqa: S101 - begun
        return self.response.headers.get(name)

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

    def close(self) -> None:
        """Give the connection back, or cut it off when the answer is still coming in: the provider can stop."""
        self._deadline.close()
        if self.response is None:
            return
        if self._content.at_eof():
            self.response.release()
        else:
            self.response.close()

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


class _Connector(aiohttp.TCPConnector):
    """Notes when a request got a new connection: one that could not be handed a request by mistake.

    The limit for making one is set here, and not by aiohttp: its own would set a timer for kept connections too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        _connected.set(True)
        try:
            async with asyncio.timeout(_connect_limit.get()):
                return await super()._create_connection(*args, **kwargs)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None


class _Protocol(ResponseHandler):
    """Tells the reader of a body when its framing breaks, which aiohttp's parser in C forgets to do."""

    def set_exception(self, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        body = self._payload
        super().set_exception(exc, *args, **kwargs)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("broken framing"))


# The HTTP client's exceptions, the more special first, and what we make of them. The words are our own: the library's
# name hosts and addresses.
_TRANSLATIONS: tuple[tuple[type[Exception], Callable[[str], UpstreamError]], ...] = (
    (aiohttp.ConnectionTimeoutError, lambda provider: UpstreamTimeout(provider, _TIMEOUTS["connect"], phase="connect")),
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
