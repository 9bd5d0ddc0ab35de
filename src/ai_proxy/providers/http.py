"""The one HTTP client towards providers: pooled, bounded, with a deadline on every wait."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Self

from yarl import URL

from ai_proxy.core.exceptions import PoolFull
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import BadUpstreamResponse, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from ai_proxy.providers.connection import BrokenOff, Connection, ConnectionClosed, Expired, NotHttp
from ai_proxy.providers.pool import Origin, Pool, Unresolved

# A provider that closes a reused connection within this time had given it up before our request came: see `_answered`.
_IDLE_CLOSE = 0.5
# How long a finished stream may take to close its HTTP body before its connection is thrown away.
_LINGER = 0.05

_BROKEN = (ConnectionClosed, BrokenOff, NotHttp, Expired)


class Http:
    """Use as an async context manager: connections are closed at its end."""

    def __init__(self) -> None:
        self._pool: Pool

    async def __aenter__(self) -> Self:
        self._pool = Pool()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.close()

    def channel(self, provider: str, *, max_connections: int, pool_timeout: float) -> "Channel":
        """The way to one provider: at most `max_connections` calls at a time, whatever becomes of the others."""
        return Channel(self._pool, provider, asyncio.Semaphore(max_connections), pool_timeout)


class Channel:
    """Sends requests to one provider."""

    def __init__(self, pool: Pool, provider: str, slots: asyncio.Semaphore, pool_timeout: float) -> None:
        self.provider = provider
        self.pool = pool
        self.slots = slots
        self._pool_timeout = pool_timeout

    def request(
        self, method: str, url: URL, headers: Mapping[str, str], limits: Bounds, body: bytes | None = None
    ) -> "Reply":
        """As an async context manager: send a request. The answer's body is read, or broken off, before its end.

        Raises `PoolFull`, `UpstreamUnreachable`, `UpstreamTimeout` or `BadUpstreamResponse`.
        """
        try:
            return Reply(self, limits, origin_of(url), head_of(method, url, headers, body), body or b"")
        except ValueError as error:
            raise _translated(self.provider, error) from None

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


@lru_cache(256)
def origin_of(url: URL) -> Origin:
    return Origin(url.scheme, url.raw_host or "", url.port or 0)


def head_of(method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A request up to its body. Raises `ValueError` if a header would be more than one."""
    length = "" if body is None else f"content-length: {len(body)}\r\n"
    if (basic := _basic(url)) is not None and "authorization" not in headers:
        headers = {**headers, "authorization": basic}
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not fields.count("\r") == fields.count("\n") == len(headers) or "\0" in fields:
        message = "a header holds a line break"
        raise ValueError(message)
    return f"{_request_line(method, url)}{fields}{length}\r\n".encode()


@lru_cache(256)
def _request_line(method: str, url: URL) -> str:
    """And the header that is the same in all requests to one address."""
    target = url.raw_path_qs
    if " " in target or not (target.isascii() and target.isprintable()):
        message = "an address that is not encoded"
        raise ValueError(message)
    return f"{method} {target} HTTP/1.1\r\nhost: {url.host_port_subcomponent}\r\n"


@lru_cache(256)
def _basic(url: URL) -> str | None:
    """For an address with a password in it."""
    if url.user is None and url.password is None:
        return None
    return "Basic " + b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()


class Reply:
    """A provider's answer while it comes in. Its deadlines begin to run when it is asked for."""

    def __init__(self, channel: Channel, limits: Bounds, origin: Origin, head: bytes, body: bytes) -> None:
        self._channel = channel
        self._provider = channel.provider
        self._origin = origin
        self._request = head, body
        self._limits = limits
        self._clock = channel.pool.clock
        started = self._clock()
        self._first = started + limits.first_byte
        self._end = started + limits.total
        self._left = limits.max_bytes
        self._connection: Connection | None = None
        self.has_content = False  # set it when the answer proper has begun: until then `first_byte` is the limit

    async def __aenter__(self) -> Self:
        await self._channel.take_slot()
        try:
            self._answer = await self._answered()
        except _FAILURES as error:
            self._let_go()
            raise self._failed(error) from None
        except BaseException:
            self._let_go()
            raise
        self.status = self._answer.status
        self._is_compressed = (self.header("content-encoding") or "identity") != "identity"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Give the connection back, or cut it off when the answer is still coming in: the provider can stop."""
        self._channel.slots.release()
        if self._connection is not None:
            self._channel.pool.give_back(self._origin, self._connection)

    def header(self, name: str) -> str | None:
        return self._answer.header(name.encode())

    async def read(self) -> bytes:
        """The whole body."""
        blocks = []
        while block := await self.block():
            self.has_content = True
            blocks.append(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def block(self) -> bytes:
        """What has arrived of the body, waiting for it if need be; nothing at its end."""
        answer = self._answer
        if self._is_compressed:
            raise BadUpstreamResponse(self._provider, "sent a compressed answer that was not asked for")
        try:
            while not (block := answer.take()):
                if answer.whole:
                    return b""
                await answer.arrival(self._until())
        except _FAILURES as error:
            raise self._failed(error) from None
        if self._clock() > self._end:
            raise UpstreamTimeout(self._provider, _TIMEOUTS["total"], phase="total")
        self._left -= len(block)
        if self._left < 0:
            raise BadUpstreamResponse(self._provider, "sent an answer over the size limit")
        return block

    async def finish(self) -> None:
        """Call when nothing more is expected: lets the connection be used again if the body ends here."""
        answer, until = self._answer, self._clock() + _LINGER
        with suppress(*_BROKEN):
            while not answer.whole and not answer.take():
                await answer.arrival(until)

    async def _answered(self) -> Connection:
        """Send once; and once more when a kept connection turns out to have been closed by the other side.

        The second try is made only if the connection was a reused one, not a byte came back, and it ended so soon
        that the provider cannot have worked on the request.
        """
        kept = self._connection = self._channel.pool.idle(self._origin)
        if kept is None:
            return await self._sent(await self._connected())
        sent = self._clock()
        try:
            return await self._sent(kept)
        except ConnectionClosed as error:
            if error.begun or self._clock() - sent > _IDLE_CLOSE:
                raise
        return await self._sent(await self._connected())

    async def _connected(self) -> Connection:
        until = min(self._clock() + self._limits.connect, self._until())
        async with asyncio.timeout_at(until):
            self._connection = await self._channel.pool.connect(self._origin)
        return self._connection

    async def _sent(self, connection: Connection) -> Connection:
        connection.send(*self._request)
        while not connection.status:
            await connection.arrival(self._until())
        return connection

    def _until(self) -> float:
        """The limit of the phase that the answer is in, and the total."""
        return min(self._clock() + self._limits.idle if self.has_content else self._first, self._end)

    def _failed(self, error: Exception) -> UpstreamError:
        if not isinstance(error, Expired):
            return _translated(self._provider, error)
        phase = "idle" if self.has_content else "first_byte"
        if self._clock() >= self._end:
            phase = "total"
        return UpstreamTimeout(self._provider, _TIMEOUTS[phase], phase=phase)


_TIMEOUTS = {
    "connect": "could not be connected to in time",
    "first_byte": "did not begin to answer in time",
    "idle": "fell silent in the middle of its answer",
    "total": "took too long for the whole answer",
}


# What may go wrong with a connection, the more special first, and what we make of it. The words are our own: those of
# the system name hosts and addresses.
_TRANSLATIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[str], UpstreamError]], ...] = (
    (TimeoutError, lambda provider: UpstreamTimeout(provider, _TIMEOUTS["connect"], phase="connect")),
    (
        Unresolved,
        lambda provider: UpstreamUnreachable(provider, "its name could not be resolved", code="upstream_dns"),
    ),
    (
        ssl.SSLError,
        lambda provider: UpstreamUnreachable(provider, "no trusted TLS connection could be made", code="upstream_tls"),
    ),
    (OSError, lambda provider: UpstreamUnreachable(provider, "refused the connection", connected=False)),
    (ConnectionClosed, lambda provider: UpstreamUnreachable(provider, "closed the connection early")),
    (BrokenOff, lambda provider: BadUpstreamResponse(provider, "broke off its answer")),
    (NotHttp, lambda provider: BadUpstreamResponse(provider, "sent something that is not HTTP")),
    (
        (ValueError, RuntimeError),
        lambda provider: UpstreamUnreachable(provider, "cannot be asked: its address, or a header, is not a valid one"),
    ),
)
_FAILURES = (OSError, Unresolved, *_BROKEN, ValueError, RuntimeError)


def _translated(provider: str, error: Exception) -> UpstreamError:
    return next(build(provider) for kind, build in _TRANSLATIONS if isinstance(error, kind))
