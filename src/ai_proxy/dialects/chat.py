"""The OpenAI chat completions wire format, as far as the gateway must understand it.

The few fields that we act on are decoded; everything else passes through as it came.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ai_proxy.core.types import Usage
from ai_proxy.dialects import usage as counts

CHARACTERS_PER_TOKEN = 4  # the rule of thumb for texts that a provider did not count


class Completion(msgspec.Struct, frozen=True):
    """A whole answer. `usage` is None when the provider did not count, or counted nonsense."""

    body: bytes
    text: str
    finish_reason: str
    usage: Usage | None


class Chunk(msgspec.Struct, frozen=True):
    """One event of a stream: its data as it came, and what it says.

    `content` is whether it bears any: text, a tool call, reasoning, a refusal, the finish. `event` is the event's name
    in wire formats that have one. `usage_only` marks the event that was sent because we asked for the usage. `index`
    tells several answers apart, of which the first is recorded.
    """

    data: bytes
    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    content: bool = False
    event: str = ""
    usage_only: bool = False
    index: int = 0


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
    if bytes(answer.error) != NULL:
        raise read_fault(answer.error)
    if not answer.choices:
        message = "no choices in the answer"
        raise msgspec.ValidationError(message)
    choice = answer.choices[0]
    if choice.finish_reason == _ERROR:
        raise ProviderFault("")
    return Completion(
        body=body,
        text=_text(choice.message.content),
        finish_reason=choice.finish_reason or "stop",
        usage=read_usage(answer.usage),
    )


def read_chunk(data: bytes) -> Chunk:
    """Decode one event of a stream. Raises as `read_completion` does."""
    event = _event.decode(data)
    if event.error is not ABSENT and bytes(event.error) != NULL:
        raise read_fault(event.error)
    if not event.choices:
        return Chunk(data, usage=read_usage(event.usage), usage_only=bytes(event.usage) != NULL)
    choice = event.choices[0]
    if choice.finish_reason == _ERROR:
        raise ProviderFault("")
    delta = choice.delta or _NOTHING
    text = _text(delta.content)
    content = bool(text or choice.finish_reason) or _bears_more(delta)
    return Chunk(data, text, choice.finish_reason or None, read_usage(event.usage), content, index=choice.index)


def read_fault(raw: bytes | msgspec.Raw) -> ProviderFault:
    """What a provider says went wrong: OpenAI's `{"message", "code"}`, OpenRouter's numeric code, or a bare string."""
    try:
        error = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ProviderFault("")
    if isinstance(error, list) and error:  # Google: https://ai.google.dev/gemini-api/docs/openai
        error = error[0]
    if isinstance(error, dict) and isinstance(error.get("error"), dict | str):
        error = error["error"]
    if isinstance(error, str):
        return ProviderFault(error)
    if not isinstance(error, dict):
        return ProviderFault("")
    message, code, kind = (error.get(name) for name in ("message", "code", "type"))
    reason = next(_reasons(error), code)
    names = {name for name in (code, kind) if isinstance(name, str)}
    return ProviderFault(
        message if isinstance(message, str) else "",
        status=code if isinstance(code, int) and code in _ERROR_STATUSES else None,
        code="insufficient_quota" if "insufficient_quota" in names else _name(reason, kind),
    )


def read_usage(raw: msgspec.Raw, *, unwritten: int | None = None) -> Usage | None:
    """The provider's count, unless it is missing or cannot be one: the answer counts for more than its price tag.

    `unwritten` is what no word of written tokens means: embeddings have none.
    """
    if raw is ABSENT or bytes(raw) == NULL:
        return None
    usage = counts.decoded(raw)
    read, written = counts.count(usage.get("prompt_tokens")), usage.get("completion_tokens")
    written = unwritten if written is None else counts.count(written)
    if read is None or written is None:
        return None
    return counts.counted(read, _all_written(usage, read, written), _parts(usage), cost=counts.told_cost(usage))


def estimate(*, input_characters: int, output_characters: int) -> Usage:
    """Tokens by the rule of four characters each, marked as estimated."""
    return Usage(
        -(-input_characters // CHARACTERS_PER_TOKEN), -(-output_characters // CHARACTERS_PER_TOKEN), estimated=True
    )


NULL = b"null"
_ERROR = (
    "error"  # OpenRouter's finish reason of an answer that broke: https://openrouter.ai/docs/api-reference/overview
)
_ERROR_STATUSES = range(400, 600)
ABSENT = msgspec.Raw(NULL)


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None  # parts: https://docs.mistral.ai/capabilities/reasoning/
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT
    function_call: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    audio: msgspec.Raw = ABSENT


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class _EventChoice(msgspec.Struct):
    index: int = 0
    delta: _Message | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_EventChoice] = []
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_completion = msgspec.json.Decoder(_Completion)
_event = msgspec.json.Decoder(_Event)
_NOTHING = _Message()
_EMPTY = frozenset({NULL, b"[]", b'""', b"{}"})


def _parts(usage: Mapping[str, Any]) -> dict[str, object]:
    """The parts of a count that have prices of their own, or may have."""
    read = counts.details(usage.get("prompt_tokens_details"))
    written = counts.details(usage.get("completion_tokens_details"))
    cached = read.get("cached_tokens")
    if cached is None:  # https://api-docs.deepseek.com/guides/kv_cache
        cached = usage.get("prompt_cache_hit_tokens")
    return {
        "cache_read_tokens": cached,
        "cache_write_tokens": read.get("cache_write_tokens"),
        "input_audio_tokens": read.get("audio_tokens"),
        "output_audio_tokens": written.get("audio_tokens"),
        "reasoning_tokens": written.get("reasoning_tokens"),
    }


def _all_written(usage: Mapping[str, Any], read: int, written: int) -> int:
    """xAI and Google count what a model thinks in the total only: https://docs.x.ai/docs/guides/reasoning"""
    total = counts.count(usage.get("total_tokens"))
    return written if total is None else max(written, total - read)


def _name(code: Any, kind: Any) -> str | None:
    """The more special of an error's two names."""
    return code if isinstance(code, str) else kind if isinstance(kind, str) else None


def _reasons(error: dict[str, Any]) -> Iterator[str]:
    """What Google says beside its numeric code: `API_KEY_INVALID` and the like."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("reason"), str):
            yield detail["reason"]


def _text(content: str | Sequence[_Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or "" for part in content)


def _bears_more(delta: _Message) -> bool:
    """Whether a delta without text bears anything else."""
    parts = (delta.tool_calls, delta.reasoning_content, delta.reasoning, delta.refusal, delta.audio)
    return any(part is not ABSENT and bytes(part) not in _EMPTY for part in (*parts, delta.function_call))
