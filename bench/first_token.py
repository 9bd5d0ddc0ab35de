"""Time to the first token: many streams at once, each read to its end."""

import asyncio
import time

import uvloop

from bench.processes import BenchError
from bench.targets import Request
from bench.upstream import FIRST, LAST

_LIMIT = 60.0
_END = b"0\r\n\r\n"


def first_tokens(request: Request, *, streams: int, rounds: int) -> list[float]:
    """Seconds from a request to the first word of its answer. Raises `BenchError` if an answer is not complete."""
    return uvloop.run(_rounds(request, streams, rounds))


async def _rounds(request: Request, streams: int, rounds: int) -> list[float]:
    connections = [await asyncio.open_connection("127.0.0.1", request.port) for _ in range(streams)]
    try:
        async with asyncio.timeout(_LIMIT):
            await asyncio.gather(*(_ask(*connection, request) for connection in connections))  # for warmth
            return [
                seconds
                for _ in range(rounds)
                for seconds in await asyncio.gather(*(_ask(*connection, request) for connection in connections))
            ]
    except (OSError, TimeoutError) as error:
        message = f"streams from {request.url}: {error!r}"
        raise BenchError(message) from None
    finally:
        for _, writer in connections:
            writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> float:
    sent = time.perf_counter()
    writer.write(_bytes(request))
    first, received = None, b""
    while not received.endswith(_END):
        block = await reader.read(65_536)
        if not block:
            break
        received += block
        if first is None and FIRST.encode() in received:
            first = time.perf_counter()
    if first is None or LAST.encode() not in received or not received.startswith(b"HTTP/1.1 200"):
        message = f"an incomplete stream from {request.url}: {received[:300]!r} … {received[-300:]!r}"
        raise BenchError(message)
    return first - sent


def _bytes(request: Request) -> bytes:
    body = request.json.encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    head = f"POST {request.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body
