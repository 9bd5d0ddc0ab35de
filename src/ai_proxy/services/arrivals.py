"""A line as an exchange that arrives from elsewhere."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ai_proxy.core.ids import time_of
from ai_proxy.core.money import DEAREST, nano
from ai_proxy.core.types import THUMBS, Exchange, Usage
from ai_proxy.services.days import DAY
from ai_proxy.services.lines import EPOCH, Conversation, Feedback, Line
from ai_proxy.services.times import now
from ai_proxy.storage.transfer import Arrival, Origin

_MICROSECOND = timedelta(microseconds=1)
_VERSION = 7  # of identifiers that sort by time
_LONGEST_NAME = 200
_AHEAD = DAY  # that the clock elsewhere may be

_decoder = msgspec.json.Decoder(Line)


class BadLine(ValueError):
    """Why a line cannot be taken, and which of its fields is to blame, if it is one."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)


def decode(data: bytes) -> Arrival:
    """Raises `BadLine`."""
    try:
        data.decode()
        line = _decoder.decode(data)
    except UnicodeDecodeError:
        raise BadLine("it is not UTF-8") from None
    except RecursionError:
        raise BadLine("it is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise BadLine(str(error)) from None
    return arrival_of(line)


def arrival_of(line: Line) -> Arrival:
    """Raises `BadLine`."""
    identifier, conversation = time_id(line.id), line.conversation
    return Arrival(
        exchange=_exchange(line, identifier),
        tags=sorted(set(line.tags)),
        feedback=None if line.feedback is None else _feedback_row(identifier, line.feedback),
        origin=None if conversation is None else _origin(conversation),
    )


def time_id(text: str) -> str:
    """An identifier of an exchange, as it is stored. Raises `BadLine`."""
    found = _uuid(text, "id")
    if UUID(found).version != _VERSION:
        raise BadLine("must be a UUID of version 7, which tells the time", "id")
    _check_past(time_of(found), "id")
    return found


def microseconds(moment: datetime, what: str) -> int:
    """Since the epoch. Raises `BadLine`."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        since = (moment - EPOCH) // _MICROSECOND
    except OverflowError:
        since = -1
    if since < 0:
        raise BadLine("must not be before 1970", what)
    _check_past(since, what)
    return since


def _check_past(since: int, what: str) -> None:
    """Lists, reports and deletion go from now back: they would pass over what is not yet."""
    if since > now() + _AHEAD:
        raise BadLine("must not be more than a day in the future", what)


def _exchange(line: Line, identifier: str) -> Exchange:
    return Exchange(
        id=identifier,
        key_id=line.key_id,
        question=line.question,
        model=line.model,
        conversation_id=None if line.conversation is None else _uuid(line.conversation.id, "conversation.id"),
        created_at=microseconds(line.created_at, "created_at"),
        started=0.0,
        dialect=line.dialect,
        stream=line.stream,
        provider=line.provider,
        mock=line.mock,
        answer=line.answer,
        status=line.status,
        error=line.error,
        finish_reason=line.finish_reason,
        usage=Usage(**msgspec.structs.asdict(line.usage)),
        duration_ms=line.duration_ms,
        waited_ms=line.waited_ms,
        first_token_ms=line.first_token_ms,
        attempts=line.attempts,
        cached=line.cached,
        request=_bytes("request", line.request, line.request_base64),
        response=_bytes("response", line.response, line.response_base64),
        keeps_response=line.response_id is not UNSET,
        response_id=None if line.response_id is UNSET else line.response_id,
        user_id=line.user_id,
        project_id=line.project_id,
        cost=_cost(line.cost_usd),
        price=_given(line.price),
        asked_model=line.asked_model[:_LONGEST_NAME],
        keep_texts=line.texts == "kept",
    )


def _uuid(text: str, what: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise BadLine("must be a UUID", what) from None


def _origin(conversation: Conversation) -> Origin:
    parent, forked = conversation.parent_id, conversation.forked_from
    return Origin(
        conversation.title,
        None if parent is None else _uuid(parent, "conversation.parent_id"),
        None if forked is None else _uuid(forked, "conversation.forked_from"),
    )


def _feedback_row(identifier: str, feedback: Feedback) -> dict[str, Any]:
    return {
        "exchange_id": identifier,
        "thumb": THUMBS.get(feedback.thumb or ""),
        "score": feedback.score,
        "comment": feedback.comment,
        "user_id": feedback.user_id,
        "created_at": microseconds(feedback.created_at, "feedback.created_at"),
    }


def _bytes(name: str, value: Raw | UnsetType, encoded: str | UnsetType) -> bytes | None:
    if encoded is not UNSET:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise BadLine("it is not base64", f"{name}_base64") from None
    return None if value is UNSET else _of(value)


def _of(value: Raw) -> bytes | None:
    return None if bytes(value).strip() == b"null" else bytes(value)


def _given(value: Raw) -> str | None:
    found = _of(value)
    return None if found is None else found.decode()


def _cost(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        cost = nano(text)
    except ValueError as error:
        raise BadLine(str(error), "cost_usd") from None
    if not 0 <= cost <= DEAREST:
        raise BadLine("must be between 0 and 1,000,000", "cost_usd")
    return cost
