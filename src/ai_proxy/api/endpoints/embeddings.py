"""POST /v1/embeddings"""

from fastapi import APIRouter, Request, Response

from ai_proxy.api.calls import answer
from ai_proxy.api.direct import DirectRoute
from ai_proxy.api.openapi import sdk_operation

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=DirectRoute)


@router.post(
    "/embeddings",
    summary="Embeddings, as OpenAI has it",
    operation_id="create_embedding",
    **sdk_operation("embeddings"),
)
async def create_embedding(request: Request) -> Response:
    return await answer(request, "embeddings")
