"""POST /v1/responses; GET and DELETE /v1/responses/{id} from our own record."""

from typing import Any

from fastapi import APIRouter, Request, Response

from ai_proxy.api.calls import answer_to, open_call
from ai_proxy.api.dependencies import CurrentPrincipal, CurrentState
from ai_proxy.api.direct import DirectRoute
from ai_proxy.api.openapi import errors, sdk_operation
from ai_proxy.core.exceptions import BadRequest, ResponseNotFound
from ai_proxy.storage import responses

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=DirectRoute)
stored = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.post(
    "/responses", summary="A response, as OpenAI has it", operation_id="create_response", **sdk_operation("responses")
)
async def create_response(request: Request) -> Response:
    exchange, call = await open_call(request, "responses")
    _check(call.body)
    exchange.keeps_response = call.body.get("store") is not False
    return await answer_to(request, exchange, call)


@stored.get(
    "/responses/{response_id}",
    summary="A response that was given before",
    operation_id="get_response",
    response_class=Response,
    responses=errors(401, 404, 500, 503),
)
async def get_response(response_id: str, principal: CurrentPrincipal, state: CurrentState) -> Response:
    state["startup"].check()
    found = await state["recorder"].certain(lambda: responses.find(state["database"], principal.key_id, response_id))
    if found is None:
        raise ResponseNotFound(response_id)
    return Response(found, media_type="application/json")


@stored.delete(
    "/responses/{response_id}",
    summary="Forget a response",
    description="It cannot be fetched or gone on from any more. The history keeps it.",
    operation_id="delete_response",
    responses=errors(401, 404, 500, 503),
)
async def delete_response(response_id: str, principal: CurrentPrincipal, state: CurrentState) -> dict[str, Any]:
    state["startup"].check()
    if not await state["recorder"].certain(lambda: responses.forget(state["database"], principal.key_id, response_id)):
        raise ResponseNotFound(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


def _check(body: dict[str, Any]) -> None:
    previous = body.get("previous_response_id")
    if previous is not None and not isinstance(previous, str):
        message = "previous_response_id: must be the id of a response."
        raise BadRequest(message, param="previous_response_id")
    if body.get("background"):
        message = "background: answers cannot be written in the background here."
        raise BadRequest(message, param="background")
