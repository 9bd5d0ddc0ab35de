"""What an endpoint may ask for. Everything is built once, in app.py."""

from typing import Annotated, TypedDict

from fastapi import Depends, Request

from ai_proxy.api.permissions import PERMISSIONS, Permission
from ai_proxy.core.exceptions import PermissionDenied
from ai_proxy.core.groups import ServerSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Principal
from ai_proxy.gateway.auth import KeyRing, key_from
from ai_proxy.gateway.idempotency import Idempotency
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.storage.engine import Database


class State(TypedDict):
    """What lives as long as the process; an endpoint finds it in `request.scope["state"]`."""

    gateway: Gateway
    idempotency: Idempotency
    keyring: KeyRing
    recorder: Recorder
    database: Database
    metrics: Metrics
    server: ServerSettings


def state_of(request: Request) -> State:
    state: State = request.scope["state"]
    return state


def permission_of(request: Request) -> Permission:
    """What the route of this request asks for. A route that asks for nothing is not to be had."""
    return PERMISSIONS[request.method, request.scope["route"].path]


async def authenticate(request: Request) -> Principal:
    """Whose key it is. Raises `Unauthenticated`, or `PermissionDenied` for a key that may not do this."""
    authorization = api_key = None
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"x-api-key":
            api_key = value.decode("latin-1")
    keyring = state_of(request)["keyring"]
    principal = await keyring.authenticate(key_from(authorization, api_key))
    request.scope["principal"] = principal
    permission = permission_of(request)
    if permission.scope not in principal.scopes or principal.role not in permission.roles:
        message = f"This API key may not do this: it needs the scope {permission.scope!r}, and a user who may."
        raise PermissionDenied(message)
    return principal


async def get_state(request: Request) -> State:
    return state_of(request)


CurrentPrincipal = Annotated[Principal, Depends(authenticate)]
CurrentState = Annotated[State, Depends(get_state)]
