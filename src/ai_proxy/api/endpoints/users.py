"""/api/users: who may sign in and administer. For administrators."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from ai_proxy.api import cursor as cursors
from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentActor, CurrentState, State
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.schemas.users import NewUser, UserChange, UserItem, UserPage
from ai_proxy.services import users
from ai_proxy.services.users import Change, User

router = APIRouter(prefix="/api/users", tags=["users"])

_READ = errors(400, 401, 403, 404, 500, 503)
_WRITE = {**_READ, **errors(408, 409, 413, 415, 429)}


@router.get("", summary="The users, oldest first", operation_id="list_users", responses=_READ)
async def list_users(
    actor: CurrentActor,
    state: CurrentState,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items on a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None,
) -> UserPage:
    after = None if cursor is None else cursors.decode(cursor)
    found, more = await users.page(state["database"], after=after, limit=limit)
    items = [_item(user) for user in found]
    return UserPage(items=items, next_cursor=cursors.encode(items[-1].id) if more else None)


@router.post(
    "",
    status_code=201,
    summary="Make a user",
    operation_id="create_user",
    responses=_WRITE,
    openapi_extra=json_body(NewUser),
)
async def create_user(request: Request, actor: CurrentActor, state: CurrentState) -> UserItem:
    body = parse(await read_json(request, state["server"]), NewUser)
    password = await _hash(state, body.password)
    return _item(await users.create(state["database"], actor, body.name, role=body.role, password=password))


@router.get("/{user_id}", summary="One user", operation_id="get_user", responses=_READ)
async def get_user(user_id: str, actor: CurrentActor, state: CurrentState) -> UserItem:
    return _item(await users.find(state["database"], user_id))


@router.patch(
    "/{user_id}",
    summary="Change a user's role, state or password",
    description="Any change signs the user out. The last administrator stays one.",
    operation_id="change_user",
    responses=_WRITE,
    openapi_extra=json_body(UserChange),
)
async def change_user(request: Request, user_id: str, actor: CurrentActor, state: CurrentState) -> UserItem:
    body = parse(await read_json(request, state["server"]), UserChange)
    wanted = Change(role=body.role, disabled=body.disabled, password=await _hash(state, body.password))
    changed = await users.change(state["database"], actor, user_id, wanted)
    state["keyring"].clear()
    return _item(changed)


async def _hash(state: State, password: str | None) -> str | None:
    return None if password is None else await state["accounts"].passwords.hash(password)


def _item(user: User) -> UserItem:
    return UserItem.model_validate(user, from_attributes=True)
