"""/api/history: what was asked and answered, newest first; and DELETE /api/users/{user_id}/history."""

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from ai_proxy.api import cursor as cursors
from ai_proxy.api.dependencies import CurrentState, CurrentViewer, State
from ai_proxy.api.openapi import errors
from ai_proxy.core.types import THUMB_NAMES, Exchange
from ai_proxy.schemas.ask import outcome
from ai_proxy.schemas.history import Erased, FeedbackItem, HistoryDetails, HistoryItem, HistoryPage, HistoryQuery
from ai_proxy.services import erasing, history, searching
from ai_proxy.services.history import Details
from ai_proxy.services.history_questions import wanted
from ai_proxy.services.times import moment
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage.filters import Wanted
from ai_proxy.storage.history import Entry

router = APIRouter(prefix="/api/history", tags=["history"])
of_users = APIRouter(prefix="/api/users", tags=["history"])

_FEW = 100_000  # bytes: to read more of them takes longer than other calls should wait


@router.get(
    "",
    summary="What was asked and answered",
    operation_id="history",
    responses=errors(400, 401, 403, 500, 503),
)
async def list_history(
    viewer: CurrentViewer, state: CurrentState, query: Annotated[HistoryQuery, Query()]
) -> HistoryPage:
    """A key sees what was asked with it. By a login, and with a key that may manage, an administrator sees all; others
    see their own, and what is in their projects. A page may be shorter than `limit`, or empty: see `next_cursor`.

    With `q` the best matches come first.
    """
    asked = wanted(query.model_dump(exclude={"q", "limit", "cursor"}))
    if query.q is not None:
        return await _search(viewer, state, query, asked)
    before = None if query.cursor is None else cursors.decode(query.cursor)
    page = await history.page(state["database"], viewer, asked, before=before, limit=query.limit)
    return HistoryPage(
        items=[HistoryItem(**_item(entry)) for entry in page.entries],
        next_cursor=None if page.before is None else cursors.encode_text(page.before),
    )


async def _search(viewer: Viewer, state: State, query: HistoryQuery, asked: Wanted) -> HistoryPage:
    same = (query.q, asked)
    offset = 0 if query.cursor is None else cursors.decode_offset(query.cursor, same)
    entries, following = await searching.page(
        state["database"], viewer, query.q or "", asked, offset=offset, limit=query.limit
    )
    return HistoryPage(
        items=[HistoryItem(**_item(entry)) for entry in entries],
        next_cursor=None if following is None else cursors.encode_offset(following, same),
    )


@router.get(
    "/{exchange_id}",
    summary="One exchange with all that is known of it",
    operation_id="exchange",
    response_model=HistoryDetails,
    responses=errors(401, 403, 404, 500, 503),
)
async def get_exchange(exchange_id: str, viewer: CurrentViewer, state: CurrentState) -> Response:
    found = await history.details(state["database"], viewer, exchange_id)
    size = len(found.request or b"") + len(found.response or b"")
    body = await asyncio.to_thread(_details, found) if size > _FEW else _details(found)
    return Response(body, media_type="application/json")


@router.delete(
    "/{exchange_id}",
    status_code=204,
    response_class=Response,
    summary="Delete an exchange",
    description="One's own, or any for an administrator. It still counts in reports and budgets.",
    operation_id="delete_exchange",
    responses=errors(401, 403, 404, 500, 503),
)
async def delete_exchange(exchange_id: str, viewer: CurrentViewer, state: CurrentState) -> None:
    await erasing.exchange(state["database"], viewer, exchange_id)


@of_users.delete(
    "/{user_id}/history",
    summary="Delete all exchanges of a user",
    description="One's own, or anybody's for an administrator. If there is not time for all, `complete` is false.",
    operation_id="delete_history_of_user",
    responses=errors(401, 403, 404, 500, 503),
)
async def delete_history_of_user(user_id: str, viewer: CurrentViewer, state: CurrentState) -> Erased:
    return Erased(**(await erasing.all_of_user(state["database"], viewer, user_id))._asdict())


def _item(entry: Entry) -> dict[str, Any]:
    exchange, remarks = entry.exchange, entry.remarks
    return {
        **outcome(exchange),
        "question": exchange.question,
        "status": exchange.status,
        "error": exchange.error,
        "user_id": exchange.user_id,
        "key_id": exchange.key_id,
        "project_id": exchange.project_id,
        "tags": list(remarks.tags),
        "feedback": remarks.feedback and feedback_item(remarks.feedback),
        "texts": entry.texts,
    }


def feedback_item(row: Any) -> FeedbackItem:
    return FeedbackItem(
        thumb=THUMB_NAMES.get(row.thumb),
        score=row.score,
        comment=row.comment,
        user_id=row.user_id,
        created_at=moment(row.created_at),
    )


def _details(found: Details) -> bytes:
    exchange = found.entry.exchange
    usage = msgspec.structs.asdict(exchange.usage)
    details = {
        **_item(found.entry),
        "usage": {name: count for name, count in usage.items() if name not in _NOT_STORED},
        "asked_model": exchange.asked_model,
        "dialect": exchange.dialect,
        "stream": exchange.stream,
        "cached": exchange.cached,
        "finish_reason": exchange.finish_reason,
        "price": None if exchange.price is None else msgspec.json.decode(exchange.price),
        "timing": _timing(exchange),
        "attempts": exchange.attempts,
        "request": _value(found.request),
        "response": _value(found.response),
    }
    return msgspec.json.encode(details, enc_hook=lambda model: model.model_dump())


_NOT_STORED = ("cost", "cache_write_1h_tokens")


def _timing(exchange: Exchange) -> dict[str, float | None]:
    until = exchange.first_token_ms if exchange.stream else exchange.duration_ms
    return {
        "duration_ms": exchange.duration_ms,
        "waited_ms": exchange.waited_ms,
        "first_token_ms": exchange.first_token_ms,
        "overhead_ms": None if until is None else round(max(0.0, until - exchange.waited_ms), 3),
    }


def _value(body: bytes | None) -> Any:
    """JSON as it was, anything else as text."""
    if body is None:
        return None
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")
    return msgspec.Raw(body)
