"""One connection to a provider, on which one request after the other is answered: HTTP/1.1, parsed by llhttp."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_MAX_BARE = 64 * 1024  # bytes without any of a body among them: of a head, of a trailer
_HIGH_WATER = 128 * 1024  # bytes of a body that nobody has taken yet: no more is read until somebody does
_FIRST, _SWITCHING, _FINAL = 100, 101, 200  # statuses: interim ones lie between, but for that of another protocol


class ConnectionClosed(Exception):
    """Before there was an answer. `begun` is whether there was anything of one."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the connection was closed")
        self.begun = begun


class BrokenOff(Exception):
    """In the middle of an answer's body."""


class NotHttp(Exception):
    """What came is no answer in HTTP/1.1."""


class Expired(Exception):
    """Nothing came in time."""


class Connection(asyncio.Protocol):
    """`send` a request, wait for `arrival` until there is a `status`; `take` the body as it comes, until it is `whole`.

    One timer does for all waits, and is set anew only where it would come too late: most of them end long before. The
    methods `on_…` are called by the parser: https://github.com/MagicStack/httptools
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._until = 0.0  # when what `_waiter` waits for is late
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._failure: Callable[[], Exception] | None = None  # made anew each time: a raised one refers to us
        self._headers: list[tuple[bytes, bytes]] = []
        self._blocks: list[bytes] = []
        self._held = 0  # bytes of the body
        self._bare = 0  # bytes that came since the last of the body
        self._is_paused = False
        self._keeps = False  # whether another request may follow
        self.status = 0
        self.whole = False

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether both the request and the answer have come to their ends, and neither side wants to close."""
        transport = self._transport
        return (
            self.whole
            and self._keeps
            and not self._is_paused
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Send a request; one that is long goes out as fast as the provider takes it."""
        assert self._transport is not None  # noqa: S101 - it was open when it was chosen
        self._parser = parser = HttpResponseParser(self)
        # What small servers write, and all clients read.
        parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True, lenient_optional_cr_before_lf=True)
        self._failure = None
        self._headers = []
        self._blocks = []
        self._held = self._bare = self.status = 0
        self.whole = self._keeps = False
        if len(body) <= _HIGH_WATER:
            self._transport.write(head + body)
        else:
            # The last byte apart: TLS counts as unsent only what it has not taken from us.
            self._transport.writelines((head, memoryview(body)[:-1]))
            self._transport.write(body[-1:])

    def arrival(self, until: float) -> asyncio.Future[None]:
        """To be awaited until something is new. `until` is a time of the loop's clock.

        Raises `ConnectionClosed`, `BrokenOff`, `NotHttp` or `Expired`.
        """
        if self._failure is not None:
            raise self._failure()
        self._waiter = self._loop.create_future()
        self._until = until
        if self._timer is None or until < self._rings_at:
            self._set_timer(until)
        return self._waiter

    def take(self) -> bytes:
        """What has come of the body."""
        blocks = self._blocks
        if not blocks:
            return b""
        self._blocks = []
        self._held = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def header(self, name: bytes) -> str | None:
        """`name` in small letters. Of several with the same name, the first."""
        for key, value in self._headers:
            if key.lower() == name:
                return value.strip().decode("latin-1")
        return None

    def close(self) -> None:
        """At once: nobody waits for what is still to be sent, or to come."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        limit = getattr(transport, "set_read_buffer_limits", None)
        if limit is not None:  # TLS reads on while we have paused it, and throws that away when the other side closes
            limit(high=1)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:  # an answer to nothing must not become that to the next request
            self.close()
            return
        self._bare += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._break()
        if self._bare > _MAX_BARE:
            self._break()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Where nothing tells the length of a body, its end is that of the connection (RFC 9112 section 6.3)."""
        self._transport = self._parser = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.status:
            self._failure = self._failure or partial(ConnectionClosed, begun=bool(self._bare))
        elif exc is None and self._failure is None and self._ends_with_connection():
            self.whole = True
        elif not self.whole:
            self._failure = self._failure or BrokenOff
        self._wake()

    def on_message_begin(self) -> None:
        if self.whole:  # a second answer to one request
            raise NotHttp

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # those that come later are trailers
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - it calls
        status = self._parser.get_status_code()
        if status < _FIRST:
            raise NotHttp
        if status >= _FINAL or status == _SWITCHING:
            self.status = status
        else:
            self._headers.clear()

    def on_body(self, body: bytes) -> None:
        self._blocks.append(body)
        self._held += len(body)
        self._bare = 0
        if self._held > _HIGH_WATER and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status and self._parser is not None:
            self.whole = True
            self._keeps = self._parser.should_keep_alive()

    def _ends_with_connection(self) -> bool:
        last_coding = (self.header(b"transfer-encoding") or "").rpartition(",")[2].strip().lower()
        return self.header(b"content-length") is None and last_coding != "chunked"

    def _break(self) -> None:
        """What comes cannot be understood. It is no matter any more if the answer is whole."""
        self._keeps = False
        if not self.whole:
            self._failure = self._failure or (BrokenOff if self.status else NotHttp)
        self.close()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._ring)
        self._rings_at = when

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._until:
            self._set_timer(self._until)
        else:
            self._waiter.set_exception(Expired())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
