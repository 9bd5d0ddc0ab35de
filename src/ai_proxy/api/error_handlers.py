"""Errors as clients see them, in two shapes: below /v1/messages as Anthropic's SDK reads them, else as OpenAI's."""

import math
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from ai_proxy.api.body import invalid
from ai_proxy.api.dependencies import note_refusal
from ai_proxy.core.exceptions import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestTimeout,
)
from ai_proxy.core.logging import request_id
from ai_proxy.core.upstream_errors import UpstreamOverloaded

log = structlog.get_logger()

# The rest of the body is still on its way: the connection cannot be used again.
_CLOSING = (RequestTimeout, BodyTooLarge)


def envelope(error: GatewayError) -> dict[str, Any]:
    """The body of an error, as OpenAI's clients know it. `schemas/error.py` describes both."""
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "code": error.code,
            "param": error.param,
            "request_id": request_id.get(),
            "source": error.source,
            "provider": error.provider,
            "upstream_status": error.upstream_status,
            "retry_after": None if error.retry_after is None else _milliseconds(error.retry_after) / 1000,
        }
    }


def anthropic_envelope(error: GatewayError) -> dict[str, Any]:
    """The body of an error as Anthropic's clients know it: https://platform.claude.com/docs/en/api/errors"""
    kind = _ANTHROPIC_TYPES.get(_anthropic_status(error), "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": error.message, "code": error.code, "source": error.source},
        "request_id": request_id.get(),
    }


def render(error: GatewayError, path: str = "") -> Response:
    """An error as the response to a request for `path`, which says whose clients use it."""
    if path.startswith(("/v1/messages", "/v1/v1/messages")):
        body, status = anthropic_envelope(error), _anthropic_status(error)
    else:
        body, status = envelope(error), error.status
    return Response(msgspec.json.encode(body), status, _headers(error), media_type="application/json")


def _headers(error: GatewayError) -> dict[str, str]:
    headers = dict(error.headers) if isinstance(error, RateLimited) else {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
        headers["retry-after-ms"] = str(_milliseconds(error.retry_after))
    if error.should_retry is not None:
        headers["x-should-retry"] = str(error.should_retry).lower()
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="ai-proxy"'
    if isinstance(error, _CLOSING):
        headers["connection"] = "close"
    return headers


def _milliseconds(seconds: float) -> int:
    """Rounded up: whoever comes earlier is refused again."""
    return math.ceil(seconds * 1000)


def _anthropic_status(error: GatewayError) -> int:
    """Anthropic has a status of its own for a model that is overloaded."""
    return _OVERLOADED if error.code == UpstreamOverloaded.code else error.status


_OVERLOADED = 529
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def bug() -> GatewayError:
    """What a client is told of a bug of ours."""
    return GatewayError("Something went wrong inside the gateway. Its log has the details under this request id.")


async def on_gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)  # noqa: S101 - FastAPI types handlers by Exception
    request.scope["error"] = error
    if isinstance(error, PermissionDenied):
        await note_refusal(request, error)
    return render(error, request.scope["path"])


async def on_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problem = error.errors()[0]
    return await on_gateway_error(request, invalid(problem["loc"][1:], problem["msg"]))  # after "query" or the like


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    response = await on_gateway_error(request, _framework_error(error, request))
    response.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["allow"] = _allowed(request)
    return response


async def on_bug(request: Request, error: Exception) -> Response:
    """Everything else is a bug of ours: the traceback goes to the log, the client gets the request id."""
    log.error("internal error", exc_info=error)
    response = await on_gateway_error(request, bug())
    response.headers["connection"] = "close"  # the server cuts it after an exception that nobody took
    return response


def install(app: FastAPI) -> None:
    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(RequestValidationError, on_invalid_parameter)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)


def _framework_error(error: HTTPException, request: Request) -> GatewayError:
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return NotFound(f"There is nothing at this path: {_right_path(request.scope['path'])}.")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return MethodNotAllowed(f"This path does not take {request.method}, only {_allowed(request)}.")
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return BadRequest(str(error.detail))
        case _:
            return GatewayError(str(error.detail))


def _allowed(request: Request) -> str:
    """The methods of all routes with this path: the framework knows those of the first. GET stands for HEAD too."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    methods = {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return ", ".join(sorted(methods - {"HEAD"}))


def _right_path(path: str) -> str:
    """Where to look instead. The base URL is what clients have wrong most."""
    if path.startswith("/v1/v1/"):
        return "the base URL of Anthropic's clients has no /v1, that of OpenAI's has one"
    if path.startswith(_BELOW_V1):
        return "the base URL needs /v1"
    return "/docs lists what there is"


_BELOW_V1 = ("/chat/completions", "/completions", "/responses", "/models", "/messages", "/embeddings", "/moderations")
