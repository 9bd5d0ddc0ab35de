"""Connections to providers: made when there is no idle one, and kept for a while after use."""

import asyncio
import math
import socket
import ssl
from collections import defaultdict, deque
from contextlib import suppress
from typing import Any, NamedTuple

import aiohappyeyeballs

from ai_proxy.providers.connection import Connection

# An idle connection is dropped before the provider is likely to: most keep theirs for a minute or more.
_KEEP_ALIVE = 15.0
_KEEP_NAME = 10.0  # seconds that the addresses of a name are remembered
_NEXT_ADDRESS = 0.25  # seconds after which the next address is tried as well (RFC 8305 section 8)


class Unresolved(Exception):
    """The name has no address, as far as is known here."""


class Origin(NamedTuple):
    """Where a connection leads to."""

    scheme: str
    host: str
    port: int


class _Name:
    """What is looked up, or was, and until when that is good."""

    def __init__(self, looking: asyncio.Task[list[Any]]) -> None:
        self.looking = looking
        self.until = math.inf


class Pool:
    """All connections of the process that are idle, for `keep` seconds at most. `close` ends them."""

    def __init__(self, *, keep: float = _KEEP_ALIVE) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self._keep = keep
        self._idle: defaultdict[Origin, deque[tuple[float, Connection]]] = defaultdict(deque)
        self._names: dict[Origin, _Name] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._is_closed = False

    def idle(self, origin: Origin) -> Connection | None:
        """The one that was used last."""
        kept = self._idle.get(origin)
        while kept:
            since, connection = kept.pop()
            if connection.is_open and self._loop.time() - since < self._keep:
                return connection
            connection.close()
        return None

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """After use: it is kept if it can be used again."""
        if self._is_closed or not connection.is_reusable:
            connection.close()
            return
        self._idle[origin].append((self._loop.time(), connection))
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._keep, self._sweep)

    async def connect(self, origin: Origin) -> Connection:
        """Make a new one. Raises `Unresolved`, `ssl.SSLError` or `OSError`."""
        addresses = await self._addresses(origin)
        made = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS, interleave=1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        context = self._context() if origin.scheme == "https" else None
        name = origin.host.rstrip(".") if context else None  # certificates hold no dot at the end
        _, connection = await self._loop.create_connection(Connection, sock=made, ssl=context, server_hostname=name)
        return connection

    def close(self) -> None:
        self._is_closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for name in self._names.values():
            name.looking.cancel()
        for kept in self._idle.values():
            for _, connection in kept:
                connection.close()
        self._idle.clear()

    async def _addresses(self, origin: Origin) -> list[Any]:
        """Those of a name that many ask for at one time are looked up once."""
        name = self._names.get(origin)
        if name is None or name.until < self._loop.time():
            self._names = {its: one for its, one in self._names.items() if one.until >= self._loop.time()}
            name = self._names[origin] = _Name(self._loop.create_task(self._look_up(origin), name="dns"))
        found = await asyncio.shield(name.looking)
        if not found:
            raise Unresolved
        return found

    async def _look_up(self, origin: Origin) -> list[Any]:
        """Nothing if nobody knows them, which the next call asks again."""
        found: list[Any] = []
        with suppress(OSError, UnicodeError):
            found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        self._names[origin].until = self._loop.time() + _KEEP_NAME if found else 0.0
        return found

    def _context(self) -> ssl.SSLContext:
        """Made when it is needed: it takes 20 ms to read the certificates of the system."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _sweep(self) -> None:
        """Close those that were not used for long."""
        self._sweeping = None
        oldest = self._loop.time() - self._keep
        for origin, kept in list(self._idle.items()):
            while kept and (kept[0][0] <= oldest or not kept[0][1].is_open):
                kept.popleft()[1].close()
            if not kept:
                del self._idle[origin]
        if self._idle:
            next_one = min(kept[0][0] for kept in self._idle.values()) + self._keep
            self._sweeping = self._loop.call_at(next_one, self._sweep)
