"""Chat completions in the terms of Anthropic's Messages API, and its answers as chat completions.

Fields without a counterpart that change nothing in an answer's meaning (seed, penalties, service tiers) are left out,
as Anthropic's own OpenAI layer does: https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk
Source: https://platform.claude.com/docs/en/api/messages/create
"""

from typing import Any

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.dialects import pivot
from ai_proxy.dialects.anthropic_answers import to_completion
from ai_proxy.dialects.anthropic_events import ToChunks
from ai_proxy.dialects.anthropic_history import conversation
from ai_proxy.dialects.anthropic_models import DEFAULT_MAX_TOKENS, sampling, thinking

__all__ = ["ToChunks", "to_completion", "upstream_request"]


def upstream_request(chat: dict[str, Any], *, model: str, stream: bool) -> dict[str, Any]:
    """The body for `POST /v1/messages`. Raises `BadRequest`."""
    try:
        return _translated(chat, model) | ({"stream": True} if stream else {})
    except RecursionError:
        why = "The body is nested too deeply."
        raise BadRequest(why) from None


def _translated(chat: dict[str, Any], model: str) -> dict[str, Any]:
    request = pivot.read({**chat, "parallel_tool_calls": None})  # which other providers cannot limit
    limit = _limit(request)
    system, messages = conversation(request.messages)
    tools = _tools(request, one_at_a_time=chat.get("parallel_tool_calls") is False)
    body: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": messages, **tools}
    body |= thinking(
        model,
        request.reasoning_effort,
        max_tokens=limit,
        forced=tools.get("tool_choice", _AUTO)["type"] in ("any", "tool"),
        continued=messages[-1]["content"][0]["type"] == "tool_result",
    )
    body |= sampling(model, request, thinks="thinking" in body)
    _add_format(request.response_format, body, system)
    if system:
        body["system"] = system
    stops = [stop for stop in request.stops or () if stop.strip()]  # Anthropic refuses blank ones
    return body | ({"stop_sequences": stops} if stops else {}) | _user(chat)


def _limit(request: pivot.Request) -> int:
    if request.n not in (None, 1):
        pivot.refuse("Anthropic's models give one answer at a time", "n")
    if request.logprobs:
        pivot.refuse("Anthropic's models do not tell them", "logprobs")
    if request.limit is None:
        return DEFAULT_MAX_TOKENS
    if request.limit < 1:
        pivot.refuse("must be at least 1", "max_tokens")
    return request.limit


_AUTO = {"type": "auto"}
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def _tools(request: pivot.Request, *, one_at_a_time: bool) -> dict[str, Any]:
    if not request.tools:
        return {}
    given = pivot.tool_choice(request) or pivot.Choice("auto")
    functions = [tool.function for tool in request.tools]
    choice: dict[str, Any] = {"type": _CHOICES[given.mode]}
    if given.mode == "required" and len(given.names) == 1:
        choice = {"type": "tool", "name": given.names[0]}
    elif given.names:  # there is no choice among some: the others are not shown
        functions = [function for function in functions if function.name in given.names]
    if one_at_a_time and given.mode != "none":
        choice["disable_parallel_tool_use"] = True
    tools = [_tool(function) for function in functions]
    return {"tools": tools} if choice == _AUTO or not tools else {"tools": tools, "tool_choice": choice}


def _tool(function: pivot.ToolFunction) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": function.name, "input_schema": {"type": "object", **(function.parameters or {})}}
    if function.description is not None:
        tool["description"] = function.description
    if function.strict:
        tool["strict"] = True
    return tool


def _add_format(form: pivot.ResponseFormat | None, body: dict[str, Any], system: list[dict[str, Any]]) -> None:
    """A schema is held to by the API; that it be JSON at all can only be asked for.

    https://platform.claude.com/docs/en/build-with-claude/structured-outputs
    """
    if form is None or form.type == "text":
        return
    schema = form.json_schema.schema if form.json_schema else None
    if schema is None:
        system.append({"type": "text", "text": "Answer with one JSON object, and nothing before or after it."})
    else:
        config = body.setdefault("output_config", {})
        config["format"] = {"type": "json_schema", "schema": _closed(schema)}


def _closed(schema: Any) -> Any:
    """The schema with every object closed, as the API demands and only OpenAI's strict mode already does."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {name: part if name in _VALUES else _closed(part) for name, part in schema.items()}
    is_object = whole.get("type") == "object" or "properties" in whole
    return {"additionalProperties": False, **whole} if is_object else whole


_VALUES = frozenset({"const", "default", "enum", "example", "examples"})  # data, where a schema may be looked for
_MAX_USER = 256  # characters


def _user(chat: dict[str, Any]) -> dict[str, Any]:
    user = chat.get("safety_identifier") or chat.get("user")
    return {"metadata": {"user_id": user[:_MAX_USER]}} if isinstance(user, str) and user else {}
