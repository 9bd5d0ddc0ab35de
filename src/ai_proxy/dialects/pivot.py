"""Chat completions in full, for providers that speak something else: requests to take apart, answers to put together.

Fields that change nothing in an answer are left out, and so ignored; those that only OpenAI has are refused.
Source: https://platform.openai.com/docs/api-reference/chat/create
"""

import re
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from ai_proxy.core.exceptions import BadRequest

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # of tokens: a larger number is none


class Part(msgspec.Struct, frozen=True):
    """A part of a message's content. `cache_control` is Anthropic's mark, which other gateways take here as well."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: dict[str, Any] | str | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


class Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: Function
    extra_content: Any = None


class Message(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_details: Any = None
    extra_content: Any = None


class ToolFunction(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True):
    type: Literal["function"]
    function: ToolFunction


class JsonSchema(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Request(msgspec.Struct, frozen=True):
    messages: list[Message]
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: bool | None = None
    # What no other dialect has a word for.
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    logit_bias: Any = None
    modalities: Any = None
    web_search_options: Any = None

    @property
    def limit(self) -> int | None:
        """The most tokens to write."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> list[str] | None:
        return [self.stop] if isinstance(self.stop, str) else self.stop


class Choice(msgspec.Struct, frozen=True):
    """What may become of the tools. With `names`, only of those."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()


class Media(msgspec.Struct, frozen=True):
    """An image, a sound or a file. Either `data`, in base64, or a `url`. `mime` is empty where it is not known."""

    kind: Literal["image", "audio", "file"]
    mime: str = ""
    data: str = ""
    url: str = ""
    name: str = ""


def read(chat: dict[str, Any]) -> Request:
    """Check a decoded body. Raises `BadRequest`, naming the field at fault."""
    try:
        request = msgspec.convert(chat, Request)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        refuse(what, re.sub(r"\[(\d+|\.\.\.)\]", r".\1", place).strip(".`") or None)
    for name in ("audio", "function_call", "functions", "logit_bias", "web_search_options"):
        if getattr(request, name):
            refuse("the model's provider has nothing like it", name)
    if request.modalities not in (None, ["text"]):
        refuse("the model's provider answers in text", "modalities")
    return request


def refuse(why: str, param: str | None) -> NoReturn:
    raise BadRequest(f"{param}: {why}." if param else f"{why}.", param=param)


def tool_choice(request: Request) -> Choice | None:
    """None if nothing was said, or there are no tools to choose from."""
    given = request.tool_choice
    if given is None or not request.tools:
        return None
    match given:
        case "auto" | "none" | "required":
            return Choice(given)
        case {"type": "function", "function": {"name": str(name)}}:
            return Choice("required", (name,))
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(tools)}}:
            return Choice(mode, tuple(_allowed(tool) for tool in tools))
    refuse("must be none, auto, required, or name a function", "tool_choice")


def _allowed(tool: object) -> str:
    match tool:
        case {"type": "function", "function": {"name": str(name)}}:
            return name
    refuse("must name functions", "tool_choice.allowed_tools.tools")


def text_of(message: Message, param: str) -> str:
    """The text of a message that can have nothing else."""
    if message.content is None or isinstance(message.content, str):
        return message.content or message.refusal or ""
    for position, part in enumerate(message.content):
        if part.text is None and part.refusal is None:
            refuse("must be a text here", f"{param}.content.{position}")
    return "".join(part.text or part.refusal or "" for part in message.content)


def media_of(part: Part, param: str) -> Media:
    """What a part without a text has. Raises `BadRequest` for a kind of part that there is no way to pass on."""
    match part:
        case Part(type="image_url", image_url={"url": str(url)} | str(url)):
            return _located("image", url, f"{param}.image_url.url")
        case Part(type="input_audio", input_audio={"data": str(data), "format": str(form)}):
            return Media("audio", mime=f"audio/{form}", data=data)
        case Part(type="file", file={"file_data": str(url)}):
            name = (part.file or {}).get("filename")
            return _located("file", url, f"{param}.file.file_data", name if isinstance(name, str) else "")
    refuse("cannot be passed on to the model's provider", param)


def _located(kind: Literal["image", "file"], url: str, param: str, name: str = "") -> Media:
    if url.startswith(("http://", "https://")):
        return Media(kind, mime=_MIMES.get(url.partition("?")[0].rpartition(".")[2].lower(), ""), url=url, name=name)
    scheme, mime, data = _DATA_URL.split(url, maxsplit=1) if _DATA_URL.match(url) else ("", "", "")
    if scheme or not data:
        refuse("must be an http(s) URL or a data URL in base64", param)
    return Media(kind, mime=mime.lower(), data=data, name=name)


_DATA_URL = re.compile(r"^data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+\"-]+)*;base64,")
_MIMES = {
    "gif": "image/gif",
    "heic": "image/heic",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "pdf": "application/pdf",
    "png": "image/png",
    "webp": "image/webp",
}


def arguments_of(call: ToolCall, param: str) -> dict[str, Any]:
    """The arguments of an earlier tool call, which other dialects want decoded."""
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        refuse("must be a JSON object", f"{param}.function.arguments")
    return arguments


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def completion(head: dict[str, Any], choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
    """A whole answer. `head` has id, created and model."""
    return {"object": "chat.completion", **head, "choices": choices, **({"usage": usage} if usage else {})}


def chunk(head: dict[str, Any], delta: dict[str, Any], *, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """One event of a stream."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", **head, "choices": [choice]}


def usage_chunk(head: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    """The event after the last, which only counts."""
    return {"object": "chat.completion.chunk", **head, "choices": [], "usage": usage}


def head(identifier: str, created: int, model: str) -> dict[str, Any]:
    """What all events of an answer have in common."""
    return {"id": f"chatcmpl-{identifier.replace('-', '')}", "created": created, "model": model}


def usage(
    read: int, written: int, *, cached: int = 0, stored: int = 0, reasoning: int = 0, audio: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    """`read` includes what was `cached` or `stored`, `written` the `reasoning`: they are told as parts of them.

    `audio` is how much of either was sounds.
    """
    heard, said = audio
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached, **_some(cache_write_tokens=stored, audio_tokens=heard)},
        "completion_tokens_details": {"reasoning_tokens": reasoning, **_some(audio_tokens=said)},
    }


def _some(**counts: int) -> dict[str, int]:
    """Those that are not nothing."""
    return {name: count for name, count in counts.items() if count}
