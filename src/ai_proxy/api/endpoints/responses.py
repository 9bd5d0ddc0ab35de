"""POST /v1/responses; GET and DELETE /v1/responses/{id} from our own record."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from ai_proxy.api.calls import answer_to, open_call
from ai_proxy.api.dependencies import CurrentPrincipal, CurrentState, State, state_of
from ai_proxy.api.direct import DirectRoute
from ai_proxy.api.openapi import errors, sdk_operation
from ai_proxy.core.exceptions import BadRequest, PreviousResponseNotFound, ResponseNotFound
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.responses import conversation, dereferenced, referenced
from ai_proxy.storage import responses

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=DirectRoute)
stored = APIRouter(prefix="/v1", tags=["OpenAI"])

_MOST_TURNS = 200  # of a conversation that goes from response to response


@router.post(
    "/responses", summary="A response, as OpenAI has it", operation_id="create_response", **sdk_operation("responses")
)
async def create_response(request: Request) -> Response:
    exchange, call = await open_call(request, "responses")
    _check(call.body)
    exchange.keeps_response = call.body.get("store") is not False
    if call.body.get("previous_response_id") is not None or referenced(call.body):
        call = await _complete_input(state_of(request), exchange.key_id, call)
    return await answer_to(request, exchange, call)


@stored.get(
    "/responses/{response_id}",
    summary="A response that was given before",
    operation_id="get_response",
    response_class=Response,
    responses=errors(401, 404, 500, 503),
)
async def get_response(response_id: str, principal: CurrentPrincipal, state: CurrentState) -> Response:
    found = await responses.find(state["database"], principal.key_id, response_id)
    if found is None:
        raise ResponseNotFound(response_id)
    return Response(found.response, media_type="application/json")


@stored.delete(
    "/responses/{response_id}",
    summary="Forget a response",
    description="It cannot be fetched or gone on from any more. The history keeps it.",
    operation_id="delete_response",
    responses=errors(401, 404, 500, 503),
)
async def delete_response(response_id: str, principal: CurrentPrincipal, state: CurrentState) -> dict[str, Any]:
    if not await responses.forget(state["database"], principal.key_id, response_id):
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


async def _complete_input(state: State, key_id: str, call: Call) -> Call:
    """The call with all that it only refers to: what was said before it, and single items of earlier responses."""
    body = call.body
    if body.get("previous_response_id") is not None:
        body = conversation(await _before(state, key_id, body["previous_response_id"]), body)
    if names := referenced(body):
        found = [await responses.find(state["database"], key_id, name) for name in names[:_MOST_TURNS]]
        body = dereferenced(body, [msgspec.json.decode(one.response) for one in found if one is not None])
    return calls.changed(call, {**call.body, **body}, sent=body)


async def _before(state: State, key_id: str, name: object) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Requests and responses of a conversation, oldest first, up to the response of this name."""
    earlier: list[tuple[dict[str, Any], dict[str, Any]]] = []
    while isinstance(name, str) and len(earlier) < _MOST_TURNS:
        found = await responses.find(state["database"], key_id, name)
        if found is None:
            raise PreviousResponseNotFound(name)
        request = msgspec.json.decode(found.request)
        earlier.append((request, msgspec.json.decode(found.response)))
        name = request.get("previous_response_id")
    return earlier[::-1]
