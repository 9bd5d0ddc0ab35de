"""Errors as clients see them: one shape, the one that OpenAI's SDK understands."""

import math
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ai_proxy.api.body import invalid
from ai_proxy.core.exceptions import BodyTooLarge, GatewayError, RequestTimeout
from ai_proxy.core.logging import request_id

log = structlog.get_logger()

# The rest of the body is still on its way: the connection cannot be used again.
_CLOSING = (RequestTimeout, BodyTooLarge)


def envelope(error: GatewayError) -> dict[str, Any]:
    """The body of an error, as `schemas/error.py` describes it."""
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
            "retry_after": error.retry_after,
        }
    }


def render(error: GatewayError) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.should_retry is not None:
        headers["x-should-retry"] = str(error.should_retry).lower()
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="ai-proxy"'
    if isinstance(error, _CLOSING):
        headers["connection"] = "close"
    return Response(msgspec.json.encode(envelope(error)), error.status, headers, media_type="application/json")


async def on_gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)  # noqa: S101 - FastAPI types handlers by Exception
    request.scope["error"] = error
    return render(error)


async def on_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problem = error.errors()[0]
    return await on_gateway_error(request, invalid(problem["loc"][1:], problem["msg"]))  # after "query" or the like


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    response = await on_gateway_error(request, _framework_error(error, request))
    response.headers.update(error.headers or {})
    return response


async def on_bug(request: Request, error: Exception) -> Response:
    """Everything else is a bug of ours: the traceback goes to the log, the client gets the request id."""
    log.error("internal error", exc_info=error)
    bug = GatewayError("Something went wrong inside the gateway. Its log has the details under this request id.")
    response = await on_gateway_error(request, bug)
    response.headers["x-request-id"] = request_id.get() or ""
    response.headers["connection"] = "close"  # the server cuts it after an exception that nobody took
    return response


def install(app: FastAPI) -> None:
    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(RequestValidationError, on_invalid_parameter)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)


def _framework_error(error: HTTPException, request: Request) -> GatewayError:
    status = error.status_code
    hint = {
        HTTPStatus.NOT_FOUND: "There is nothing at this path: /docs lists what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"This path does not take {request.method}: the header Allow says what it does.",
    }.get(HTTPStatus(status), str(error.detail))
    rendered = GatewayError(hint)
    rendered.status = status
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        rendered.code = HTTPStatus(status).phrase.lower().replace(" ", "_")
        rendered.kind, rendered.source = "invalid_request_error", "client"  # type: ignore[misc]
    return rendered
