"""GET /api/usage: who called what, and what it cost."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from ai_proxy.api.dependencies import CurrentActor, CurrentState
from ai_proxy.api.openapi import errors
from ai_proxy.api.tables import CSV, csv_file, wants_csv
from ai_proxy.schemas.usage import UsageQuery, UsageReport
from ai_proxy.services import usage

router = APIRouter(prefix="/api", tags=["usage"])


@router.get(
    "/usage",
    summary="What was used, and what it cost",
    operation_id="usage",
    response_model=UsageReport,
    responses={200: CSV, **errors(400, 401, 403, 500, 503)},
)
async def get_usage(
    request: Request, actor: CurrentActor, state: CurrentState, query: Annotated[UsageQuery, Query()]
) -> Response:
    """An administrator sees all calls; others see their own, and those in the projects that they are members of."""
    asked = usage.question(query.first, query.last, query.group_by, query.filters())
    if wants_csv(request, query.format):
        found = await usage.export(state["database"], actor, asked)
        return await csv_file(f"usage-{found.first}-{found.last}", found.columns, found.items)
    found = await usage.report(state["database"], actor, asked)
    body = {"from": found.first, "to": found.last, "items": found.items, "total": found.total}
    return Response(msgspec.json.encode(body), media_type="application/json")
