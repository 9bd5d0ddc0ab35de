"""GET /api/limits, PUT and DELETE /api/limits/…: how much keys, users, projects and the service may do."""

from fastapi import APIRouter, Request, Response

from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentActor, CurrentState, State
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.core.types import SERVICE, Actor
from ai_proxy.schemas.limits import LimitChange, LimitItem, LimitList
from ai_proxy.services import limits
from ai_proxy.services.limits import NamedLimit

router = APIRouter(prefix="/api/limits", tags=["limits"])

_BODY = json_body(LimitChange)
_PUT = errors(400, 401, 403, 404, 408, 413, 415, 500, 503)
_LIST = errors(401, 403, 500, 503)
_DELETE = errors(401, 403, 404, 500, 503)


@router.get("", summary="The limits there are", operation_id="list_limits", responses=_LIST)
async def list_limits(actor: CurrentActor, state: CurrentState) -> LimitList:
    return LimitList(items=[_item(found) for found in await limits.list_all(state["database"], actor)])


@router.put(
    "/service",
    summary="Limit all calls together",
    operation_id="set_service_limit",
    responses=_PUT,
    openapi_extra=_BODY,
)
async def set_service_limit(request: Request, actor: CurrentActor, state: CurrentState) -> LimitItem:
    return await _set(request, actor, state, SERVICE)


@router.put(
    "/{kind}/{subject_id}",
    summary="Limit a key, a user or a project",
    operation_id="set_limit",
    responses=_PUT,
    openapi_extra=_BODY,
)
async def set_limit(
    request: Request, actor: CurrentActor, state: CurrentState, kind: str, subject_id: str
) -> LimitItem:
    return await _set(request, actor, state, f"{kind}:{subject_id}")


@router.delete(
    "/service",
    status_code=204,
    response_class=Response,
    summary="Take the service's limits away",
    operation_id="remove_service_limit",
    responses=_DELETE,
)
async def remove_service_limit(actor: CurrentActor, state: CurrentState) -> None:
    await _remove(actor, state, SERVICE)


@router.delete(
    "/{kind}/{subject_id}",
    status_code=204,
    response_class=Response,
    summary="Take limits away",
    operation_id="remove_limit",
    responses=_DELETE,
)
async def remove_limit(actor: CurrentActor, state: CurrentState, kind: str, subject_id: str) -> None:
    await _remove(actor, state, f"{kind}:{subject_id}")


async def _set(request: Request, actor: Actor, state: State, subject: str) -> LimitItem:
    change = parse(await read_json(request, state["server"]), LimitChange)
    found = await limits.change(state["database"], actor, subject, change.model_dump(exclude_unset=True))
    state["keyring"].clear()
    return _item(found)


async def _remove(actor: Actor, state: State, subject: str) -> None:
    await limits.remove(state["database"], actor, subject)
    state["keyring"].clear()


def _item(found: NamedLimit) -> LimitItem:
    limit = found.limit
    return LimitItem(
        subject=limit.subject,
        name=found.name,
        requests_per_minute=limit.requests_per_minute,
        tokens_per_minute=limit.tokens_per_minute,
        concurrent=limit.concurrent,
    )
