"""The one HTTP client towards providers: pooled, bounded, with a deadline on every wait. Nothing else names aiohttp."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from ai_proxy.core.config import UpstreamSettings
from ai_proxy.core.exceptions import BadUpstreamResponse, PoolFull, UpstreamError, UpstreamTimeout, UpstreamUnreachable

# An idle connection is dropped before the provider is likely to: most keep theirs for a minute or more.
_KEEP_ALIVE = 15.0
# A provider that closes a reused connection within this time had given it up before our request came: see `_send`.
_IDLE_CLOSE = 0.5
# How long a finished stream may take to close its HTTP body before its connection is thrown away.
_LINGER = 0.05

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)

T = TypeVar("T")

_connected: ContextVar[bool] = ContextVar("connected", default=False)


class Http:
    """Use as an async context manager: connections are closed at its end."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, keepalive_timeout=_KEEP_ALIVE),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._settings.connect_timeout, sock_connect=self._settings.connect_timeout
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def post(self, provider: str, url: URL, body: bytes, headers: Mapping[str, str]) -> AsyncIterator["Reply"]:
        """Send a request; the answer's status and headers are there at once, its body is read through the `Reply`.

        Raises `PoolFull`, `UpstreamUnreachable`, `UpstreamTimeout` or `BadUpstreamResponse`.
        """
        await self._take_slot()
        try:
            reply = Reply(provider, self._settings)
            reply.response = await reply.within("first_byte", self._send(url, body, headers))
            try:
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
            async with asyncio.timeout(self._settings.pool_timeout):
                await self._slots.acquire()
        except TimeoutError:
            message = "Too many calls to providers are running: try again in a moment."
            raise PoolFull(message, retry_after=1) from None

    async def _send(self, url: URL, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send once; and once more when a kept connection turns out to have been closed by the other side.

        The second try is made only if the connection was a reused one, not a byte came back, and it ended so soon
        that the provider cannot have worked on the request.
        """
        _connected.set(False)
        sent = asyncio.get_running_loop().time()
        try:
            return await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if _connected.get() or _begun(error) or asyncio.get_running_loop().time() - sent > _IDLE_CLOSE:
                raise
        return await self._session.post(url, data=body, headers=headers, allow_redirects=False)


def _begun(error: aiohttp.ClientError) -> bool:
    """Whether an answer had begun: what there is of it is kept in place of a message."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


class Reply:
    """A provider's answer while it comes in."""

    response: aiohttp.ClientResponse

    def __init__(self, provider: str, settings: UpstreamSettings) -> None:
        self._provider = provider
        self._settings = settings
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()
        self._end = self._started + settings.total_timeout

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str | None:
        return self.response.headers.get(name)

    async def read(self) -> bytes:
        """The whole body."""
        blocks = [block async for block in self.blocks()]
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def blocks(self) -> AsyncIterator[bytes]:
        """The body in blocks, as they arrive."""
        if self.response.headers.get("content-encoding", "identity").lower() != "identity":
            raise BadUpstreamResponse(self._provider, "sent a compressed answer that was not asked for")
        content = self.response.content
        phase, left = "first_byte", self._settings.max_response_bytes
        while not content.at_eof():
            if self._clock() > self._end:
                raise UpstreamTimeout(self._provider, _TIMEOUTS["total"], phase="total")
            block = self._arrived(content) or await self.within(phase, content.readany())
            left -= len(block)
            if left < 0:
                raise BadUpstreamResponse(self._provider, "sent an answer over the size limit")
            if block:
                phase = "idle"
                yield block

    def _arrived(self, content: aiohttp.StreamReader) -> bytes:
        """What is there already, for which no timer need be set."""
        try:
            return content.read_nowait()
        except aiohttp.ClientError as error:
            raise _translated(self._provider, error) from None

    async def finish(self) -> None:
        """Call when nothing more is expected: lets the connection be used again if the body ends here."""
        content = self.response.content
        try:
            async with asyncio.timeout(_LINGER):
                while not content.at_eof():
                    if await content.readany():
                        return
        except (TimeoutError, aiohttp.ClientError):
            return

    def close(self) -> None:
        """Give the connection back, or cut it off when the answer is still coming in: the provider can stop."""
        if self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()

    async def within(self, phase: str, coming: Awaitable[T]) -> T:
        """Wait for something, within the limit of its phase (`first_byte` or `idle`) and the total."""
        if phase == "first_byte":
            limit = self._started + self._settings.first_byte_timeout
        else:
            limit = self._clock() + self._settings.idle_timeout
        timer = asyncio.timeout_at(min(limit, self._end))
        try:
            async with timer:
                return await coming
        except _FAILURES as error:
            if timer.expired():
                phase = "total" if self._end <= limit else phase
                raise UpstreamTimeout(self._provider, _TIMEOUTS[phase], phase=phase) from None
            raise _translated(self._provider, error) from None


_TIMEOUTS = {
    "connect": "could not be connected to in time",
    "first_byte": "did not begin to answer in time",
    "idle": "fell silent in the middle of its answer",
    "total": "took too long for the whole answer",
}


class _Connector(aiohttp.TCPConnector):
    """Notes when a request got a new connection: one that could not be handed a request by mistake."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        _connected.set(True)
        return await super()._create_connection(*args, **kwargs)


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
    (aiohttp.ClientConnectorError, lambda provider: UpstreamUnreachable(provider, "refused the connection")),
    (aiohttp.ClientPayloadError, lambda provider: BadUpstreamResponse(provider, "broke off its answer")),
    (aiohttp.ClientConnectionError, lambda provider: UpstreamUnreachable(provider, "closed the connection early")),
    (Exception, lambda provider: BadUpstreamResponse(provider, "sent something that is not HTTP")),
)


def _translated(provider: str, error: Exception) -> UpstreamError:
    return next(build(provider) for kind, build in _TRANSLATIONS if isinstance(error, kind))
