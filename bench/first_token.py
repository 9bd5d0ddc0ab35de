"""Time to the first token in steady state: so many streams all the time, each new one beginning when one ends."""

import asyncio
import random
import time
from typing import Any

import uvloop

from bench.processes import BenchError
from bench.targets import Request
from bench.upstream import FIRST, LAST

_LIMIT = 180.0  # seconds for all of it
_OK = b"HTTP/1.1 200"
_END = b"0\r\n\r\n"


def first_tokens(request: Request, *, streams: int, seconds: float) -> tuple[list[float], int]:
    """Seconds from a request to the first word of its answer; and how many answers there were in all.

    The connections begin one after the other, at random within the time of a stream, and stay so far apart. What each
    of them finds first is left out, since not all of them run by then. Raises `BenchError` if an answer is incomplete.
    """
    return uvloop.run(_all(request, streams, seconds))


async def _all(request: Request, streams: int, seconds: float) -> tuple[list[float], int]:
    loop = asyncio.get_running_loop()
    made: list[_Connection] = []
    try:
        async with asyncio.timeout(_LIMIT):
            for _ in range(streams):
                _, connection = await loop.create_connection(lambda: _Connection(request), "127.0.0.1", request.port)
                made.append(connection)
            length = await _length(made[0])
            end = time.perf_counter() + length + seconds
            delays = random.Random(1)  # the same for each target
            each = await asyncio.gather(*(_ask_on(one, delays.uniform(0, length), end) for one in made))
    except (OSError, TimeoutError) as error:
        message = f"streams from {request.url}: {error!r}"
        raise BenchError(message) from None
    finally:
        for connection in made:
            connection.close()
    return [found for one in each for found in one[1:]], 1 + sum(map(len, each))


async def _length(connection: "_Connection") -> float:
    """Seconds that one stream takes alone."""
    began = time.perf_counter()
    await connection.ask()
    return time.perf_counter() - began


async def _ask_on(connection: "_Connection", delay: float, end: float) -> list[float]:
    """One stream after the other, until the time `end`, but two at least."""
    await asyncio.sleep(delay)
    found = [await connection.ask(), await connection.ask()]
    while time.perf_counter() < end:
        found.append(await connection.ask())
    return found


class _Connection(asyncio.Protocol):
    """One request at a time. It does little with what comes, so that it delays nothing."""

    def __init__(self, request: Request) -> None:
        self._url = request.url
        self._request = _bytes(request)
        self._loop = asyncio.get_running_loop()
        self._answered: asyncio.Future[None] | None = None

    async def ask(self) -> float:
        """Seconds to the first word. Returns at the end of the answer."""
        if self._transport.is_closing():
            message = f"{self._url} closed the connection"
            raise BenchError(message)
        self._blocks: list[bytes] = []
        self._tail = b""
        self._first: float | None = None
        self._answered = self._loop.create_future()
        sent = time.perf_counter()
        self._transport.write(self._request)
        await self._answered
        received = b"".join(self._blocks)
        if self._first is None or LAST.encode() not in received or not received.startswith(_OK):
            message = f"an incomplete stream from {self._url}: {received[:300]!r} … {received[-300:]!r}"
            raise BenchError(message)
        return self._first - sent

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._blocks.append(data)
        if self._first is None and FIRST.encode() in b"".join(self._blocks):
            self._first = time.perf_counter()
        self._tail = (self._tail + data)[-len(_END) :]
        if self._tail == _END or not self._blocks[0].startswith(_OK):
            self._finish()

    def connection_lost(self, _: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)


def _bytes(request: Request) -> bytes:
    body = request.json.encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    head = f"POST {request.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body
