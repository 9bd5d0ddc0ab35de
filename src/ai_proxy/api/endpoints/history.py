"""GET /api/history: the caller's own exchanges, newest first."""

from typing import Annotated

from fastapi import APIRouter, Query

from ai_proxy.api.cursor import decode, encode
from ai_proxy.api.dependencies import CurrentPrincipal, CurrentState
from ai_proxy.api.openapi import errors
from ai_proxy.schemas.ask import outcome
from ai_proxy.schemas.history import HistoryItem, HistoryPage
from ai_proxy.storage import history

router = APIRouter(prefix="/api", tags=["history"])


@router.get(
    "/history",
    summary="What was asked and answered",
    operation_id="history",
    responses=errors(400, 401, 500, 503),
)
async def list_history(
    principal: CurrentPrincipal,
    state: CurrentState,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items on a page.")] = 20,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None,
) -> HistoryPage:
    before = None if cursor is None else decode(cursor)
    found, more = await history.page(state["database"], key_id=principal.key_id, before=before, limit=limit)
    items = [
        HistoryItem(**outcome(exchange), question=exchange.question, status=exchange.status, error=exchange.error)
        for exchange in found
    ]
    return HistoryPage(items=items, next_cursor=encode(items[-1].id) if more else None)
