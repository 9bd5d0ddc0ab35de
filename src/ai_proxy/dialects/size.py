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
    size, left = 0, _MOST_PARTS
    while values and left:
        value = values.pop()
        left -= 1
        if isinstance(value, str):
            size += 0 if value.startswith("data:") else len(value)
        elif isinstance(value, dict):
            values.extend(_read_of(value))
        elif isinstance(value, list):
            values.extend(value[:left])
    return size


def _read_of(part: dict[str, Any]) -> list[Any]:
    """All but the names, and the data of images, sounds and files; a document of plain text has its text there."""
    plain = part.get("type") == "text"
    return [value for name, value in part.items() if name not in _UNREAD and (plain or name != "data")]
