"""Google's Gemini API, generateContent: what a chat completions request becomes. Answers are in `gemini_answers`.

Source: https://ai.google.dev/api/generate-content and https://ai.google.dev/api/caching#Content
"""

import re
from typing import Any, Literal

import msgspec

from ai_proxy.dialects import pivot
from ai_proxy.dialects.pivot import Media, Message, Part, Request, ToolCall, refuse

# Until Gemini 3, thinking was measured in tokens: https://ai.google.dev/gemini-api/docs/thinking
_BY_BUDGET = re.compile(r"(?:models/)?gemini-[12]\b")
# The numbers of Google's own OpenAI endpoint: https://ai.google.dev/gemini-api/docs/openai
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
_HIGHEST = {"max": "XHIGH"}
# Gemini 3 refuses a function call of its own in the history that lacks the signature it gave with it. Callers whose
# library drops it, or whose conversation began with another model, get past that with this one:
# https://ai.google.dev/gemini-api/docs/thought-signatures
_NO_SIGNATURE = "skip_thought_signature_validator"


def upstream_request(chat: dict[str, Any], *, model: str) -> dict[str, Any]:
    """The body of a generateContent request to `model`. Raises `BadRequest` for what cannot be said in it.

    What only Google has may come in `extra_body.google`, as with Google's own OpenAI endpoint.
    """
    request, google = pivot.read(chat), _google(chat)
    conversation = _Conversation(signed=not _BY_BUDGET.match(model))
    for position, message in enumerate(request.messages):
        conversation.add(message, f"messages.{position}")
    fields = {
        "contents": conversation.contents,
        "systemInstruction": {"parts": conversation.system} if conversation.system else None,
        "tools": [{"functionDeclarations": _declarations(request)}] if request.tools else None,
        "toolConfig": _tool_config(request),
        "generationConfig": _generation_config(request, google, model),
        "cachedContent": google.cached_content,
        "safetySettings": google.safety_settings,
    }
    return pivot.given(fields)


class _ThinkingConfig(msgspec.Struct, forbid_unknown_fields=True):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class _Google(msgspec.Struct, forbid_unknown_fields=True):
    cached_content: str | None = None
    thinking_config: _ThinkingConfig | None = None
    safety_settings: list[dict[str, Any]] | None = None


def _google(chat: dict[str, Any]) -> _Google:
    extra = chat.get("extra_body")
    given = extra.get("google") if isinstance(extra, dict) else None
    try:
        return _Google() if given is None else msgspec.convert(given, _Google)
    except msgspec.ValidationError as error:
        refuse(str(error).partition(" - at")[0], "extra_body.google")


class _Conversation:
    """The messages so far, as `system` parts and `contents`. `signed` is whether calls must bear signatures."""

    def __init__(self, *, signed: bool) -> None:
        self.system: list[dict[str, Any]] = []
        self.contents: list[dict[str, Any]] = []
        self._signed = signed
        self._names: dict[str, str] = {}  # of the functions called, by the ids of the calls
        self._answering = False

    def add(self, message: Message, param: str) -> None:
        match message.role:
            case "system" | "developer":
                self.system.append({"text": pivot.text_of(message, param)})
            case "user":
                self._turn("user", _parts(message, param))
            case "assistant":
                self._turn("model", self._said(message, param))
            case "tool":
                self._answer(message, param)
        self._answering = message.role == "tool"

    def _turn(self, role: Literal["user", "model"], parts: list[dict[str, Any]]) -> None:
        if parts:
            self.contents.append({"role": role, "parts": parts})

    def _said(self, message: Message, param: str) -> list[dict[str, Any]]:
        parts = []
        if text := pivot.text_of(message, param):
            parts.append(_signed({"text": text}, message.extra_content))
        calls = [
            self._call(call, f"{param}.tool_calls.{position}") for position, call in enumerate(message.tool_calls or [])
        ]
        if calls and self._signed and not any("thoughtSignature" in call for call in calls):
            calls[0]["thoughtSignature"] = _NO_SIGNATURE
        return [*parts, *calls]

    def _call(self, call: ToolCall, param: str) -> dict[str, Any]:
        self._names[call.id] = call.function.name
        arguments = pivot.arguments_of(call, param)
        return _signed(
            {"functionCall": {"id": call.id, "name": call.function.name, "args": arguments}}, call.extra_content
        )

    def _answer(self, message: Message, param: str) -> None:
        """The results of calls made together belong together."""
        name = self._names.get(message.tool_call_id or "")
        if name is None:
            refuse("must be the id of an earlier tool call", f"{param}.tool_call_id")
        response = {"id": message.tool_call_id, "name": name, "response": {"output": pivot.text_of(message, param)}}
        if self._answering:
            self.contents[-1]["parts"].append({"functionResponse": response})
        else:
            self._turn("user", [{"functionResponse": response}])


def _signed(part: dict[str, Any], extra_content: object) -> dict[str, Any]:
    """The part with the signature that came with it.

    It is where Google's own OpenAI endpoint has it: https://ai.google.dev/gemini-api/docs/thought-signatures
    """
    match extra_content:
        case {"google": {"thought_signature": str(signature)}} if signature:
            return {**part, "thoughtSignature": signature}
    return part


def _parts(message: Message, param: str) -> list[dict[str, Any]]:
    if not isinstance(message.content, list):
        return [{"text": message.content or ""}]
    return [_part(part, f"{param}.content.{position}") for position, part in enumerate(message.content)]


def _part(part: Part, param: str) -> dict[str, Any]:
    return _media(pivot.media_of(part, param)) if part.text is None else {"text": part.text}


def _media(media: Media) -> dict[str, Any]:
    if media.data:
        return {"inlineData": {"mimeType": media.mime, "data": media.data}}
    return {"fileData": {"fileUri": media.url, **({"mimeType": media.mime} if media.mime else {})}}


def _declarations(request: Request) -> list[dict[str, Any]]:
    """`parametersJsonSchema` takes JSON Schema as it is; `parameters` would be a dialect of OpenAPI's."""
    return [
        pivot.given({"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters})
        for tool in (tool.function for tool in request.tools or [])
    ]


def _tool_config(request: Request) -> dict[str, Any] | None:
    """Of the two modes that leave a choice, VALIDATED takes names, and keeps to the schemas as `strict` tools want it.

    https://ai.google.dev/gemini-api/docs/function-calling
    """
    strict = any(tool.function.strict for tool in request.tools or [])
    choice = pivot.tool_choice(request) or (pivot.Choice("auto") if strict else None)
    if choice is None:
        return None
    mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice.mode]
    if mode == "AUTO" and (choice.names or strict):
        mode = "VALIDATED"
    config = {"mode": mode, "allowedFunctionNames": list(choice.names) or None}
    return {"functionCallingConfig": pivot.given(config)}


def _generation_config(request: Request, google: _Google, model: str) -> dict[str, Any] | None:
    fields = {
        "maxOutputTokens": request.limit,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": request.stops,
        "candidateCount": request.n,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "responseLogprobs": request.logprobs or None,
        "logprobs": request.top_logprobs if request.logprobs else None,
        **_format(request),
        "thinkingConfig": _thinking(request.reasoning_effort, google.thinking_config, model),
    }
    return pivot.given(fields) or None


def _format(request: Request) -> dict[str, Any]:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return {}
    schema = wanted.json_schema.schema if wanted.json_schema else None
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _thinking(effort: str | None, own: _ThinkingConfig | None, model: str) -> dict[str, Any] | None:
    """Who asks for an effort is shown what it was spent on, as far as Google shows it."""
    if own is not None:
        fields = {
            "includeThoughts": own.include_thoughts,
            "thinkingBudget": own.thinking_budget,
            "thinkingLevel": own.thinking_level,
        }
        return pivot.given(fields)
    if effort is None:
        return None
    if effort == "none":
        return {"thinkingBudget": 0}
    if _BY_BUDGET.match(model):
        return {"includeThoughts": True, "thinkingBudget": _BUDGETS[effort]}
    return {"includeThoughts": True, "thinkingLevel": _HIGHEST.get(effort, effort.upper())}
