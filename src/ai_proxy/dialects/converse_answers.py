"""Amazon Bedrock's Converse API: its answers as chat completions, whole and in streams."""

from collections.abc import Callable
from typing import Any

import msgspec

from ai_proxy.dialects import converse_wire as wire
from ai_proxy.dialects import pivot
from ai_proxy.dialects.chat import ProviderFault


def to_completion(
    answer: dict[str, Any], *, identifier: str, created: int, model: str, one_call: bool = False
) -> dict[str, Any]:
    """Raises `ProviderFault` for what is no answer.

    `one_call`: of tool calls made together, pass on the first. Bedrock has no word to keep a model from making several.
    """
    read = wire.read(answer, wire.Response)
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for block in read.output.message.content:
        _add(message, block)
    if one_call and "tool_calls" in message:
        del message["tool_calls"][1:]
    if message["content"] is None and "tool_calls" not in message:
        message["content"] = ""
    finish = _finish(read.stopReason, called="tool_calls" in message)
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return pivot.completion(pivot.head(identifier, created, model), [choice], _usage(read.usage))


class ToChunks:
    """A stream's events, one after the other: each an object with the event's type as its one key.

    `finished` is whether there was a finish reason. For `one_call` see `to_completion`.
    """

    def __init__(self, *, identifier: str, created: int, model: str, one_call: bool = False) -> None:
        self._one_call = one_call
        self.finished = False
        self._head = pivot.head(identifier, created, model)
        self._begun = False
        self._tools: dict[int, int] = {}  # content block to tool call
        self._empty: set[int] = set()  # tool calls without arguments so far
        self._marked: set[int] = set()  # content blocks with reasoning
        self._takes: dict[str, tuple[type, Callable[[Any], list[dict[str, Any]]]]] = {
            "messageStart": (dict, lambda _: self._say({"content": ""})),
            "contentBlockStart": (wire.BlockStart, self._start),
            "contentBlockDelta": (wire.BlockDelta, self._delta),
            "contentBlockStop": (wire.BlockStop, self._stop),
            "messageStop": (wire.Stop, self._finish),
            "metadata": (wire.Metadata, self._count),
        }

    def feed(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Raises `ProviderFault` for an exception in the stream. What is new to us is passed over."""
        chunks = []
        for name, body in event.items():
            if name in self._takes:
                kind, take = self._takes[name]
                chunks += take(wire.read(body, kind))
            elif name.endswith("Exception"):
                raise wire.exception(name, body)
        return chunks

    def _say(self, delta: dict[str, Any]) -> list[dict[str, Any]]:
        role = {} if self._begun else {"role": "assistant"}
        self._begun = True
        return [pivot.chunk(self._head, role | delta)]

    def _start(self, block: wire.BlockStart) -> list[dict[str, Any]]:
        tool = block.start.toolUse
        if tool is None or tool.type == _SERVER_SIDE or (self._one_call and self._tools):
            return []
        index = self._tools[block.contentBlockIndex] = len(self._tools)
        self._empty.add(index)
        function = {"name": tool.name, "arguments": ""}
        return self._say(
            {"tool_calls": [{"index": index, "id": tool.toolUseId, "type": "function", "function": function}]}
        )

    def _delta(self, block: wire.BlockDelta) -> list[dict[str, Any]]:
        delta = block.delta
        if delta.toolUse is not None:
            return self._arguments(self._tools.get(block.contentBlockIndex), delta.toolUse.input)
        if delta.text is not None:
            return self._say({"content": delta.text})
        if delta.reasoningContent is not None:
            return self._say(self._thought(delta.reasoningContent, block.contentBlockIndex))
        return []

    def _thought(self, reasoning: wire.Reasoning, block: int) -> dict[str, Any]:
        """Who puts the pieces together adds text to text: the mark must come but once."""
        thought = _reasoning(reasoning, block)
        if block in self._marked:
            del thought["reasoning_details"][0]["format"]
        self._marked.add(block)
        return thought

    def _arguments(self, index: int | None, piece: str) -> list[dict[str, Any]]:
        if index is None or not piece:
            return []
        self._empty.discard(index)
        return self._say({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})

    def _stop(self, block: wire.BlockStop) -> list[dict[str, Any]]:
        """A tool without parameters may be called without a word, which is no JSON."""
        index = self._tools.get(block.contentBlockIndex)
        return self._arguments(index, "{}") if index in self._empty else []

    def _finish(self, stop: wire.Stop) -> list[dict[str, Any]]:
        self.finished = True
        return [pivot.chunk(self._head, {}, finish=_finish(stop.stopReason, called=bool(self._tools)))]

    def _count(self, metadata: wire.Metadata) -> list[dict[str, Any]]:
        usage = _usage(metadata.usage)
        return [] if usage is None else [pivot.usage_chunk(self._head, usage)]


_SERVER_SIDE = "server_tool_use"  # a call that Bedrock makes and answers itself

_ENDS = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_BROKEN = frozenset({"malformed_model_output", "malformed_tool_use"})


def _finish(reason: str, *, called: bool) -> str:
    """In the words of chat. Raises `ProviderFault` for an answer that broke rather than ended."""
    if reason in _BROKEN:
        message = f"The model's answer broke off: {reason}."
        raise ProviderFault(message, code=reason)
    return _ENDS.get(reason, "tool_calls" if called else "stop")


def _add(message: dict[str, Any], block: wire.Block) -> None:
    text = block.text
    if block.citationsContent is not None:
        text = "".join(piece.text for piece in block.citationsContent.content)
    if text is not None:
        message["content"] = (message["content"] or "") + text
    if block.toolUse is not None and block.toolUse.type != _SERVER_SIDE:
        call = block.toolUse
        function = {"name": call.name, "arguments": msgspec.json.encode(call.input or {}).decode()}
        message.setdefault("tool_calls", []).append({"id": call.toolUseId, "type": "function", "function": function})
    if block.reasoningContent is not None:
        _think(message, block.reasoningContent)


def _think(message: dict[str, Any], reasoning: wire.Reasoning) -> None:
    delta = _reasoning(reasoning, len(message.get("reasoning_details", ())))
    if "reasoning_content" in delta:
        message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
    message.setdefault("reasoning_details", []).extend(delta["reasoning_details"])


def _reasoning(given: wire.Reasoning, index: int) -> dict[str, Any]:
    """The thoughts, and in the form in which OpenRouter has them all that must come back with the next request.

    https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
    """
    mark = {"format": wire.REASONING, "index": index}
    if given.redactedContent is not None:
        return {"reasoning_details": [{"type": "reasoning.encrypted", "data": given.redactedContent, **mark}]}
    whole = given.reasoningText or wire.ReasoningText(given.text or "", given.signature)
    detail = {"type": "reasoning.text", "text": whole.text, "signature": whole.signature, **mark}
    return {"reasoning_details": [detail], **({"reasoning_content": whole.text} if whole.text else {})}


def _usage(raw: Any) -> dict[str, Any] | None:
    """What was read from the cache or written to it is not among Bedrock's input tokens; it is among OpenAI's.

    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    try:
        usage = msgspec.convert(raw, wire.Usage)
    except msgspec.ValidationError:
        return None
    read = usage.inputTokens + usage.cacheReadInputTokens + usage.cacheWriteInputTokens
    return pivot.usage(read, usage.outputTokens, cached=usage.cacheReadInputTokens, stored=usage.cacheWriteInputTokens)
