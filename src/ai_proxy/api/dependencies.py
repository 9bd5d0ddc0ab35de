"""What an endpoint may ask for. Everything is built once, in app.py."""

from typing import Annotated, TypedDict

from fastapi import Depends, Request

from ai_proxy.core.config import ServerSettings
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


async def authenticate(request: Request) -> Principal:
    """Raises `Unauthenticated`."""
    authorization = api_key = None
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"x-api-key":
            api_key = value.decode("latin-1")
    keyring = state_of(request)["keyring"]
    principal = await keyring.authenticate(key_from(authorization, api_key))
    request.scope["principal"] = principal
    return principal


async def get_state(request: Request) -> State:
    return state_of(request)


CurrentPrincipal = Annotated[Principal, Depends(authenticate)]
CurrentState = Annotated[State, Depends(get_state)]
