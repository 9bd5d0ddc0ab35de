"""POST /v1/messages and /v1/messages/count_tokens; HEAD /, by which their clients see whether anybody is there.

And GET /, for people with a browser.
"""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from ai_proxy.api.calls import answer
from ai_proxy.api.direct import DirectRoute
from ai_proxy.api.openapi import sdk_operation

router = APIRouter(tags=["Anthropic"], route_class=DirectRoute)


@router.post(
    "/v1/messages", summary="A message, as Anthropic has it", operation_id="create_message", **sdk_operation("messages")
)
async def create_message(request: Request) -> Response:
    return await answer(request, "messages")


@router.post(
    "/v1/messages/count_tokens",
    summary="How many tokens a message has",
    operation_id="count_tokens",
    **sdk_operation("count_tokens", "An estimate, four characters a token, if the model's provider cannot count."),
)
async def count_tokens(request: Request) -> Response:
    return await answer(request, "count_tokens")


@router.head("/", include_in_schema=False)
async def presence(_: Request) -> Response:
    return Response()


@router.get("/", include_in_schema=False)
async def front_door(_: Request) -> Response:
    """Whoever opens the address in a browser wants to know what this is."""
    return RedirectResponse("/docs")
