"""The Anthropic Messages wire format, served by a provider that speaks chat completions.

What is only about Anthropic's own machinery (prompt caches, regions, service tiers) is left out; what an answer
depends on and chat cannot say is refused.
Source: https://platform.claude.com/docs/en/api/messages/create
"""

import re
from typing import Annotated, Any

import msgspec

from ai_proxy.dialects.chat import estimate
from ai_proxy.dialects.messages_history import Block, Message, chat_messages, refused
from ai_proxy.dialects.size import characters


def chat_request(body: dict[str, Any]) -> dict[str, Any]:
    """The same request in chat's terms, but for model and stream. Raises `BadRequest`."""
    try:
        return _chat(_read(body))
    except RecursionError:
        raise refused("The body is nested too deeply", None) from None


def estimate_tokens(body: dict[str, Any]) -> int:
    """Input tokens of a request that nobody counts."""
    return estimate(input_characters=characters(body), output_characters=0).input_tokens


class _Tool(msgspec.Struct, frozen=True):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolChoice(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Format(msgspec.Struct, frozen=True):
    type: str
    schema: dict[str, Any]


class _OutputConfig(msgspec.Struct, frozen=True):
    effort: str | None = None
    format: _Format | None = None


class _Thinking(msgspec.Struct, frozen=True):
    type: str
    budget_tokens: int | None = None


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class _Request(msgspec.Struct, frozen=True):
    messages: list[Message]
    system: str | list[Block] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] | None = None
    metadata: _Metadata | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None  # the beta's name: it still works
    mcp_servers: list[Any] | None = None
    container: Any = None


def _read(body: dict[str, Any]) -> _Request:
    try:
        request = msgspec.convert(body, _Request)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        raise refused(what, re.sub(r"\[(\d+|\.\.\.)\]", r".\1", place).strip(".`") or None) from None
    if request.mcp_servers:
        raise refused("the model's provider runs no MCP servers", "mcp_servers")
    if request.container is not None:
        raise refused("the model's provider has no containers", "container")
    return request


def _chat(request: _Request) -> dict[str, Any]:
    chat: dict[str, Any] = {"messages": chat_messages(request.system, request.messages)}
    if not chat["messages"]:
        raise refused("must say something", "messages")
    chat |= _sampling(request)
    chat |= _tools(request)
    if (form := _format(request)) is not None:
        chat["response_format"] = form
    if (effort := _effort(request)) is not None:
        chat["reasoning_effort"] = effort
    return chat


_MAX_USER = 64  # characters: https://platform.openai.com/docs/api-reference/chat/create (safety_identifier)


def _sampling(request: _Request) -> dict[str, Any]:
    """`top_k` is left out: the OpenAI format lacks it, and its servers refuse fields that they don't know."""
    user = request.metadata.user_id if request.metadata else None
    options = {
        "max_tokens": request.max_tokens,  # the name that every server heeds; OpenAI's provider knows the newer one
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": request.stop_sequences or None,
        "user": user[:_MAX_USER] if user else None,
    }
    return {name: value for name, value in options.items() if value is not None}


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tools(request: _Request) -> dict[str, Any]:
    """Nothing without tools: OpenAI refuses a choice among none."""
    if not request.tools:
        return {}
    options: dict[str, Any] = {"tools": [_tool(tool, f"tools.{at}") for at, tool in enumerate(request.tools)]}
    choice = request.tool_choice
    if choice is None:
        return options
    if choice.type == "tool" and choice.name is not None:
        options["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.type in _CHOICES:
        options["tool_choice"] = _CHOICES[choice.type]
    else:
        raise refused("must be auto, any, none, or name a tool", "tool_choice")
    if choice.disable_parallel_tool_use:
        options["parallel_tool_calls"] = False
    return options


def _tool(tool: _Tool, at: str) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        why = f"a tool of type {tool.type!r} exists at Anthropic only"
        raise refused(why, f"{at}.type")
    if tool.input_schema is None:
        raise refused("must be given", f"{at}.input_schema")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _format(request: _Request) -> dict[str, Any] | None:
    form = (request.output_config and request.output_config.format) or request.output_format
    if form is None:
        return None
    if form.type != "json_schema":
        raise refused("must be json_schema", "output_config.format.type")
    schema = {"name": "answer", "schema": form.schema, "strict": _is_strict(form.schema)}
    return {"type": "json_schema", "json_schema": schema}


def _is_strict(schema: dict[str, Any]) -> bool:
    """Whether OpenAI can hold an answer to it: it wants every property required, where Anthropic has optional ones.

    https://platform.openai.com/docs/guides/structured-outputs
    """
    left: list[Any] = [schema]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            left += part.values()
            properties = part.get("properties")
            if isinstance(properties, dict):
                required = part.get("required")
                if part.get("additionalProperties") is not False or not isinstance(required, list):
                    return False
                if any(name not in required for name in properties):
                    return False
    return True


_BUDGETS = ((2048, "low"), (8192, "medium"))  # tokens to think with, up to which an effort is meant
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})


def _effort(request: _Request) -> str | None:
    """Only where the caller says how much: a chat model that does not reason refuses to hear of it at all."""
    thinking = request.thinking
    if thinking is not None and thinking.type == "disabled":
        return None
    effort = request.output_config.effort if request.output_config else None
    if effort is not None:
        if effort not in _EFFORTS:
            raise refused("must be low, medium, high, xhigh or max", "output_config.effort")
        return effort
    if thinking is None or thinking.budget_tokens is None:
        return None
    return next((name for most, name in _BUDGETS if thinking.budget_tokens <= most), "high")
