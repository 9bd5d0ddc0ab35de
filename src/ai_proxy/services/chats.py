"""Exchanges in the format that models are fine-tuned with: a line has `messages`, the last of which is the answer.

Source: https://platform.openai.com/docs/guides/supervised-fine-tuning#formatting-your-data
"""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import Exchange
from ai_proxy.dialects.turns import chat_request, json_object, user_message
from ai_proxy.services.arrivals import BadLine, microseconds
from ai_proxy.services.times import SECOND, now
from ai_proxy.storage.transfer import Arrival, Whole

NAME = "imported"  # of the model and the provider of what nobody here answered

_Message = dict[str, Any]
_OF_TEXTS = frozenset({"ask", "chat", "completions", "responses", "messages"})
_KEPT = ("tools", "functions", "parallel_tool_calls")  # of a request, beside its messages

# Out


def encode(whole: Whole) -> bytes | None:
    """The line, with its end; None for what is no chat that was answered."""
    exchange = whole.entry.exchange
    if exchange.status != "completed" or exchange.dialect not in _OF_TEXTS:
        return None
    answer = _answer(exchange)
    if answer is None:
        return None
    asked = chat_request(exchange.dialect, exchange.request) or {"messages": [user_message(exchange.question)]}
    kept = {name: asked[name] for name in _KEPT if asked.get(name) is not None}
    return msgspec.json.encode({"messages": [*asked["messages"], answer], **kept}) + b"\n"


def _answer(exchange: Exchange) -> _Message | None:
    if exchange.dialect == "chat":
        response = json_object(exchange.response)
        match response.get("choices"):
            case [{"message": {"role": "assistant"} as message}, *_] if message.get("content") or _calls(message):
                return {name: value for name, value in message.items() if value is not None}
    return {"role": "assistant", "content": exchange.answer} if exchange.answer else None


def _calls(message: _Message) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


# In


def decode(data: bytes, *, key_id: str, user_id: str) -> Arrival:
    """A line as an exchange of this key. Raises `BadLine`.

    Its conversation is made of what the line says, so that a second one of the same is known; so is its identifier, if
    the line says when it was (`created_at`). What it costs is in no budget.
    """
    try:
        line = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLine(str(error)) from None
    except RecursionError:
        raise BadLine("it is nested too deeply") from None
    asked, answer = _split(line.get("messages"))
    digest = int.from_bytes(hashlib.sha256(data).digest())
    created_at = _created(line.pop("created_at", None))
    line["messages"] = asked
    return Arrival(
        Exchange(
            id=uuid7() if created_at is None else _time_id(created_at, digest),
            key_id=key_id,
            user_id=user_id,
            question=next((_text(message) for message in reversed(asked) if message["role"] == "user"), ""),
            answer=_text(answer),
            model=NAME,
            asked_model=NAME,
            provider=NAME,
            conversation_id=str(UUID(int=_versioned(digest & _ALL, 8))),
            created_at=now() if created_at is None else created_at,
            started=0.0,
            dialect="chat",
            finish_reason="stop",
            cost=0,
            request=msgspec.json.encode(line),
            response=msgspec.json.encode({"choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]}),
        ),
        alone=True,
    )


def _split(given: object) -> tuple[list[_Message], _Message]:
    """What was said before, and the answer."""
    if not isinstance(given, list) or not all(map(_is_message, given)):
        raise BadLine("must be a list of objects with a role", "messages")
    if not given or given[-1]["role"] != "assistant":
        raise BadLine("the last one must be the assistant's", "messages")
    if not any(message["role"] == "user" for message in given):
        raise BadLine("one must be the user's", "messages")
    return given[:-1], given[-1]


def _is_message(given: object) -> bool:
    return isinstance(given, dict) and isinstance(given.get("role"), str)


def _text(message: _Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


def _created(given: object) -> int | None:
    """Seconds since the epoch, or a time in words."""
    if given is None:
        return None
    try:
        if isinstance(given, str):
            return microseconds(datetime.fromisoformat(given), "created_at")
        if isinstance(given, int | float) and not isinstance(given, bool):
            return microseconds(datetime.fromtimestamp(given, UTC), "created_at")
    except (ValueError, OverflowError, OSError) as error:
        if isinstance(error, BadLine):
            raise
    raise BadLine("must be a time such as 2026-11-23T09:30:00Z, or seconds since 1970", "created_at")


_ALL = 2**128 - 1


def _time_id(created_at: int, digest: int) -> str:
    return str(UUID(int=_versioned((created_at // (SECOND // 1000) << 80) | (digest & (2**80 - 1)), 7)))


def _versioned(value: int, version: int) -> int:
    """A UUID's number with its version and variant (RFC 9562 section 4)."""
    return value & ~(0xF << 76) & ~(0b11 << 62) | version << 76 | 0b10 << 62
