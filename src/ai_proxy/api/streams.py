"""Streams in the SDKs' wire formats: the provider's events, and how each format ends, well or badly."""

import contextlib
from typing import Any

import msgspec

from ai_proxy.api.error_handlers import anthropic_envelope, envelope
from ai_proxy.api.sse import Form
from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.types import Exchange
from ai_proxy.dialects import responses_events, responses_object, responses_readers
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk

_DONE = b"data: [DONE]\n\n"


def form_of(call: Call) -> Form:
    if call.dialect == "messages":
        return Messages()
    if call.dialect == "responses":
        return Responses()
    return Chat(wants_usage=bool((call.body.get("stream_options") or {}).get("include_usage")))


class _Events:
    media_type = "text/event-stream"
    ping = b": ping\n\n"

    def start(self, _: Exchange) -> bytes:
        return b""


class Chat(_Events):
    """Chat and text completions: nameless events, and `[DONE]`.

    What comes after the finish is kept until the end and sent with the `[DONE]`: clients leave at that, and a
    connection on which more is to come cannot be used again.
    """

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._last = b""

    def chunk(self, chunk: Chunk) -> bytes:
        if chunk.usage_only and not self._wants_usage:  # it was asked for by us
            return b""
        frame = b"data: " + _lines(chunk.data) + b"\n\n"
        if chunk.finish_reason or (self._last and not chunk.content):
            self._last += frame
            return b""
        if self._last:  # another of several answers goes on
            frame, self._last = self._last + frame, b""
        return frame

    def done(self, _: Exchange) -> bytes:
        return self._last + _DONE

    def error(self, error: GatewayError, _: Exchange) -> bytes:
        return self._last + b"data: " + msgspec.json.encode(envelope(error)) + b"\n\n" + _DONE


class _Named(_Events):
    """Named events; the last of them ends the stream. It is kept until the call is recorded."""

    def __init__(self) -> None:
        self._finished = False
        self._last = b""

    def chunk(self, chunk: Chunk) -> bytes:
        self._finished = self._finished or chunk.finish_reason is not None
        if not chunk.data:
            return b""
        frame = b"event: " + chunk.event.encode() + b"\ndata: " + _lines(chunk.data) + b"\n\n"
        if not self._finished:
            return frame
        self._last += frame
        return b""

    def done(self, _: Exchange) -> bytes:
        return self._last


class Messages(_Named):
    """Anthropic's events."""

    def error(self, error: GatewayError, _: Exchange) -> bytes:
        return b"event: error\ndata: " + msgspec.json.encode(anthropic_envelope(error)) + b"\n\n"


class Responses(_Named):
    """The events of OpenAI's responses, which are numbered. The first of them has the response as it begins."""

    def __init__(self) -> None:
        super().__init__()
        self._first = b""
        self._count = 0

    def chunk(self, chunk: Chunk) -> bytes:
        if chunk.data:
            self._first = self._first or chunk.data
            self._count += 1
        return super().chunk(chunk)

    def error(self, error: GatewayError, exchange: Exchange) -> bytes:
        event = responses_events.failed(error.message, error.code, self._so_far(exchange), sequence_number=self._count)
        return b"event: response.failed\ndata: " + msgspec.json.encode(event) + b"\n\n"

    def _so_far(self, exchange: Exchange) -> dict[str, Any]:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            if self._first:
                response: dict[str, Any] = msgspec.json.decode(responses_readers.fold([self._first]))
                return response
        created = exchange.created_at // 1_000_000
        return responses_object.skeleton({}, identifier=exchange.id, model=exchange.model, created=created)


def _lines(data: bytes) -> bytes:
    """A provider may have spread an event's data over several lines."""
    return data.replace(b"\n", b"\ndata: ") if b"\n" in data else data
