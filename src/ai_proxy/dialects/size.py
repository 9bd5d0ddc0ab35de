"""How much text a model is asked to read, or has written, in any format: for estimates of tokens."""

from collections.abc import Mapping
from typing import Any

import msgspec

_TEXTS = ("system", "instructions", "messages", "input", "prompt", "tools")
_ANSWERS = ("choices", "output", "content")
_MOST_PARTS = 100_000
_UNREAD = frozenset(
    {
        *("role", "type", "media_type", "signature", "cache_control"),
        *("id", "call_id", "tool_call_id", "tool_use_id"),
        *("finish_reason", "status", "logprobs", "annotations"),
    }
)


def characters(body: Mapping[str, Any]) -> int:
    """Characters of all texts. Of a body with more parts than any real one has, the rest is not looked at."""
    return _size([body[name] for name in _TEXTS if name in body])


def written(body: bytes) -> int:
    """Characters of all texts, thoughts and tool calls of an answer. None of what is no answer in words."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    return _size([answer[name] for name in _ANSWERS if name in answer]) if isinstance(answer, dict) else 0


def _size(values: list[Any]) -> int:
    """Not counted are names, and the data of images, sounds and files; a document of plain text has its text there."""
    size, left = 0, _MOST_PARTS
    while values and left:
        value = values.pop()
        left -= 1
        kind = type(value)
        if kind is dict:
            for name, part in value.items():
                if name in _UNREAD or (name == "data" and value.get("type") != "text"):
                    continue
                if type(part) is str:
                    size += _length(part) if part[:1] == "d" else len(part)
                else:
                    values.append(part)
        elif kind is str:
            size += _length(value)
        elif kind is list:
            values += value[:left]
    return size


def _length(text: str) -> int:
    """Of what is no image or sound."""
    return 0 if text.startswith("data:") else len(text)
