"""GET /api/history/export and POST /api/history/import"""

from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from ai_proxy.api.dependencies import CurrentActor, CurrentState, CurrentViewer
from ai_proxy.api.downloads import Download
from ai_proxy.api.openapi import errors
from ai_proxy.api.uploads import blocks, check_type
from ai_proxy.schemas.transfers import ExportQuery, ImportReport, ProblemItem
from ai_proxy.services.history_questions import wanted

router = APIRouter(prefix="/api/history", tags=["history"])

_LINES = "application/jsonl"
_TYPES = (_LINES, "application/x-ndjson", "application/x-jsonlines", "application/jsonlines", "text/csv")
_CSV = "text/csv; charset=utf-8; header=present"
_MEDIA = {"jsonl": (_LINES, "history.jsonl"), "chat": (_LINES, "chat.jsonl"), "csv": (_CSV, "history.csv")}
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_CONTENT = {_LINES: _TEXT, "text/csv": _TEXT}


@router.get(
    "/export",
    summary="The history as a file",
    description="What GET /api/history shows, oldest first, as it is read. It is noted in the audit log.",
    operation_id="export_history",
    response_class=Response,
    responses={
        200: {"description": "One exchange a line.", "content": _CONTENT},
        **errors(400, 401, 403, 500, 503),
    },
)
async def export_history(
    viewer: CurrentViewer, state: CurrentState, query: Annotated[ExportQuery, Query()]
) -> Response:
    transfers = state["transfers"]
    asked = wanted(query.model_dump(exclude={"q", "format"}))
    export = transfers.export(viewer, asked, form=query.format, words=query.q)
    media_type, name = _MEDIA[query.format]
    return Download(name, media_type, export.all_blocks(), transfers.one_more())


@router.post(
    "/import",
    summary="Take exchanges from a file",
    description="An export as `jsonl` or `csv`, or lines of the fine-tuning chat format. What is there already stays.",
    operation_id="import_history",
    responses=errors(400, 401, 403, 408, 415, 500, 503),
    openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
)
async def import_history(
    request: Request,
    actor: CurrentActor,
    state: CurrentState,
    key: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Id, or an own name, of the key of what had another."),
    ] = None,
) -> ImportReport:
    check_type(request, _TYPES)
    transfers = state["transfers"]
    with transfers.one_more():
        arriving = transfers.import_(actor, key=key)
        await arriving.begin()
        async with aclosing(blocks(request, patience=state["server"].body_timeout)) as body:
            async for block in body:
                await arriving.take(block)
        report = await arriving.finish()
    problems = [ProblemItem(**problem._asdict()) for problem in report.problems]
    return ImportReport(**{**msgspec.structs.asdict(report), "problems": problems})
