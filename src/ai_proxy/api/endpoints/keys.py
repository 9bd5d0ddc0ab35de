"""/api/keys: make, list, change, rotate and revoke API keys; one's own, or for administrators anyone's."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from ai_proxy.api import cursor as cursors
from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentActor, CurrentState
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.schemas.keys import KeyChange, KeyItem, KeyPage, KeyRequest, KeyWithSecret, Rotation
from ai_proxy.services.keys import Key, NewKey

router = APIRouter(prefix="/api/keys", tags=["keys"])

_READ = errors(400, 401, 403, 404, 500, 503)
_WRITE = {**_READ, **errors(408, 409, 413, 415)}


@router.get("", summary="The keys, oldest first", operation_id="list_keys", responses=_READ)
async def list_keys(
    actor: CurrentActor,
    state: CurrentState,
    user: Annotated[UUID | None, Query(description="Only keys of this user.")] = None,
    project: Annotated[UUID | None, Query(description="Only keys of this project.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items on a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None,
) -> KeyPage:
    found, more = await state["keys"].page(
        actor,
        user_id=_text(user),
        project_id=_text(project),
        after=None if cursor is None else cursors.decode(cursor),
        limit=limit,
    )
    items = [_item(key) for key in found]
    return KeyPage(items=items, next_cursor=cursors.encode(items[-1].id) if more else None)


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    description="The answer has the key itself, which is shown this once.",
    operation_id="create_key",
    responses=_WRITE,
    openapi_extra=json_body(KeyRequest),
)
async def create_key(request: Request, response: Response, actor: CurrentActor, state: CurrentState) -> KeyWithSecret:
    body = parse(await read_json(request, state["server"]), KeyRequest)
    new = NewKey(
        name=body.name,
        user_id=_text(body.user_id),
        project_id=_text(body.project_id),
        scopes=body.scopes,
        models=body.models,
        labels=body.labels,
        expires_at=body.expires_at,
    )
    key, secret = await state["keys"].create(actor, new)
    state["keyring"].clear()
    return _with_secret(response, key, secret)


@router.get("/{key_id}", summary="One key", operation_id="get_key", responses=_READ)
async def get_key(key_id: str, actor: CurrentActor, state: CurrentState) -> KeyItem:
    return _item(await state["keys"].get(actor, key_id))


@router.patch(
    "/{key_id}",
    summary="Change a key's name, scopes, models, labels or end",
    operation_id="change_key",
    responses=_WRITE,
    openapi_extra=json_body(KeyChange),
)
async def change_key(request: Request, key_id: str, actor: CurrentActor, state: CurrentState) -> KeyItem:
    body = parse(await read_json(request, state["server"]), KeyChange)
    changed = await state["keys"].change(actor, key_id, body.model_dump(exclude_unset=True))
    state["keyring"].clear()
    return _item(changed)


@router.delete(
    "/{key_id}",
    status_code=204,
    response_class=Response,
    summary="Revoke a key",
    description="It is refused from now on. The other processes on the same database notice within five seconds.",
    operation_id="revoke_key",
    responses=_READ,
)
async def revoke_key(key_id: str, actor: CurrentActor, state: CurrentState) -> None:
    await state["keys"].revoke(actor, key_id)
    state["keyring"].clear()


@router.post(
    "/{key_id}/rotate",
    summary="Give a key a new secret",
    description="Its id and settings stay. The answer has the new key itself, which is shown this once.",
    operation_id="rotate_key",
    responses=_WRITE,
    openapi_extra=json_body(Rotation),
)
async def rotate_key(
    request: Request, response: Response, key_id: str, actor: CurrentActor, state: CurrentState
) -> KeyWithSecret:
    body = parse(await read_json(request, state["server"]), Rotation)
    key, secret = await state["keys"].rotate(actor, key_id, body.overlap)
    state["keyring"].clear()
    return _with_secret(response, key, secret)


def _with_secret(response: Response, key: Key, secret: str) -> KeyWithSecret:
    response.headers["cache-control"] = "no-store"
    return KeyWithSecret(**_item(key).model_dump(), key=secret)


def _item(key: Key) -> KeyItem:
    return KeyItem.model_validate(key, from_attributes=True)


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)
