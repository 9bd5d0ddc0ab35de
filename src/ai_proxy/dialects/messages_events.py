"""Chat completion chunks as the events of an Anthropic stream.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from typing import Any

import msgspec

from ai_proxy.dialects.messages_answers import (
    first_choice,
    opening,
    reasoning_of,
    stopped,
    text_block,
    thinking_block,
    tool_block,
    tool_id,
    usage,
    wants_thinking,
)
from ai_proxy.dialects.shapes import as_list, as_object, text_of

_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool": ("input_json_delta", "partial_json"),
}


class FromChunks:
    """Feed it the chunks of one answer; `close` gives the last events.

    Anthropic's blocks come one after the other, chat's deltas in any order. Text and thinking open and close as they
    come. A tool call stays open to the end, because no delta says that it was the last of its call; what else comes
    meanwhile waits.
    """

    def __init__(self, request: dict[str, Any], *, identifier: str, model: str, created: int) -> None:
        """`created` goes unused: a message does not say when it was made."""
        self._request = request
        self._identifier = identifier
        self._model = model
        self._thinks = wants_thinking(request)
        self._started = False
        self._open: _Block | None = None
        self._waiting: list[_Block] = []
        self._calls: dict[int, _Block] = {}
        self._tools = 0
        self._index = 0
        self._refused = False
        self._last: dict[str, Any] = {}
        self._usage: object = None

    def feed(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        events = self._start()
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]
        choice = first_choice(chunk)
        if choice.get("finish_reason") is not None:
            self._last = choice
        delta = as_object(choice.get("delta"))
        if self._thinks:
            events += self._say("thinking", reasoning_of(delta))
        refusal = text_of(delta.get("refusal"))
        self._refused = self._refused or bool(refusal)
        events += self._say("text", text_of(delta.get("content")) + refusal)
        for piece in as_list(delta.get("tool_calls")):
            if isinstance(piece, dict):
                events += self._call(piece)
        return events

    def close(self) -> list[dict[str, Any]]:
        events = self._start() + self._stop()
        for block in self._waiting:
            if block.name or block.text:
                events += [*self._begin(block), *self._stop()]
        self._waiting.clear()
        end = stopped(self._last, self._request, tools=self._tools > 0, refused=self._refused)
        events.append({"type": "message_delta", "delta": end, "usage": usage(self._usage)})
        events.append({"type": "message_stop"})
        return events

    def _start(self) -> list[dict[str, Any]]:
        if self._started:
            return []
        self._started = True
        return [{"type": "message_start", "message": opening(self._identifier, self._model)}]

    def _say(self, kind: str, text: str) -> list[dict[str, Any]]:
        if not text:
            return []
        if self._open is not None and self._open.kind == kind:
            return [self._delta(kind, text)]
        if self._open is not None and self._open.kind == "tool":
            self._wait(kind, text)
            return []
        return [*self._stop(), *self._begin(_Block(kind, text))]

    def _wait(self, kind: str, text: str) -> None:
        if not self._waiting or self._waiting[-1].kind != kind:
            self._waiting.append(_Block(kind))
        self._waiting[-1].text += text

    def _call(self, piece: dict[str, Any]) -> list[dict[str, Any]]:
        """A piece of a tool call: the first opens its block, unless another call is open already."""
        block, new = self._block(piece)
        function = as_object(piece.get("function"))
        block.name = block.name or text_of(function.get("name"))
        text = _arguments(function.get("arguments"))
        if block is self._open:
            return [self._delta("tool", text)] if text else []
        block.text += text
        if new:
            self._waiting.append(block)
        if block.name and block is self._waiting[0] and (self._open is None or self._open.kind != "tool"):
            self._waiting.pop(0)
            return [*self._stop(), *self._begin(block)]
        return []

    def _block(self, piece: dict[str, Any]) -> tuple["_Block", bool]:
        """The call that a piece belongs to, and whether it is a new one.

        Some servers forget the index, and only the id shows that another call has begun; some make up an id for every
        piece, and only the name shows that it has not.
        """
        index, identifier = piece.get("index"), text_of(piece.get("id"))
        key = index if isinstance(index, int) else 0
        block = self._calls.get(key)
        named = bool(text_of(as_object(piece.get("function")).get("name")))
        if block is None or (named and identifier and block.identifier and identifier != block.identifier):
            block = self._calls[key] = _Block("tool", identifier=identifier)
            return block, True
        block.identifier = block.identifier or identifier
        return block, False

    def _begin(self, block: "_Block") -> list[dict[str, Any]]:
        self._open = block
        if block.kind == "tool":
            block.identifier = block.identifier or tool_id(self._identifier, self._tools)
            self._tools += 1
        start = {"type": "content_block_start", "index": self._index, "content_block": block.opening()}
        return [start, self._delta(block.kind, block.text)] if block.text else [start]

    def _delta(self, kind: str, text: str) -> dict[str, Any]:
        name, field = _DELTAS[kind]
        return {"type": "content_block_delta", "index": self._index, "delta": {"type": name, field: text}}

    def _stop(self) -> list[dict[str, Any]]:
        if self._open is None:
            return []
        self._open = None
        self._index += 1
        return [{"type": "content_block_stop", "index": self._index - 1}]


class _Block:
    """A content block: `text` is what waits to be sent."""

    def __init__(self, kind: str, text: str = "", *, identifier: str = "") -> None:
        self.kind = kind
        self.text = text
        self.identifier = identifier
        self.name = ""

    def opening(self) -> dict[str, Any]:
        if self.kind == "tool":
            return tool_block(self.identifier, self.name, {})
        return text_block("") if self.kind == "text" else thinking_block("")


def _arguments(value: object) -> str:
    """Ollama's have been objects: https://github.com/ollama/ollama/blob/main/docs/api.md"""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else text_of(value)
