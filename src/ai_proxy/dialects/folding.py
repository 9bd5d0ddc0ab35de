"""A stream's events as the one answer that they make up, for the record.

What broke off is folded as far as it came. Texts that come in pieces are joined; of all else, the last value counts.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

_PIECES = frozenset({"content", "reasoning_content", "reasoning", "refusal", "arguments", "text", "data", "transcript"})


def fold_chat(events: Sequence[bytes]) -> bytes:
    """Chat completion chunks as a chat completion."""
    answer, choices = _fold(events)
    for choice in choices:
        choice["message"] = choice.pop("delta", None) or {}
    return msgspec.json.encode({**answer, "object": "chat.completion", "choices": choices})


def fold_completions(events: Sequence[bytes]) -> bytes:
    """Events of a text completion as a text completion."""
    answer, choices = _fold(events)
    return msgspec.json.encode({**answer, "choices": choices})


def _fold(events: Sequence[bytes]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for data in events:
        event = msgspec.json.decode(data)
        for choice in event.pop("choices", None) or ():
            _merge(choices.setdefault(choice.get("index", 0), {}), choice)
        _merge(answer, event)
    return answer, [choices[index] for index in sorted(choices)]


def _merge(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(value, str) and name in _PIECES:
            whole[name] = (whole.get(name) or "") + value
        elif isinstance(value, dict) and isinstance(whole.get(name), dict):
            _merge(whole[name], value)
        elif isinstance(value, list) and isinstance(whole.get(name), list):
            _extend(whole[name], value)
        elif isinstance(value, list):
            whole[name] = []
            _extend(whole[name], value)
        else:
            whole[name] = value


def _extend(whole: list[Any], parts: list[Any]) -> None:
    """Pieces of tool calls are told apart by their index; other lists (log probabilities) grow."""
    for part in parts:
        index = part.get("index") if isinstance(part, dict) else None
        same = None if index is None else next((one for one in whole if one.get("index") == index), None)
        if same is None:
            whole.append(part)
        else:
            _merge(same, part)
