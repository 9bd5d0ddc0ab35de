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
        whole[name] = _joined(name, whole.get(name), value)


def _joined(name: str, before: Any, value: Any) -> Any:
    """Some providers repeat empty ids and names in every piece, so nothing empty replaces anything."""
    if value is None or value == "":
        return value if before is None else before
    match before, value:
        case str(), str() if name in _PIECES:
            return before + value
        case dict(), dict():
            _merge(before, value)
            return before
        case ((None | list() | str()), list()):
            return _extended(_parts(before), value)
        case list(), str() if name in _PIECES:
            return _extended(before, _parts(value))
    return value


def _parts(content: Any) -> list[Any]:
    """A text beside parts is one of them: a model may reason in parts and then answer in plain text."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _extended(whole: list[Any], parts: list[Any]) -> list[Any]:
    """Pieces of tool calls are told apart by their index; other lists (log probabilities) grow."""
    for part in parts:
        index = _index(part)
        same = None if index is None else next((one for one in whole if _index(one) == index), None)
        if same is None:
            whole.append(part)
        else:
            _merge(same, part)
    return whole


def _index(part: Any) -> Any:
    return part.get("index") if isinstance(part, dict) else None
