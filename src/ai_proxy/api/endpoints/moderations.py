"""POST /v1/moderations"""

from fastapi import APIRouter, Request, Response

from ai_proxy.api.calls import answer
from ai_proxy.api.direct import DirectRoute
from ai_proxy.api.openapi import sdk_operation

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=DirectRoute)


@router.post(
    "/moderations",
    summary="Moderations, as OpenAI has it",
    operation_id="create_moderation",
    **sdk_operation("moderations"),
)
async def create_moderation(request: Request) -> Response:
    return await answer(request, "moderations")
