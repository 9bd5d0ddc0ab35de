"""The events of an Anthropic stream as chat completion chunks.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Callable
from typing import Any, ClassVar

from ai_proxy.dialects import pivot
from ai_proxy.dialects.anthropic_answers import encoded, finish, usage
from ai_proxy.dialects.messages_readers import fault_of
from ai_proxy.dialects.shapes import as_object, text_of

_TEXTS = {"text_delta": ("text", "content"), "thinking_delta": ("thinking", "reasoning_content")}


class ToChunks:
    """Feed it the events of one answer, decoded. The last two chunks bear the finish reason and the usage."""

    def __init__(self, *, identifier: str, created: int, model: str) -> None:
        self._head = pivot.head(identifier, created, model)
        self._started = False
        self._finished = False
        self._calls: dict[int, _Call] = {}  # by the index of their block
        self._counts: dict[str, Any] = {}

    def feed(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Raises `ProviderFault` for an error event."""
        kind = event.get("type")
        if kind == "error":
            raise fault_of(event.get("error"))
        read = self._READERS.get(kind) if isinstance(kind, str) else None
        return [] if read is None else read(self, event)

    def _start(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        self._count(as_object(event.get("message")).get("usage"))
        return self._said({"content": ""})

    def _near_end(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        self._count(event.get("usage"))
        return self._finish(as_object(event.get("delta")).get("stop_reason"))

    def _end(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        counted = usage(self._counts)
        return [*self._finish("end_turn"), *([pivot.usage_chunk(self._head, counted)] if counted else [])]

    def _count(self, counts: object) -> None:
        """Counts are cumulative, and the later event may leave out those of the input."""
        self._counts |= {name: count for name, count in as_object(counts).items() if count is not None}

    def _said(self, delta: dict[str, Any]) -> list[dict[str, Any]]:
        if not self._started:
            self._started = True
            delta = {"role": "assistant", **delta}
        return [pivot.chunk(self._head, delta)]

    def _begin(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        block, index = as_object(event.get("content_block")), event.get("index")
        if block.get("type") == "text" and (text := text_of(block.get("text"))):
            return self._said({"content": text})
        if block.get("type") != "tool_use" or not isinstance(index, int):
            return []
        given = as_object(block.get("input"))
        call = self._calls[index] = _Call(len(self._calls), encoded(given) if given else "")
        function = {"name": text_of(block.get("name")), "arguments": call.arguments}
        piece = {"index": call.position, "id": text_of(block.get("id")), "type": "function", "function": function}
        return self._said({"tool_calls": [piece]})

    def _grow(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        delta = as_object(event.get("delta"))
        kind = text_of(delta.get("type"))
        if kind in _TEXTS:
            source, name = _TEXTS[kind]
            text = text_of(delta.get(source))
            return self._said({name: text}) if text else []
        call = self._call(event)
        if call is None or kind != "input_json_delta":
            return []
        return self._argue(call, text_of(delta.get("partial_json")))

    def _stop(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """A call without arguments has none of their deltas, where chat wants an empty object."""
        call = self._call(event)
        return [] if call is None or call.arguments else self._argue(call, "{}")

    def _call(self, event: dict[str, Any]) -> "_Call | None":
        index = event.get("index")
        return self._calls.get(index) if isinstance(index, int) else None

    def _argue(self, call: "_Call", text: str) -> list[dict[str, Any]]:
        call.arguments += text
        return self._said({"tool_calls": [{"index": call.position, "function": {"arguments": text}}]}) if text else []

    def _finish(self, reason: object) -> list[dict[str, Any]]:
        if self._finished or reason is None:
            return []
        self._finished = True
        return [pivot.chunk(self._head, {}, finish=finish(reason))]

    _READERS: ClassVar[dict[str, Callable[["ToChunks", dict[str, Any]], list[dict[str, Any]]]]] = {
        "message_start": _start,
        "content_block_start": _begin,
        "content_block_delta": _grow,
        "content_block_stop": _stop,
        "message_delta": _near_end,
        "message_stop": _end,
    }


class _Call:
    """A tool call: its place among the answer's calls, and its arguments so far."""

    def __init__(self, position: int, arguments: str) -> None:
        self.position = position
        self.arguments = arguments
