"""Answers of a dialect of the provider's own, as those of chat completions."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ai_proxy.core.ids import uuid7
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion, read_chunk, read_completion

_object = msgspec.json.Decoder(dict[str, Any])


def naming(model: str) -> dict[str, Any]:
    """What every translator is told of an answer."""
    return {"identifier": uuid7(), "created": int(time.time()), "model": model}


def arguments(call: Call, model: str) -> dict[str, Any]:
    """What those are told, too, whose upstream cannot be kept from calling several tools at once."""
    return {**naming(model), "one_call": call.body.get("parallel_tool_calls") is False}


def completion(to_completion: Callable[..., dict[str, Any]], call: Call, model: str) -> Callable[[bytes], Completion]:
    """A reader of whole answers, as `reader`'s, for those translators."""
    return reader(to_completion, arguments(call, model))


def reader(to_completion: Callable[..., dict[str, Any]], told: dict[str, Any]) -> Callable[[bytes], Completion]:
    """A reader of whole answers. It raises `ProviderFault` and `msgspec.MsgspecError`."""

    def read(body: bytes) -> Completion:
        return read_completion(msgspec.json.encode(to_completion(_object.decode(body), **told)))

    return read


def chunks(feed: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Callable[[bytes], list[Chunk]]:
    """A reader of events. It raises as `reader`'s does."""

    def read(data: bytes) -> list[Chunk]:
        return as_chunks(feed(_object.decode(data)))

    return read


def as_chunks(made: Iterable[dict[str, Any]]) -> list[Chunk]:
    return [read_chunk(msgspec.json.encode(chunk)) for chunk in made]
