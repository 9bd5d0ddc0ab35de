"""A stream's events as the one answer that they make up, for the record.

What broke off is folded as far as it came. Texts that come in pieces are joined; of all else, the last value counts.
It is total: whatever a reader of events lets through can be folded.
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
    return msgspec.json.encode({**answer, "object": "chat.completion", "choices": choices}, enc_hook=str)


def fold_completions(events: Sequence[bytes]) -> bytes:
    """Events of a text completion as a text completion."""
    answer, choices = _fold(events)
    return msgspec.json.encode({**answer, "choices": choices}, enc_hook=str)


class _Text:
    """A text that grows: joined in the end, since joining it with each piece would take a time that grows as well."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = [*pieces]

    def __str__(self) -> str:
        return "".join(self.pieces)


def _fold(events: Sequence[bytes]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    answer: dict[str, Any] = {}
    last: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for data in events:
        event = msgspec.json.decode(data)
        for choice in event.pop("choices", None) or ():
            _merge(choices.setdefault(choice.get("index", 0), {}), choice)
        if event != last:  # most events have the same to say beside their choices
            _merge(answer, event)
            last = event
    return answer, [choices[index] for index in sorted(choices)]


def _merge(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        before = whole.get(name)
        if name in _PIECES and type(value) is str and type(before) is _Text:
            before.pieces.append(value)
        elif type(value) is dict and type(before) is dict:
            _merge(before, value)
        elif value is None or value == "":  # some providers repeat empty ids and names in every piece
            whole.setdefault(name, value)
        elif name in _PIECES or type(value) in {dict, list} or value != before:
            whole[name] = _joined(name, before, value)


def _joined(name: str, before: Any, value: Any) -> Any:
    match before, value:
        case ((None | ""), str()) if name in _PIECES:
            return _Text(value)
        case str(), str() if name in _PIECES:
            return _Text(before, value)
        case ((None | str() | _Text() | list()), list()):
            return _extended(_parts(before), value)
        case list(), str() if name in _PIECES:
            return _extended(before, _parts(value))
    return value


def _parts(content: Any) -> list[Any]:
    """A text beside parts is one of them: a model may reason in parts and then answer in plain text."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": str(content)}] if content else []


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
