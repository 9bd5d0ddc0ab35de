"""The response object of OpenAI's Responses wire format, without its output.

Every field that the official SDKs and the Open Responses specification ask for is there.
Source: https://platform.openai.com/docs/api-reference/responses/object
"""

from typing import Annotated, Any

import msgspec


def skeleton(request: dict[str, Any], *, identifier: str, model: str, created: int) -> dict[str, Any]:
    """The response to a request, as it stands before the first token."""
    return {
        **_FIELDS,
        **{name: request[name] for name in _ECHOED if request.get(name) is not None},
        "id": f"resp_{bare(identifier)}",
        "created_at": created,
        "model": model,
        "tools": [_tool(tool) for tool in request.get("tools") or ()],
        "text": {"format": {"type": "text"}, **(request.get("text") or {})},
        "reasoning": {"effort": None, "summary": None, **(request.get("reasoning") or {})},
    }


def bare(identifier: str) -> str:
    return identifier.replace("-", "")


def ending(finish_reason: str | None) -> tuple[str, dict[str, Any] | None]:
    """What a chat answer's finish means for a response: its status and `incomplete_details`."""
    reason = _INCOMPLETE.get(finish_reason or "")
    return ("completed", None) if reason is None else ("incomplete", {"reason": reason})


def tier(name: str | None) -> str:
    """Other providers have tiers of other names, which the SDKs do not take."""
    return name if name in _TIERS else "default"


def usage_of(raw: Any) -> dict[str, Any] | None:
    """A chat answer's usage, unless it is missing or no count."""
    try:
        usage = msgspec.convert(raw, _Usage)
    except msgspec.ValidationError:
        return None
    read, written = usage.prompt_tokens_details or _ReadDetails(), usage.completion_tokens_details or _WrittenDetails()
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": read.cached_tokens or 0,
            "cache_write_tokens": read.cache_write_tokens or 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": written.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def token_logprobs(raw: Any) -> list[dict[str, Any]]:
    """A chat choice's logprobs of its text. None when they are not in OpenAI's form."""
    try:
        tokens = msgspec.convert(raw, _Logprobs | None)
    except msgspec.ValidationError:
        return []
    return [
        {**_token(token), "top_logprobs": [_token(top) for top in token.top_logprobs]}
        for token in (tokens.content if tokens else None) or ()
    ]


_FIELDS: dict[str, Any] = {
    "id": "",
    "object": "response",
    "created_at": 0,
    "completed_at": None,
    "status": "in_progress",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "",
    "output": [],
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": None,
    "user": None,
    "metadata": {},
}
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "presence_penalty",
    "frequency_penalty",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "store",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "metadata",
)
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A function is shown with all its fields, given or not."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # beyond it is no count


class _ReadDetails(msgspec.Struct):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None


class _WrittenDetails(msgspec.Struct):
    reasoning_tokens: _Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count
    prompt_tokens_details: _ReadDetails | None = None
    completion_tokens_details: _WrittenDetails | None = None


class _Token(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list["_Token"] = []


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


def _token(token: _Token) -> dict[str, Any]:
    """Chat may leave the bytes out, a response may not."""
    raw = list(token.token.encode()) if token.bytes is None else token.bytes
    return {"token": token.token, "bytes": raw, "logprob": token.logprob}
