"""/api/auth: login, logout, who one is, one's own password and sessions, and the first administrator."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from ai_proxy.api import cookies, origin
from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentActor, CurrentState, address_of
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.core.logging import request_id
from ai_proxy.core.types import Actor
from ai_proxy.schemas.users import FirstAdministrator, Login, Me, PasswordChange, SessionItem, SessionList, UserItem
from ai_proxy.services.accounts import Caller

router = APIRouter(prefix="/api/auth", tags=["login"])

_READ = errors(401, 403, 500, 503)
_WRITE = errors(400, 401, 403, 408, 413, 415, 429, 500, 503)


@router.post(
    "/login",
    summary="Sign in",
    description="The answer sets a session cookie. Wrong names and wrong passwords are answered alike.",
    operation_id="login",
    responses=_WRITE,
    openapi_extra=json_body(Login),
)
async def login(request: Request, response: Response, state: CurrentState) -> Me:
    origin.check(request, required=False)
    body = parse(await read_json(request, state["server"]), Login)
    actor, token = await state["accounts"].login(body.name, body.password, _caller(request))
    cookies.give(request, response, token)
    return _me(actor)


@router.post(
    "/setup",
    status_code=201,
    summary="Make the first administrator",
    description="With the token that the first start of the server shows. It works once, within an hour.",
    operation_id="set_up",
    responses={**_WRITE, **errors(409)},
    openapi_extra=json_body(FirstAdministrator),
)
async def set_up(request: Request, state: CurrentState) -> UserItem:
    origin.check(request, required=False)
    body = parse(await read_json(request, state["server"]), FirstAdministrator)
    made = await state["accounts"].set_up(body.token, body.name, body.password, _caller(request))
    return UserItem.model_validate(made, from_attributes=True)


@router.post(
    "/logout", status_code=204, response_class=Response, summary="Sign out", operation_id="logout", responses=_READ
)
async def logout(request: Request, response: Response, actor: CurrentActor, state: CurrentState) -> None:
    await state["accounts"].sessions.end(actor, str(actor.session_id))
    cookies.take(request, response)


@router.get("/me", summary="Who one is", operation_id="me", responses=_READ)
async def me(actor: CurrentActor) -> Me:
    return _me(actor)


@router.post(
    "/password",
    status_code=204,
    response_class=Response,
    summary="Change one's own password",
    description="All other sessions of the user end.",
    operation_id="change_password",
    responses={**_WRITE, **errors(409)},
    openapi_extra=json_body(PasswordChange),
)
async def change_password(request: Request, actor: CurrentActor, state: CurrentState) -> None:
    body = parse(await read_json(request, state["server"]), PasswordChange)
    await state["accounts"].change_password(actor, body.old_password, body.new_password)


@router.get(
    "/sessions",
    summary="One's own sessions",
    operation_id="list_sessions",
    responses={**_READ, **errors(400)},
)
async def list_sessions(
    actor: CurrentActor,
    state: CurrentState,
    user_id: Annotated[UUID | None, Query(description="Another user's, for administrators.")] = None,
) -> SessionList:
    found = await state["accounts"].sessions.of(actor, None if user_id is None else str(user_id))
    return SessionList(items=[SessionItem.model_validate(session, from_attributes=True) for session in found])


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    response_class=Response,
    summary="End a session",
    description="One's own; administrators end anyone's.",
    operation_id="end_session",
    responses={**_READ, **errors(404)},
)
async def end_session(session_id: str, actor: CurrentActor, state: CurrentState) -> None:
    await state["accounts"].sessions.end(actor, session_id)


def _caller(request: Request) -> Caller:
    return Caller(address_of(request), request.headers.get("user-agent", ""), request_id.get() or "")


def _me(actor: Actor) -> Me:
    return Me(
        id=UUID(actor.user_id),
        name=actor.name,
        role=actor.role,
        session_id=None if actor.session_id is None else UUID(actor.session_id),
        key_id=None if actor.key_id is None else UUID(actor.key_id),
    )
