"""What an endpoint may ask for. Everything is built once, in app.py."""

from typing import Annotated, TypedDict

import structlog
from fastapi import Depends, Request

from ai_proxy.api import cookies, origin
from ai_proxy.api.permissions import PERMISSIONS, Permission
from ai_proxy.core.exceptions import DatabaseUnavailable, NotSignedIn, PermissionDenied
from ai_proxy.core.groups import ServerSettings
from ai_proxy.core.logging import request_id
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Actor, Principal, Role
from ai_proxy.gateway.auth import KeyRing, key_from
from ai_proxy.gateway.idempotency import Idempotency
from ai_proxy.gateway.limits import Limiter
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.services.accounts import Accounts
from ai_proxy.services.keys import Keys
from ai_proxy.services.oidc import Oidc
from ai_proxy.services.startup import Startup
from ai_proxy.services.transfers import Transfers
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage.engine import Database

log = structlog.get_logger()


class State(TypedDict):
    """What lives as long as the process; an endpoint finds it in `request.scope["state"]`."""

    gateway: Gateway
    idempotency: Idempotency
    keyring: KeyRing
    limiter: Limiter
    recorder: Recorder
    database: Database
    startup: Startup
    accounts: Accounts
    keys: Keys
    transfers: Transfers
    oidc: Oidc | None
    metrics: Metrics
    server: ServerSettings
    keep_texts: bool


def state_of(request: Request) -> State:
    state: State = request.scope["state"]
    return state


def permission_of(request: Request) -> Permission:
    """What the route of this request asks for. A route that asks for nothing is not to be had."""
    return PERMISSIONS[request.method, request.scope["route"].path]


async def authenticate(request: Request) -> Principal:
    """Whose key it is. Raises `Unauthenticated`, or `PermissionDenied` for a key that may not do this."""
    keyring = state_of(request)["keyring"]
    principal = await keyring.authenticate(_key_of(request))
    request.scope["principal"] = principal
    permission = permission_of(request)
    if permission.scope != "calls":
        state_of(request)["startup"].check()
    _check_scope(principal, permission)
    _check_role(principal.role, permission)
    return principal


def _key_of(request: Request) -> str | None:
    authorization = api_key = None
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"x-api-key":
            api_key = value.decode("latin-1")
    return key_from(authorization, api_key)


async def act(request: Request) -> Actor:
    """Who administers: the holder of a key that may manage, else the person whose session cookie came along.

    Raises `Unauthenticated` or `NotSignedIn`; and `PermissionDenied`. What is denied to who is known here, now or by
    what the endpoint calls, is noted in the audit log.
    """
    actor = await _holder(request) if _has_key(request) else await _person(request)
    request.scope["actor"] = actor
    _check(request, actor)
    return actor


async def note_refusal(request: Request, refusal: PermissionDenied) -> None:
    """Note that an actor wanted what they may not. They are told so even if that cannot be noted."""
    actor: Actor | None = request.scope.get("actor")
    if actor is None:
        return
    what = f"{request.method} {request.scope['route'].path}"
    try:
        await state_of(request)["accounts"].note_refusal(actor, what, refusal.message)
    except DatabaseUnavailable as error:
        log.warning("audit: a refusal could not be noted", reason=error.reason)


def address_of(request: Request) -> str:
    """Where the request comes from: the peer, or whom a proxy that the server trusts names."""
    return "" if request.client is None else request.client.host


async def _holder(request: Request) -> Actor:
    principal = await state_of(request)["keyring"].authenticate(_key_of(request))
    request.scope["principal"] = principal
    state_of(request)["startup"].check()
    return await state_of(request)["accounts"].holder(principal, address=address_of(request), request_id=_id())


async def _person(request: Request) -> Actor:
    token = cookies.token_in(request)
    if token is None:
        if permission_of(request).or_scope is not None:  # any key will do, so one that came with none is asked for one
            await state_of(request)["keyring"].authenticate(None)
        message = "Sign in first (POST /api/auth/login), or send an API key that may manage."
        raise NotSignedIn(message)
    sessions = state_of(request)["accounts"].sessions
    actor = await sessions.actor(token, address=address_of(request), request_id=_id())
    if actor is None:
        message = "The session has ended: sign in again."
        raise NotSignedIn(message)
    return actor


def _check(request: Request, actor: Actor) -> None:
    permission = permission_of(request)
    if actor.session_id is None:
        _check_scope(request.scope["principal"], permission)
    elif request.method not in origin.SAFE:
        origin.check(request, required=True)
    _check_role(actor.role, permission)


def _check_role(role: Role, permission: Permission) -> None:
    if role not in permission.roles:
        message = f"The role {role!r} may not do this: ask an administrator."
        raise PermissionDenied(message)


def _check_scope(principal: Principal, permission: Permission) -> None:
    if permission.scope is None:
        message = "An API key will not do here: sign in instead."
        raise PermissionDenied(message)
    if not permission.admits(principal.scopes):
        make = f"ai-proxy keys create NAME --scope {permission.scope}"
        message = f"This API key lacks the scope {permission.scope!r}: '{make}' makes one that has it."
        raise PermissionDenied(message)


async def view(request: Request) -> Viewer:
    """Who looks at the history: whoever administers; or the holder of a key that may not, for what this key did.

    Raises as `authenticate` and `act` do.
    """
    if not _has_key(request):
        return Viewer(await act(request))
    principal = await authenticate(request)
    if "manage" in principal.scopes:
        return Viewer(await act(request))
    actor = request.scope["actor"] = Actor(
        user_id=principal.user_id,
        name=principal.name,
        role=principal.role,
        key_id=principal.key_id,
        address=address_of(request),
        request_id=_id(),
    )
    return Viewer(actor, only_key=principal.key_id)


def _has_key(request: Request) -> bool:
    return "authorization" in request.headers or "x-api-key" in request.headers


def _id() -> str:
    return request_id.get() or ""


async def get_state(request: Request) -> State:
    return state_of(request)


CurrentPrincipal = Annotated[Principal, Depends(authenticate)]
CurrentActor = Annotated[Actor, Depends(act)]
CurrentViewer = Annotated[Viewer, Depends(view)]
CurrentState = Annotated[State, Depends(get_state)]
