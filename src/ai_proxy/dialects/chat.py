"""The OpenAI chat completions wire format, as far as the gateway must understand it.

The few fields that we act on are decoded; everything else passes through as it came.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ai_proxy.core.types import Turn, Usage

CHARACTERS_PER_TOKEN = 4  # the rule of thumb for texts that a provider did not count


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat request: `messages` in the wire format, and the `options` to forward beside them."""

    messages: list[dict[str, Any]]
    options: dict[str, Any] = {}

    def after(self, turns: Sequence[Turn]) -> "ChatRequest":
        """The same request with earlier exchanges, oldest first, before the last message."""
        earlier = [
            {"role": role, "content": text}
            for turn in turns
            for role, text in (("user", turn.question), ("assistant", turn.answer))
        ]
        return ChatRequest([*self.messages[:-1], *earlier, self.messages[-1]], self.options)

    def payload(self, model: str, *, stream: bool) -> bytes:
        """The body to send upstream, under the provider's own model name. Streams always ask for their usage."""
        body = {"model": model, "messages": self.messages, **self.options}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(body)

    def characters(self) -> int:
        """How much text the provider is asked to read."""
        return sum(len(message["content"]) for message in self.messages)


class Completion(msgspec.Struct, frozen=True):
    """A whole answer. `usage` is None when the provider did not count, or counted nonsense."""

    body: bytes
    text: str
    finish_reason: str
    usage: Usage | None


class Chunk(msgspec.Struct, frozen=True):
    """One event of a stream: its bytes, and what they say."""

    data: bytes
    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def bears_content(self) -> bool:
        return bool(self.text) or self.finish_reason is not None


class ProviderFault(Exception):
    """A provider's answer that carries an error in place of a completion. `status` is its own idea of one."""

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code


def read_completion(body: bytes) -> Completion:
    """Decode an answer. Raises `ProviderFault` for one with an error in it, `msgspec.MsgspecError` for a broken one."""
    answer = _completion.decode(body)
    if bytes(answer.error) != _NULL:
        raise read_fault(answer.error)
    if not answer.choices:
        message = "no choices in the answer"
        raise msgspec.ValidationError(message)
    choice = answer.choices[0]
    if choice.finish_reason == _ERROR:
        raise ProviderFault("")
    return Completion(
        body=body,
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "stop",
        usage=_usage(answer.usage),
    )


def read_chunk(data: bytes) -> Chunk:
    """Decode one event of a stream. Raises as `read_completion` does."""
    event = _event.decode(data)
    if bytes(event.error) != _NULL:
        raise read_fault(event.error)
    if not event.choices:
        return Chunk(data, usage=_usage(event.usage))
    choice = event.choices[0]
    if choice.finish_reason == _ERROR:
        raise ProviderFault("")
    return Chunk(data, choice.delta.content or "", choice.finish_reason or None, _usage(event.usage))


def read_fault(raw: bytes | msgspec.Raw) -> ProviderFault:
    """What a provider says went wrong: OpenAI's `{"message", "code"}`, OpenRouter's numeric code, or a bare string."""
    try:
        error = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ProviderFault("")
    if isinstance(error, dict) and isinstance(error.get("error"), dict | str):
        error = error["error"]
    if isinstance(error, str):
        return ProviderFault(error)
    if not isinstance(error, dict):
        return ProviderFault("")
    message, code, kind = (error.get(name) for name in ("message", "code", "type"))
    names = {name for name in (code, kind) if isinstance(name, str)}
    return ProviderFault(
        message if isinstance(message, str) else "",
        status=code if isinstance(code, int) and code in _ERROR_STATUSES else None,
        code="insufficient_quota" if "insufficient_quota" in names else next(iter(sorted(names)), None),
    )


def estimate(*, input_characters: int, output_characters: int) -> Usage:
    """Tokens by the rule of four characters each, marked as estimated."""
    return Usage(
        -(-input_characters // CHARACTERS_PER_TOKEN), -(-output_characters // CHARACTERS_PER_TOKEN), estimated=True
    )


_NULL = b"null"
_ERROR = (
    "error"  # OpenRouter's finish reason of an answer that broke: https://openrouter.ai/docs/api-reference/overview
)
_ERROR_STATUSES = range(400, 600)
_MAX_TOKENS = 2**53  # beyond it is no count, and beyond 2**63 no database holds it
_ABSENT = msgspec.Raw(_NULL)


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


class _EventChoice(msgspec.Struct):
    delta: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_EventChoice] = []
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_completion = msgspec.json.Decoder(_Completion)
_event = msgspec.json.Decoder(_Event)
_usage_decoder = msgspec.json.Decoder(_Usage | None)


def _usage(raw: msgspec.Raw) -> Usage | None:
    """The provider's count, unless it is missing or cannot be one: the answer counts for more than its price tag."""
    try:
        usage = _usage_decoder.decode(raw)
    except msgspec.MsgspecError:
        return None
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    if not (0 <= usage.prompt_tokens <= _MAX_TOKENS and 0 <= usage.completion_tokens <= _MAX_TOKENS):
        return None
    return Usage(usage.prompt_tokens, usage.completion_tokens)
