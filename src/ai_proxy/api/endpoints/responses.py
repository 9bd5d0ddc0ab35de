"""POST /v1/responses; GET and DELETE /v1/responses/{id} from our own record."""

from collections import Counter
from collections.abc import Mapping
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
from ai_proxy.dialects.responses import (
    conversation,
    dereferenced,
    named_items,
    read_asked,
    read_output,
    referenced,
)
from ai_proxy.storage import responses

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=DirectRoute)
stored = APIRouter(prefix="/v1", tags=["OpenAI"])

_MOST_TURNS = 200  # of a conversation that goes from response to response
_MOST_REFERRED_TO = 200  # responses
_READ = 8  # times what is used: a stored request and its response hold instructions and tools too


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
    state["startup"].check()
    found = await responses.find(state["database"], principal.key_id, response_id)
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
    room = _Room(state["server"].max_body_bytes)
    if body.get("previous_response_id") is not None:
        body = conversation(await _before(state, key_id, body["previous_response_id"], room), body)
    if wanted := referenced(body):
        body = dereferenced(body, await _items(state, key_id, wanted, room))
    return calls.changed(call, {**call.body, **body}, sent=body)


async def _before(
    state: State, key_id: str, name: str | None, room: "_Room"
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Requests and responses of a conversation, oldest first, up to the response of this name."""
    earlier: list[tuple[dict[str, Any], dict[str, Any]]] = []
    while name is not None:
        if len(earlier) == _MOST_TURNS:
            message = f"previous_response_id: the conversation has more than {_MOST_TURNS} turns: send them as input."
            raise BadRequest(message, param="previous_response_id")
        state["startup"].check()
        found = await responses.find_turn(state["database"], key_id, name)
        if found is None:
            raise PreviousResponseNotFound(name)
        room.read(len(found.request) + len(found.response), "previous_response_id")
        asked, output = read_asked(found.request), read_output(found.response)
        room.use(len(asked.input) + sum(map(len, output)), "previous_response_id")
        earlier.append(
            ({"input": msgspec.json.decode(asked.input)}, {"output": [msgspec.json.decode(item) for item in output]})
        )
        name = asked.previous_response_id
    return earlier[::-1]


async def _items(state: State, key_id: str, wanted: Mapping[str, Counter[str]], room: "_Room") -> dict[str, Any]:
    """The items that are wanted of these responses, by their names, as far as there are such."""
    if len(wanted) > _MOST_REFERRED_TO:
        message = f"input: there are references to items of more than {_MOST_REFERRED_TO} responses: send the items."
        raise BadRequest(message, param="input")
    items: dict[str, Any] = {}
    for response_id, times in wanted.items():
        state["startup"].check()
        found = await responses.find(state["database"], key_id, response_id)
        if found is None:
            continue
        room.read(len(found), "input")
        for name, item in named_items(found):
            if name in times:
                room.use(len(item) * times[name], "input")
                items[name] = msgspec.json.decode(item)
    return items


class _Room:
    """How much a request may grow by what it refers to, in bytes, and how much may be read for that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = self._read = 0

    def read(self, size: int, param: str) -> None:
        self._read += size
        self._check(self._read, _READ * self._most, param)

    def use(self, size: int, param: str) -> None:
        self._used += size
        self._check(self._used, self._most, param)

    def _check(self, size: int, most: int, param: str) -> None:
        if size > most:
            message = f"{param}: what it refers to is larger than {most} bytes: send less of it, as input."
            raise BadRequest(message, param=param)
