"""The fake provider of streams: 102 chunks of chat completion, each its own write, at a steady pace.

Run as a process of its own: `python upstream.py PORT`. It counts its chunks (GET /), has one model (GET /v1/models),
and a request without `"stream":true` gets a whole answer.
"""

import asyncio
import json
import sys
from typing import Any

import uvloop

CHUNKS = 102
DELTAS = CHUNKS - 4  # beside the role, the finish, the usage and [DONE]
PACE = 0.01  # seconds between chunks: so slow that no chunk waits for another in a socket, and none is read with it
FIRST, LAST = "word0 ", f"word{DELTAS - 1} "
ANSWER = "Hello! This is the answer of the fake upstream, about as long as a short answer is."
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32},
    }
)

MODELS = json.dumps({"object": "list", "data": [{"id": "fake", "object": "model", "created": 1, "owned_by": "bench"}]})


class Upstream(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    written = 0  # chunks, on all connections

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, complete, body = self._received.partition(b"\r\n\r\n")
        if not complete or len(body) < _length(head):
            return
        self._received = b""
        if head.startswith(b"GET /v1/models"):
            self._transport.write(_whole(MODELS))
        elif head.startswith(b"GET"):
            self._transport.write(_whole(str(Upstream.written)))
        elif b'"stream":true' in body.replace(b" ", b""):
            self._transport.write(_HEAD)
            self._send(0)
        else:
            self._transport.write(_whole(COMPLETION))

    def _send(self, number: int) -> None:
        self._transport.write(_FRAMES[number])
        Upstream.written += 1
        if number + 1 < CHUNKS:
            self._timer = self._loop.call_later(PACE, self._send, number + 1)


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)


def _whole(body: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def _event(**fields: Any) -> str:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
    return json.dumps(head | fields, separators=(",", ":"))


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> str:
    return _event(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])


def _frames() -> list[bytes]:
    events = [
        _delta({"role": "assistant", "content": ""}),
        *(_delta({"content": f"word{number} "}) for number in range(DELTAS)),
        _delta({}, "stop"),
        _event(choices=[], usage={"prompt_tokens": 12, "completion_tokens": DELTAS, "total_tokens": 12 + DELTAS}),
        "[DONE]",
    ]
    frames = [b"%x\r\ndata: %s\n\n\r\n" % (len(event) + 8, event.encode()) for event in events]
    return [*frames[:-1], frames[-1] + b"0\r\n\r\n"]


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FRAMES = _frames()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
