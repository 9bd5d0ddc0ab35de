"""A scripted provider on bare sockets, so that it can break HTTP in every way that a real one does."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable

Handler = Callable[["Connection"], Awaitable[None]]

KEY = "sk-upstream-canary-key"  # which servers under test have with it


class Connection:
    """One request as it came in, and the way to answer it."""

    body = b""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head.decode("latin-1")
        self.reader = reader
        self.writer = writer
        self.closed_after: float | None = None

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")  # who asks for our models sends none

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """One piece of a chunked body."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def until_closed(self) -> None:
        """Wait until the gateway hangs up, and note how long that took."""
        began = time.monotonic()
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass
        self.closed_after = time.monotonic() - began

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.writer.transport.abort()


class Upstream:
    """Serves every request with `handler`, on a thread of its own. `connections` keeps what came in."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.handler: Handler = completion()
        self.connections: list[Connection] = []
        self.accepted = 0
        self.open = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Upstream":
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**20, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                connection = Connection(head, reader, writer)
                if head.lower().count(b"\r\nhost:") != 1:  # RFC 9112 section 3.2
                    await connection.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                    return
                connection.body = await reader.readexactly(int(connection.header("content-length") or 0))
                self.connections.append(connection)
                await self.handler(connection)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()


# What a provider may do with a request: each of these makes a handler.


def completion(text: str = "pong", **fields) -> Handler:
    message = {"role": "assistant", "content": text}
    body = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        **fields,
    }
    return status(200, json.dumps(body).encode())


def status(code: int, body: bytes = b"", *, headers: str = "", content_type: str = "application/json") -> Handler:
    """An answer with a body of known length."""

    async def handle(connection: Connection) -> None:
        head = f"HTTP/1.1 {code} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        await connection.send(head.encode() + body)

    return handle


def error(code: int, message: str = "no", *, kind: str = "some_error", headers: str = "") -> Handler:
    body = json.dumps({"error": {"message": message, "type": kind, "code": kind}}).encode()
    return status(code, body, headers=headers)


def raw(data: bytes, *, then_close: bool = True) -> Handler:
    """Exactly these bytes."""

    async def handle(connection: Connection) -> None:
        await connection.send(data)
        if then_close:
            connection.writer.close()

    return handle


async def silence(connection: Connection) -> None:
    """Take the request and say nothing."""
    await connection.until_closed()


def in_turn(*handlers: Handler) -> Handler:
    """Each request is for the next handler, and all that are left for the last."""
    left = list(handlers)

    async def handle(connection: Connection) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(connection)

    return handle


def answer(text: str = "pong") -> Handler:
    """A good answer, as a stream to those who ask for one."""

    async def handle(connection: Connection) -> None:
        await (words if connection.json.get("stream") else completion)(text)(connection)

    return handle


def delta(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def finish(reason: str = "stop") -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


def usage(prompt: int = 3, completion: int = 4) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


def event(body: dict) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def stream(*parts: bytes | float | Handler, end: bytes = END) -> Handler:
    """A stream: bytes are sent as one chunk, numbers are pauses in seconds, handlers take over."""

    async def handle(connection: Connection) -> None:
        await connection.send(STREAM_HEAD)
        for part in parts:
            if isinstance(part, bytes):
                await connection.chunk(part)
            elif isinstance(part, int | float):
                await asyncio.sleep(part)
            else:
                await part(connection)
        if end:
            await connection.send(end)

    return handle


def words(*texts: str, gap: float = 0.0) -> Handler:
    """A good stream, a chunk for each text."""
    parts: list[bytes | float] = []
    for text in texts:
        parts += [delta(text), gap]
    return stream(*parts, finish(), usage(), DONE)
