"""Output items of the Responses wire format, as they are written: events for the stream, and the finished item.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Callable
from typing import Any

from ai_proxy.dialects.responses_tools import Tool, as_input

Emit = Callable[[str, dict[str, Any]], None]  # of an event's type, and its other fields


class Reasoning:
    """What the model thought. A caller that asked for a summary gets it as one, because chat has no other."""

    def __init__(self, emit: Emit, identifier: str, index: int, *, summary: bool) -> None:
        self._item: dict[str, Any] = {"id": f"rs_{identifier}{index:02x}", "type": "reasoning"}
        self._item |= {"summary": [], "content": [], "encrypted_content": None}
        self._emit = emit
        self._form = _SUMMARY if summary else _CONTENT
        self.index = index
        self._place = {"item_id": self._item["id"], "output_index": index, f"{self._form}_index": 0}
        self._texts: list[str] = []
        _added(emit, index, self._item)
        emit(f"response.{_PARTS[self._form]}.added", {**self._place, "part": self._part("")})

    def write(self, text: str) -> None:
        self._texts.append(text)
        self._emit(f"response.{_TEXTS[self._form]}.delta", {**self._place, "delta": text})

    def close(self, status: str) -> dict[str, Any]:
        text = "".join(self._texts)
        part = self._part(text)
        self._emit(f"response.{_TEXTS[self._form]}.done", {**self._place, "text": text})
        self._emit(f"response.{_PARTS[self._form]}.done", {**self._place, "part": part})
        return _done(self._emit, self.index, {**self._item, self._form: [part], "status": status})

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": _TYPES[self._form], "text": text}


class Message:
    """What the model said: parts of text, or of refusal."""

    def __init__(self, emit: Emit, identifier: str, index: int) -> None:
        self._item = {"id": f"msg_{identifier}{index:02x}", "type": "message", "role": "assistant", "content": []}
        self._emit = emit
        self.index = index
        self._parts: list[dict[str, Any]] = []
        self._kind = ""
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        _added(emit, index, self._item)

    def write(self, text: str, logprobs: list[Any]) -> None:
        self._turn_to("output_text")
        self._texts.append(text)
        self._logprobs += logprobs
        self._emit("response.output_text.delta", {**self._place(), "delta": text, "logprobs": logprobs})

    def refuse(self, text: str) -> None:
        self._turn_to("refusal")
        self._texts.append(text)
        self._emit("response.refusal.delta", {**self._place(), "delta": text})

    def close(self, status: str) -> dict[str, Any]:
        self._finish_part()
        return _done(self._emit, self.index, {**self._item, "content": self._parts, "status": status})

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item["id"], "output_index": self.index, "content_index": len(self._parts)}

    def _part(self, text: str, logprobs: list[Any]) -> dict[str, Any]:
        if self._kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def _turn_to(self, kind: str) -> None:
        if kind == self._kind:
            return
        self._finish_part()
        self._kind = kind
        self._emit("response.content_part.added", {**self._place(), "part": self._part("", [])})

    def _finish_part(self) -> None:
        if not self._kind:
            return
        place, text, logprobs = self._place(), "".join(self._texts), self._logprobs
        part = self._part(text, logprobs)
        if self._kind == "refusal":
            self._emit("response.refusal.done", {**place, "refusal": text})
        else:
            self._emit("response.output_text.done", {**place, "text": text, "logprobs": logprobs})
        self._emit("response.content_part.done", {**place, "part": part})
        self._parts.append(part)
        self._kind, self._texts, self._logprobs = "", [], []


class Call:
    """A call of a tool. `wrapped` is one of a custom tool that the model knows as a function."""

    def __init__(self, emit: Emit, identifier: str, index: int, call_id: str, tool: Tool, *, wrapped: bool) -> None:
        kind, prefix = ("custom_tool_call", "ctc") if tool.custom else ("function_call", "fc")
        self._field = "input" if tool.custom else "arguments"
        self._event = "response.custom_tool_call_input" if tool.custom else "response.function_call_arguments"
        self._item = {"id": f"{prefix}_{identifier}{index:02x}", "type": kind, "call_id": call_id, "name": tool.name}
        if tool.namespace:
            self._item["namespace"] = tool.namespace
        self._emit = emit
        self.index = index
        self._place = {"item_id": self._item["id"], "output_index": index}
        self._wrapped = wrapped
        self._texts: list[str] = []
        _added(emit, index, {**self._item, self._field: ""})

    def write(self, text: str) -> None:
        self._texts.append(text)
        if not self._wrapped:
            self._emit(f"{self._event}.delta", {**self._place, "delta": text})

    def close(self, status: str) -> dict[str, Any]:
        text = "".join(self._texts)
        if self._wrapped:  # what stands inside the JSON is known at its end
            text = as_input(text)
            self._emit(f"{self._event}.delta", {**self._place, "delta": text})
        self._emit(f"{self._event}.done", {**self._place, self._field: text})
        return _done(self._emit, self.index, {**self._item, self._field: text, "status": status})


_CONTENT, _SUMMARY = "content", "summary"
_PARTS = {_CONTENT: "content_part", _SUMMARY: "reasoning_summary_part"}
_TEXTS = {_CONTENT: "reasoning_text", _SUMMARY: "reasoning_summary_text"}
_TYPES = {_CONTENT: "reasoning_text", _SUMMARY: "summary_text"}


def _added(emit: Emit, index: int, item: dict[str, Any]) -> None:
    emit("response.output_item.added", {"output_index": index, "item": {**item, "status": "in_progress"}})


def _done(emit: Emit, index: int, item: dict[str, Any]) -> dict[str, Any]:
    emit("response.output_item.done", {"output_index": index, "item": item})
    return item
