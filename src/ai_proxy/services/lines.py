"""An exchange as a line of JSON, with all that is known of it: what is exported can be imported elsewhere."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from ai_proxy.core.money import dollars_of
from ai_proxy.core.types import THUMB_NAMES, Attempt, Status
from ai_proxy.storage.transfer import Origin, Whole

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Count = Annotated[int, Meta(ge=0, le=2**40)]
_Milliseconds = Annotated[float, Meta(ge=0, le=1e12)]
_Id = Annotated[str, Meta(min_length=1, max_length=36)]
_Name = Annotated[str, Meta(max_length=200)]
_Word = Annotated[str, Meta(max_length=100)]
_NULL = Raw(b"null")
_Tag = Annotated[str, Meta(min_length=1, max_length=50)]


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    estimated: bool = False
    cache_read_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    input_audio_tokens: _Count = 0
    output_audio_tokens: _Count = 0
    reasoning_tokens: _Count = 0


class Conversation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: _Id
    title: _Name | None = None
    parent_id: _Id | None = None
    forked_from: _Id | None = None


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    created_at: datetime
    user_id: _Id
    thumb: Literal["up", "down"] | None = None
    score: float | None = None
    comment: Annotated[str, Meta(max_length=10_000)] | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that is no JSON, or holds what JSON of another layout would lose, comes as base64.

    `texts` is `none` if question, answer and bodies are not kept, `unreadable` if the key that they are encrypted with
    is gone.
    """

    id: _Id
    created_at: datetime
    key_id: _Id
    user_id: _Id
    project_id: _Id | None = None
    conversation: Conversation | None = None
    dialect: Annotated[str, Meta(min_length=1, max_length=20)] = "ask"
    stream: bool = False
    asked_model: str = ""
    model: str
    provider: str = ""
    mock: bool = False
    status: Status = "completed"
    error: _Word | None = None
    finish_reason: str | None = None
    cached: bool = False
    texts: Literal["kept", "none", "unreadable"] = "kept"
    question: str
    answer: str = ""
    usage: Tokens = Tokens()
    cost_usd: str | None = None
    price: Raw = _NULL
    duration_ms: _Milliseconds = 0.0
    waited_ms: _Milliseconds = 0.0
    first_token_ms: _Milliseconds | None = None
    attempts: list[Attempt] = []
    tags: Annotated[list[_Tag], Meta(max_length=100)] = []
    feedback: Feedback | None = None
    request: Raw | UnsetType = UNSET
    request_base64: str | UnsetType = UNSET
    response: Raw | UnsetType = UNSET
    response_base64: str | UnsetType = UNSET
    response_id: str | UnsetType = UNSET


_encoder = msgspec.json.Encoder()


def encode(whole: Whole) -> bytes:
    """The line, with its end."""
    return _encoder.encode(line_of(whole)) + b"\n"


def line_of(whole: Whole) -> Line:
    exchange = whole.entry.exchange
    return Line(
        id=exchange.id,
        created_at=_moment(exchange.created_at),
        key_id=exchange.key_id,
        user_id=exchange.user_id,
        project_id=exchange.project_id,
        conversation=_conversation(whole),
        dialect=exchange.dialect,
        stream=exchange.stream,
        asked_model=exchange.asked_model,
        model=exchange.model,
        provider=exchange.provider,
        mock=exchange.mock,
        status=exchange.status,
        error=exchange.error,
        finish_reason=exchange.finish_reason,
        cached=exchange.cached,
        texts=_texts(whole),
        question=exchange.question,
        answer=exchange.answer,
        usage=Tokens(**{name: getattr(exchange.usage, name) for name in Tokens.__struct_fields__}),
        cost_usd=dollars_of(exchange.cost),
        price=_NULL if exchange.price is None else Raw(exchange.price.encode()),
        duration_ms=exchange.duration_ms,
        waited_ms=exchange.waited_ms,
        first_token_ms=exchange.first_token_ms,
        attempts=exchange.attempts,
        tags=list(whole.entry.remarks.tags),
        feedback=_feedback(whole.entry.remarks.feedback),
        **_body("request", exchange.request),
        **_body("response", exchange.response),
        response_id=UNSET if exchange.response_id is None else exchange.response_id,
    )


def _moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _conversation(whole: Whole) -> Conversation | None:
    identifier = whole.entry.exchange.conversation_id
    if identifier is None:
        return None
    origin = whole.origin or Origin()
    return Conversation(identifier, origin.title, origin.parent_id, origin.forked_from)


def _texts(whole: Whole) -> Literal["kept", "none", "unreadable"]:
    if whole.entry.texts == "none":
        return "none"
    return "kept" if whole.readable else "unreadable"


def _feedback(row: Any) -> Feedback | None:
    if row is None:
        return None
    thumb = THUMB_NAMES.get(row.thumb)
    return Feedback(_moment(row.created_at), row.user_id, thumb, row.score, row.comment)  # type: ignore[arg-type]


def _body(name: str, body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = None
    if value is None:  # also for `null`, which would be none at all
        return {f"{name}_base64": base64.b64encode(body).decode()}
    return {name: Raw(body.replace(b"\r", b" ").replace(b"\n", b" "))}  # a line of its own: none are in JSON's texts
