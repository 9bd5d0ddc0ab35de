"""Amazon Bedrock's Converse API: what a chat completions request becomes. Answers are in `converse_answers`.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import re
from typing import Any, Literal

import msgspec

from ai_proxy.dialects import converse_wire as wire
from ai_proxy.dialects import pivot
from ai_proxy.dialects.pivot import Media, Message, Part, Request, ToolCall, refuse

# What Converse has no field for, beside the values with which it says nothing. (A seed only ever was a wish.)
_UNSAYABLE: tuple[tuple[str, frozenset[object]], ...] = (
    ("n", frozenset({1})),
    ("presence_penalty", frozenset({0})),
    ("frequency_penalty", frozenset({0})),
    ("logprobs", frozenset({False})),
)
# Fields of Bedrock's own that a caller may add as they are.
_OWN = ("additionalModelRequestFields", "guardrailConfig")


def upstream_request(chat: dict[str, Any]) -> dict[str, Any]:
    """The body of a Converse or ConverseStream request. Raises `BadRequest` for what cannot be said in it."""
    request = pivot.read(chat)
    for name, neutral in _UNSAYABLE:
        value = getattr(request, name)
        if value is not None and value not in neutral:
            refuse("Amazon Bedrock has nothing like it", name)
    conversation = _Conversation()
    for position, message in enumerate(request.messages):
        conversation.add(message, f"messages.{position}")
    return pivot.given(
        {
            "messages": conversation.messages,
            "system": conversation.system or None,
            "inferenceConfig": _inference_config(request),
            "toolConfig": _tool_config(request, called=conversation.called),
            "outputConfig": _output_config(request),
            **_own(chat, request),
        }
    )


class _Conversation:
    """The messages so far. Two of one role become one, because roles must alternate. `called` is whether tools were."""

    def __init__(self) -> None:
        self.system: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.called = False

    def add(self, message: Message, param: str) -> None:
        match message.role:
            case "system" | "developer":
                pivot.text_of(message, param)
                self.system += [block for block in _blocks(message, param) if block != {"text": ""}]
            case "user":
                self._turn("user", _blocks(message, param))
            case "assistant":
                self._turn("assistant", self._said(message, param))
            case "tool":
                self._turn("user", [_result(message, param)])

    def _turn(self, role: Literal["user", "assistant"], blocks: list[dict[str, Any]]) -> None:
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        elif blocks:
            self.messages.append({"role": role, "content": blocks})

    def _said(self, message: Message, param: str) -> list[dict[str, Any]]:
        text = pivot.text_of(message, param)
        calls = [
            _call(call, f"{param}.tool_calls.{position}") for position, call in enumerate(message.tool_calls or [])
        ]
        self.called = self.called or bool(calls)
        # A text of spaces alone is refused.
        return [*_reasoning(message.reasoning_details), *([{"text": text}] if text.strip() else []), *calls]


def _reasoning(details: object) -> list[dict[str, Any]]:
    """What the model thought before, which it wants back with its signature when tools are used. Nobody else's.

    https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-call.html
    """
    blocks: list[dict[str, Any]] = []
    for detail in details if isinstance(details, list) else []:
        match detail:
            case {"format": wire.REASONING, "text": str(text), "signature": str(signature)}:
                blocks.append({"reasoningText": {"text": text, "signature": signature}})
            case {"format": wire.REASONING, "data": str(data)}:
                blocks.append({"redactedContent": data})
    return [{"reasoningContent": block} for block in blocks]


def _call(call: ToolCall, param: str) -> dict[str, Any]:
    arguments = pivot.arguments_of(call, param)
    return {"toolUse": {"toolUseId": call.id, "name": call.function.name, "input": arguments}}


def _result(message: Message, param: str) -> dict[str, Any]:
    if message.tool_call_id is None:
        refuse("must be given", f"{param}.tool_call_id")
    return {"toolResult": {"toolUseId": message.tool_call_id, "content": [{"text": pivot.text_of(message, param)}]}}


def _blocks(message: Message, param: str) -> list[dict[str, Any]]:
    if not isinstance(message.content, list):
        return [{"text": message.content or ""}]
    blocks = []
    for position, part in enumerate(message.content):
        blocks.append(_block(part, f"{param}.content.{position}"))
        if part.cache_control is not None:
            blocks.append({"cachePoint": {"type": "default"}})
    return blocks


def _block(part: Part, param: str) -> dict[str, Any]:
    if part.text is not None:
        return {"text": part.text}
    media = pivot.media_of(part, param)
    if not media.data:
        refuse("Amazon Bedrock fetches nothing: send the data, as a data URL in base64", param)
    source = {"bytes": media.data}
    if media.kind == "file":
        return {"document": {"format": _format(media, _DOCUMENTS, param), "name": _name(media), "source": source}}
    if media.kind == "audio":
        return {"audio": {"format": media.mime.removeprefix("audio/"), "source": source}}
    return {"image": {"format": _format(media, _IMAGES, param), "source": source}}


# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ImageBlock.html and API_runtime_DocumentBlock.html
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}


def _format(media: Media, formats: dict[str, str], param: str) -> str:
    if media.mime not in formats:
        refuse(f"must be one of {', '.join(formats)}", param)
    return formats[media.mime]


def _name(media: Media) -> str:
    """A file's name in the few characters that are allowed."""
    name = re.sub(r"[^A-Za-z0-9()\[\]-]+", " ", media.name.rpartition(".")[0] or media.name)
    return name.strip()[:200].strip() or "document"


def _inference_config(request: Request) -> dict[str, Any] | None:
    fields = {
        "maxTokens": request.limit,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": request.stops,
    }
    return pivot.given(fields) or None


def _tool_config(request: Request, *, called: bool) -> dict[str, Any] | None:
    choice = pivot.tool_choice(request)
    if choice is not None and choice.mode == "none":
        if called:  # then tools must be declared, and there is no other way to forbid them
            refuse("Amazon Bedrock has no 'none' for a conversation in which tools were called", "tool_choice")
        return None
    if not request.tools:
        return None
    names = choice.names if choice is not None else ()
    tools = [_tool(tool) for tool in (tool.function for tool in request.tools) if not names or tool.name in names]
    if not tools:
        refuse("names none of the tools", "tool_choice")
    return pivot.given({"tools": tools, "toolChoice": choice and _tool_choice(choice)})


def _tool(function: pivot.ToolFunction) -> dict[str, Any]:
    spec = {
        "name": function.name,
        "description": function.description or None,  # an empty one is refused
        "inputSchema": {"json": function.parameters or {"type": "object", "properties": {}}},
        "strict": function.strict or None,
    }
    return {"toolSpec": pivot.given(spec)}


def _tool_choice(choice: pivot.Choice) -> dict[str, Any]:
    if choice.mode == "auto":
        return {"auto": {}}
    return {"tool": {"name": choice.names[0]}} if len(choice.names) == 1 else {"any": {}}


def _output_config(request: Request) -> dict[str, Any] | None:
    """The effort is Bedrock's own word; which models know it, Bedrock tells.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_OutputConfig.html
    """
    effort = {"none": None, "minimal": "low"}.get(request.reasoning_effort or "none", request.reasoning_effort)
    return pivot.given({"textFormat": _text_format(request), "effort": effort}) or None


def _text_format(request: Request) -> dict[str, Any] | None:
    """https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html"""
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is None or wanted.json_schema.schema is None:
        refuse("Amazon Bedrock needs a JSON schema to answer in JSON", "response_format")
    schema = {
        "name": wanted.json_schema.name,
        "description": wanted.json_schema.description,
        "schema": msgspec.json.encode(wanted.json_schema.schema).decode(),
    }
    return {"type": "json_schema", "structure": {"jsonSchema": pivot.given(schema)}}


def _own(chat: dict[str, Any], request: Request) -> dict[str, Any]:
    fields = {name: chat.get(name) for name in _OWN}
    for name, value in fields.items():
        if not isinstance(value, dict | None):
            refuse("must be an object", name)
    if request.top_k is not None:
        fields["additionalModelRequestFields"] = {"top_k": request.top_k} | (fields[_OWN[0]] or {})
    return fields
