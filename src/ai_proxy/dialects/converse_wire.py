"""Amazon Bedrock's Converse API: the shape of its answers and errors, as far as they are read.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_ResponseSyntax
and https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html
"""

from typing import Any, TypeVar

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.pivot import Count

T = TypeVar("T")

REASONING = "amazon-bedrock-converse-v1"  # marks reasoning of our making, among that of other providers

# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors
_STATUSES = {
    "modelStreamErrorException": 424,
    "validationException": 400,
    "throttlingException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}


class ReasoningText(msgspec.Struct):
    text: str = ""
    signature: str | None = None


class Reasoning(msgspec.Struct):
    """Whole, it has a `reasoningText`; in a stream, its two parts come apart."""

    reasoningText: ReasoningText | None = None
    redactedContent: str | None = None
    text: str | None = None
    signature: str | None = None


class ToolUse(msgspec.Struct):
    toolUseId: str
    name: str
    input: Any = None
    type: str | None = None


class Text(msgspec.Struct):
    text: str = ""


class Cited(msgspec.Struct):
    content: list[Text] = []


class Block(msgspec.Struct):
    text: str | None = None
    toolUse: ToolUse | None = None
    reasoningContent: Reasoning | None = None
    citationsContent: Cited | None = None


class Message(msgspec.Struct):
    content: list[Block] = []


class Output(msgspec.Struct):
    message: Message


class Response(msgspec.Struct):
    output: Output
    stopReason: str
    usage: Any = None


class Start(msgspec.Struct):
    toolUse: ToolUse | None = None


class BlockStart(msgspec.Struct):
    contentBlockIndex: int
    start: Start


class Piece(msgspec.Struct):
    input: str = ""


class Delta(msgspec.Struct):
    text: str | None = None
    toolUse: Piece | None = None
    reasoningContent: Reasoning | None = None


class BlockDelta(msgspec.Struct):
    contentBlockIndex: int
    delta: Delta


class BlockStop(msgspec.Struct):
    contentBlockIndex: int


class Stop(msgspec.Struct):
    stopReason: str


class Metadata(msgspec.Struct):
    usage: Any = None


class Usage(msgspec.Struct):
    inputTokens: Count
    outputTokens: Count = 0
    cacheReadInputTokens: Count = 0
    cacheWriteInputTokens: Count = 0


def read(value: dict[str, Any], kind: type[T]) -> T:
    """Raises `ProviderFault` for what does not have that shape."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ProviderFault("") from None


def exception(name: str, body: Any) -> ProviderFault:
    """An exception that came in a stream, under the name of an event."""
    words = body.get("message") if isinstance(body, dict) else None
    return ProviderFault(words if isinstance(words, str) else "", status=_STATUSES.get(name), code=name)


def read_fault(body: bytes | msgspec.Raw) -> ProviderFault:
    """What is wrong, from the body of a refusal. Its code is the kind of error, which mostly only a header tells."""
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ProviderFault("")
    kind = (error.kind or "").rpartition("#")[2]
    return ProviderFault(error.message or error.capital or "", code=kind or None)


class _Error(msgspec.Struct):
    message: str | None = None
    capital: str | None = msgspec.field(default=None, name="Message")
    kind: str | None = msgspec.field(default=None, name="__type")
