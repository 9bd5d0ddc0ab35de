"""The answer as it is written: server-sent events in the caller's format, or bare text."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from fastapi import Response
from starlette.types import Message, Receive, Scope, Send

from ai_proxy.api.disconnect import UntilGone
from ai_proxy.api.error_handlers import envelope
from ai_proxy.core.exceptions import ClientGone, GatewayError
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.money import dollars_of
from ai_proxy.core.types import Exchange
from ai_proxy.dialects.chat import Chunk
from ai_proxy.schemas.ask import usage_of

_encode = msgspec.json.encode


class Form(Protocol):
    """How a stream is put into bytes. `error` is None where it cannot be told, so that the connection is cut."""

    media_type: str
    ping: bytes

    def start(self, exchange: Exchange) -> bytes: ...

    def chunk(self, chunk: Chunk) -> bytes: ...

    def done(self, exchange: Exchange) -> bytes: ...

    def error(self, error: GatewayError, exchange: Exchange) -> bytes | None: ...


class Events:
    """The frames of /api/streaming: start, delta…, then done or error. Ids count from 0."""

    media_type = "text/event-stream"
    ping = b": ping\n\n"

    def __init__(self) -> None:
        self._next_id = 0

    def start(self, exchange: Exchange) -> bytes:
        head = {"id": exchange.id, "model": exchange.model, "provider": exchange.provider, "mock": exchange.mock}
        return self._frame("start", head)

    def chunk(self, chunk: Chunk) -> bytes:
        return self._frame("delta", {"text": chunk.text}) if chunk.text else b""

    def done(self, exchange: Exchange) -> bytes:
        tail = {
            "finish_reason": exchange.finish_reason,
            "usage": usage_of(exchange),
            "cost_usd": dollars_of(exchange.cost),
            "duration_ms": exchange.duration_ms,
        }
        return self._frame("done", tail)

    def error(self, error: GatewayError, _: Exchange) -> bytes:
        return self._frame("error", envelope(error))

    def _frame(self, event: str, data: dict[str, Any]) -> bytes:
        frame = b"id: %d\nevent: %s\ndata: %s\n\n" % (self._next_id, event.encode(), _encode(data))
        self._next_id += 1
        return frame


class PlainText:
    """The text alone. It cannot say that something went wrong, so the connection is cut then."""

    media_type = "text/plain; charset=utf-8"
    ping = b""

    def start(self, _: Exchange) -> bytes:
        return b""

    def chunk(self, chunk: Chunk) -> bytes:
        return chunk.text.encode()

    def done(self, _: Exchange) -> bytes:
        return b""

    def error(self, _: GatewayError, __: Exchange) -> None:
        return None


class AnswerStream(Response):
    """Sends chunks as they come. The first of them has been waited for, so a failure before it was a plain error."""

    def __init__(
        self,
        exchange: Exchange,
        first: Chunk,
        rest: AsyncGenerator[Chunk, None],
        form: Form,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(media_type=form.media_type, headers={**headers, **_HEADERS})
        del self.headers["content-length"]
        self._exchange = exchange
        self._first = first
        self._rest = rest
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await self._send_chunks(scope, receive, send)
            except GatewayError as error:
                end = self._failed(scope, error)
            else:
                end = self._form.done(self._exchange)
        if end is not None:
            await send({"type": "http.response.body", "body": end})

    async def _send_chunks(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = self._form

        async def ping() -> None:
            await send(_part(form.ping))

        interval = scope["state"]["server"].ping_interval
        async with UntilGone(scope, receive, self._exchange, ping=ping, interval=interval) as client:
            await send(_part(form.start(self._exchange) + form.chunk(self._first)))
            async for chunk in self._rest:
                if block := form.chunk(chunk):
                    await send(_part(block))
                    client.heard()

    def _failed(self, scope: Scope, error: GatewayError) -> bytes | None:
        """Too late for a status: the log has it, and the last event says it."""
        scope["error"] = error
        metrics: Metrics = scope["state"]["metrics"]
        metrics.stream_aborted(error.source)
        return None if isinstance(error, ClientGone) else self._form.error(error, self._exchange)


_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def _part(block: bytes) -> Message:
    return {"type": "http.response.body", "body": block, "more_body": True}
