"""Responses of OpenAI's that pass through: what the gateway reads from them, whole or as events.

Source: https://platform.openai.com/docs/api-reference/responses/object
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ai_proxy.core.types import Usage
from ai_proxy.dialects import usage as counts
from ai_proxy.dialects.chat import ABSENT, NULL, Chunk, Completion, ProviderFault, read_fault


def read_answer(body: bytes) -> Completion:
    """Decode a response. Raises `ProviderFault` for one that failed, `msgspec.MsgspecError` for a broken one."""
    return _read(body, body)


def read_event(data: bytes) -> Chunk:
    """Decode one event of a stream. Raises as `read_answer` does."""
    event = _event.decode(data)
    kind = event.type
    if kind == _TEXT:
        return Chunk(data, _string.decode(event.delta) or "", content=True, event=kind)
    if kind in _ENDS:
        answer = _read(event.response, data)
        if kind == _FAILED:
            raise ProviderFault("")
        return Chunk(data, "", answer.finish_reason, answer.usage, content=True, event=kind)
    if kind == "error" or bytes(event.error) != NULL:
        raise _fault(data)
    return Chunk(data, content=kind in _ITEMS or kind.endswith(".delta"), event=kind)


def fold(events: Sequence[bytes]) -> bytes:
    """A stream's events as the response that they make up, as far as it came."""
    for data in reversed(events):
        event = _event.decode(data)
        if event.type in _ENDS:
            return bytes(event.response)
    parts = _Parts()
    for data in events:
        parts.add(_event.decode(data))
    return msgspec.json.encode(parts.response())


_TEXT = "response.output_text.delta"
_FAILED = "response.failed"
_ENDS = frozenset({"response.completed", "response.incomplete", _FAILED})
_ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
_IN_ITEM = {"response.function_call_arguments.delta": "arguments", "response.custom_tool_call_input.delta": "input"}
_IN_PART = {
    _TEXT: ("content", "output_text", "text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text", "text"),
}
_FAILURES = frozenset({"failed", "cancelled"})
_STATUSES = {  # of errors within a response, as they are without one
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "context_length_exceeded": 400,
    "bio_policy": 400,
}
_OF_REQUESTS = ("invalid_", "image_", "empty_image_", "unsupported_image_", "failed_to_download_image")
_CALLS = frozenset(  # items that the caller has to act on
    {
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "computer_call",
        "tool_search_call",
    }
)


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    content: msgspec.Raw = ABSENT


class _Details(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    output: list[_Item] | None = None
    incomplete_details: _Details | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class _Event(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = ABSENT
    output_index: msgspec.Raw = ABSENT
    item: msgspec.Raw = ABSENT
    delta: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_response = msgspec.json.Decoder(_Response)
_parts = msgspec.json.Decoder(list[_Part])
_event = msgspec.json.Decoder(_Event)
_object = msgspec.json.Decoder(dict[str, Any] | None)
_string = msgspec.json.Decoder(str | None)
_number = msgspec.json.Decoder(int | None)


def _read(raw: bytes | msgspec.Raw, body: bytes) -> Completion:
    response = _response.decode(raw)
    if response.status in _FAILURES or bytes(response.error) != NULL:
        raise _fault(response.error)
    if response.output is None:
        message = "no output in the answer"
        raise msgspec.ValidationError(message)
    texts = [_text(item.content) for item in response.output if item.type == "message"]
    return Completion(body, "".join(texts), _finish_reason(response), _usage(response.usage))


def _text(content: msgspec.Raw) -> str:
    if bytes(content) == NULL:
        return ""
    return "".join(part.text or "" for part in _parts.decode(content) if part.type == "output_text")


def _finish_reason(response: _Response) -> str:
    if response.status == "incomplete":
        reason = response.incomplete_details.reason if response.incomplete_details else None
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if any(item.type in _CALLS for item in response.output or ()) else "stop"


def _usage(raw: msgspec.Raw) -> Usage | None:
    """None for what is missing or cannot be a count."""
    usage = counts.decoded(raw)
    read, written = counts.count(usage.get("input_tokens")), counts.count(usage.get("output_tokens"))
    if read is None or written is None:
        return None
    inner, outer = counts.details(usage.get("input_tokens_details")), counts.details(usage.get("output_tokens_details"))
    parts = {
        "cache_read_tokens": inner.get("cached_tokens"),
        "cache_write_tokens": inner.get("cache_write_tokens"),
        "input_audio_tokens": inner.get("audio_tokens"),
        "output_audio_tokens": outer.get("audio_tokens"),
        "reasoning_tokens": outer.get("reasoning_tokens"),
    }
    return counts.counted(read, written, parts, cost=counts.told_cost(usage))


def _fault(error: bytes | msgspec.Raw) -> ProviderFault:
    fault = read_fault(error)
    code = None if fault.code == "error" else fault.code  # the event's own type
    return ProviderFault(fault.message, status=fault.status or _status(code), code=code)


def _status(code: str | None) -> int | None:
    if code is None or code in _STATUSES:
        return _STATUSES.get(code or "")
    return 400 if code.startswith(_OF_REQUESTS) else None


class _Parts:
    """What came of a response that has no end."""

    def __init__(self) -> None:
        self._response: dict[str, Any] = {"object": "response", "error": None}
        self._items: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, str], list[str]] = {}

    def add(self, event: _Event) -> None:
        index = _number.decode(event.output_index) or 0
        if event.type in _ITEMS:
            self._items[index] = _object.decode(event.item) or {}
            self._texts = {place: texts for place, texts in self._texts.items() if place[0] != index}
        elif event.type in _IN_ITEM or event.type in _IN_PART:
            self._texts.setdefault((index, event.type), []).append(_string.decode(event.delta) or "")
        else:
            self._response = _object.decode(event.response) or self._response

    def response(self) -> dict[str, Any]:
        for (index, kind), texts in self._texts.items():
            _write(self._items.setdefault(index, {}), kind, "".join(texts))
        output = [item for _, item in sorted(self._items.items())]
        return {**self._response, "status": "incomplete", "output": output}


def _write(item: dict[str, Any], kind: str, text: str) -> None:
    """Put what came of an item into it. The parts of a message that is broken off are not told apart."""
    item["status"] = "incomplete"
    if kind in _IN_ITEM:
        item[_IN_ITEM[kind]] = text
        return
    place, part, field = _IN_PART[kind]
    before = item.get(place)
    item[place] = [*(before if isinstance(before, list) else ()), {"type": part, field: text}]
