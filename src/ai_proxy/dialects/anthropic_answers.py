"""Anthropic's messages as chat completions.

A field of the wrong shape counts as missing.
Source: https://platform.claude.com/docs/en/api/messages/create
"""

from typing import Any

import msgspec

from ai_proxy.dialects import pivot
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.messages_readers import FINISH, fault_of
from ai_proxy.dialects.shapes import as_object, text_of

_MAX_COUNT = 2**53  # of tokens: beyond it is no count


def to_completion(answer: dict[str, Any], *, identifier: str, created: int, model: str) -> dict[str, Any]:
    """Raises `ProviderFault` for an error, or for what is no message."""
    if answer.get("type") == "error":
        raise fault_of(answer.get("error"))
    if not isinstance(answer.get("content"), list):
        raise ProviderFault("")
    blocks = [block for block in answer["content"] if isinstance(block, dict)]
    calls = [_tool_call(block) for block in blocks if block.get("type") == "tool_use"]
    message: dict[str, Any] = {"role": "assistant", "content": _joined(blocks, "text") or None, "refusal": None}
    if not calls:
        message["content"] = message["content"] or ""
    if reasoning := _joined(blocks, "thinking"):
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": finish(answer.get("stop_reason")), "logprobs": None}
    counted = usage(as_object(answer.get("usage")))
    return pivot.completion(pivot.head(identifier, created, model), [choice], counted)


def finish(reason: object) -> str:
    return FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"


def usage(counts: dict[str, Any]) -> dict[str, Any] | None:
    """Anthropic counts cached tokens beside the others, chat among them. None if it did not count."""
    if not isinstance(counts.get("output_tokens"), int):
        return None
    cached, stored = _count(counts, "cache_read_input_tokens"), _count(counts, "cache_creation_input_tokens")
    read = _count(counts, "input_tokens") + cached + stored
    reasoning = _count(as_object(counts.get("output_tokens_details")), "thinking_tokens")
    return pivot.usage(read, _count(counts, "output_tokens"), cached=cached, stored=stored, reasoning=reasoning)


def _count(counts: dict[str, Any], name: str) -> int:
    count = counts.get(name)
    return count if isinstance(count, int) and 0 <= count <= _MAX_COUNT else 0


def _joined(blocks: list[dict[str, Any]], kind: str) -> str:
    return "".join(text_of(block.get(kind)) for block in blocks if block.get("type") == kind)


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": text_of(block.get("name")), "arguments": encoded(block.get("input"))}
    return {"id": text_of(block.get("id")), "type": "function", "function": function}


def encoded(arguments: object) -> str:
    try:
        return msgspec.json.encode(as_object(arguments)).decode()
    except RecursionError:
        raise ProviderFault("") from None
