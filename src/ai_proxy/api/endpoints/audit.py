"""GET /api/audit: who did what, newest first."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from ai_proxy.api.cursor import decode, encode
from ai_proxy.api.dependencies import CurrentActor, CurrentState
from ai_proxy.api.openapi import errors
from ai_proxy.api.tables import CSV, csv_file, wants_csv
from ai_proxy.schemas.audit import AuditItem, AuditPage, AuditQuery
from ai_proxy.services import audit

router = APIRouter(prefix="/api", tags=["audit"])


@router.get(
    "/audit",
    summary="Who did what",
    operation_id="audit",
    response_model=AuditPage,
    responses={200: CSV, **errors(400, 401, 403, 500, 503)},
)
async def list_audit(
    request: Request, actor: CurrentActor, state: CurrentState, query: Annotated[AuditQuery, Query()]
) -> AuditPage | Response:
    wanted = audit.wanted(query.action, query.actor, query.target, query.first, query.last)
    if wants_csv(request, query.format):
        return await _file(await audit.export(state["database"], actor, wanted))
    before = None if query.cursor is None else decode(query.cursor)
    found, more = await audit.page(state["database"], wanted, before=before, limit=query.limit)
    items = [AuditItem(**entry._asdict()) for entry in found]
    return AuditPage(items=items, next_cursor=encode(items[-1].id) if more else None)


async def _file(entries: list[audit.Entry]) -> Response:
    rows = (
        {**entry._asdict(), "created_at": msgspec.to_builtins(entry.created_at), "details": _json(entry.details)}
        for entry in entries
    )
    return await csv_file("audit", audit.Entry._fields, rows)


def _json(details: object) -> str:
    return msgspec.json.encode(details).decode()
