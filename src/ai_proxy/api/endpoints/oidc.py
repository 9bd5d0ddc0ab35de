"""GET /api/auth/oidc/login and /callback: sign in at another place, and come back from there."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse

from ai_proxy.api import cookies
from ai_proxy.api.dependencies import CurrentState, State, address_of
from ai_proxy.api.openapi import errors
from ai_proxy.core.exceptions import NotFound
from ai_proxy.core.logging import request_id
from ai_proxy.services.accounts import Caller
from ai_proxy.services.oidc import PATIENCE, Answer, Oidc

router = APIRouter(prefix="/api/auth/oidc", tags=["login"])

_COOKIE = "aiproxy_oidc"
_PATH = "/api/auth/oidc"
_HEADERS = {"cache-control": "no-store", "referrer-policy": "no-referrer"}  # the code is in the address

_Given = Annotated[str, Query(max_length=4096)]


@router.get(
    "/login",
    status_code=302,
    summary="Sign in by OpenID Connect",
    description="Sends the browser to the issuer. 404 where none is set up.",
    operation_id="oidc_login",
    responses=errors(404, 500, 503),
    response_class=RedirectResponse,
)
async def login(state: CurrentState) -> RedirectResponse:
    oidc = _configured(state)
    address, pending = await oidc.begin()
    response = RedirectResponse(address, 302, _HEADERS)
    response.set_cookie(
        _COOKIE, pending, max_age=PATIENCE, path=_PATH, secure=oidc.is_secure, httponly=True, samesite="lax"
    )
    return response


@router.get(
    "/callback",
    status_code=303,
    summary="Come back from the issuer",
    description="Sets a session cookie, and makes a user at the first login.",
    operation_id="oidc_callback",
    responses=errors(400, 401, 403, 404, 409, 500, 503),
    response_class=RedirectResponse,
)
async def callback(
    request: Request,
    state: CurrentState,
    answered: Annotated[str, Query(alias="state", max_length=4096)] = "",
    code: _Given = "",
    error: _Given = "",
    iss: Annotated[str | None, Query(max_length=4096)] = None,
) -> RedirectResponse:
    oidc = _configured(state)
    caller = Caller(address_of(request), request.headers.get("user-agent", ""), request_id.get() or "")
    answer = Answer(answered, code, error, iss)
    token = await oidc.complete(answer, request.cookies.get(_COOKIE), caller)
    response = RedirectResponse("/", 303, _HEADERS)
    cookies.give(request, response, token, secure=oidc.is_secure)
    response.delete_cookie(_COOKIE, path=_PATH, secure=oidc.is_secure, httponly=True, samesite="lax")
    return response


def _configured(state: State) -> Oidc:
    oidc = state["oidc"]
    if oidc is None:
        message = "Login by OpenID Connect is not set up here: the setting AI_PROXY_OIDC__ISSUER turns it on."
        raise NotFound(message)
    return oidc
