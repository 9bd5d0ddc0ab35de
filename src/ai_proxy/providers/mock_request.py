"""What a mock reads of a request: the fields that it acts on, checked as a provider would."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated, Any, TypeVar

import msgspec

from ai_proxy.dialects.chat import ProviderFault

Positive = Annotated[int, msgspec.Meta(ge=1)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=128)]
_INSTRUCTIONS = frozenset({"system", "developer"})
_RESULTS = frozenset({"tool", "function"})
_ATTACHED = {"image_url": "image", "input_audio": "recording", "file": "file"}
_Wanted = TypeVar("_Wanted")


class Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None


class Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None


class Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Any = None


class Tool(msgspec.Struct):
    type: str = "function"
    function: Function | None = None
    custom: Function | None = None


class ChatRequest(msgspec.Struct):
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    n: Choices | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None

    @property
    def most_words(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def said(self) -> list[Message]:
        """The messages without instructions, which may come last, too."""
        return [message for message in self.messages if message.role not in _INSTRUCTIONS] or self.messages

    def results(self) -> list[str]:
        """What the tools said that were called last."""
        last = takewhile(lambda message: message.role in _RESULTS, reversed(self.said))
        return [text_of(message) for message in last][::-1]


def read(kind: type[_Wanted], body: dict[str, Any]) -> _Wanted:
    """Raises `ProviderFault` that names the field at fault."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise ProviderFault(str(error), status=400) from None


def digest(body: dict[str, Any]) -> str:
    """The same for the same request."""
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def text_of(message: Message) -> str:
    """The texts of a message, and how many images and the like came with them."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    text = "\n".join(part.text for part in message.content if part.text)
    counts = Counter(_ATTACHED[part.type] for part in message.content if part.type in _ATTACHED)
    attached = [f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items()]
    return " and ".join([text, *attached] if text else attached)


def last_text_of(message: Message) -> str:
    """What a person typed: some programs put long texts of their own before it, as parts of the same message."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return next((part.text for part in reversed(message.content) if part.text), "")


def words_of(text: str) -> list[str]:
    """The words, each with the space after it. A word counts as a token."""
    *words, last = text.split(" ")
    return [*(f"{word} " for word in words), last]


def cut(text: str, *, stop: str | Sequence[str] | None, most: int | None) -> tuple[list[str], str]:
    """The words up to the first of the stop sequences, `most` of them, and why they end there."""
    for sequence in [stop] if isinstance(stop, str) else stop or []:
        if sequence:
            text = text.partition(sequence)[0]
    words = words_of(text) if text else []
    return (words, "stop") if most is None or len(words) <= most else (words[:most], "length")


def usage(read_tokens: int, written: int) -> dict[str, Any]:
    return {
        "prompt_tokens": read_tokens,
        "completion_tokens": written,
        "total_tokens": read_tokens + written,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
