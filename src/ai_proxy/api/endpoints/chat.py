"""POST /v1/chat/completions"""

from fastapi import APIRouter, Request, Response

from ai_proxy.api.calls import answer
from ai_proxy.api.direct import DirectRoute
from ai_proxy.api.openapi import sdk_operation

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=DirectRoute)


@router.post(
    "/chat/completions",
    summary="Chat completion, as OpenAI has it",
    operation_id="create_chat_completion",
    **sdk_operation("chat"),
)
async def create_chat_completion(request: Request) -> Response:
    return await answer(request, "chat")
