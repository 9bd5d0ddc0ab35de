"""What the API's description says beside what FastAPI finds out by itself."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from ai_proxy import __version__
from ai_proxy.api import cookies
from ai_proxy.api.permissions import PERMISSIONS, Permission
from ai_proxy.dialects.call import Dialect
from ai_proxy.schemas.ask import AskRequest
from ai_proxy.schemas.error import AnthropicErrorResponse, ErrorResponse

_ERRORS = {
    400: "The request is not as expected; `param` names the field.",
    401: "The API key or the session is missing, wrong or over.",
    403: "Who asks may not do this.",
    404: "What the request names is not there: its model, say, or an earlier response.",
    408: "The body did not arrive in time.",
    409: "It is there already, or has changed meanwhile: a call with the same Idempotency-Key is running, say.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The provider cannot work with the request, or its Idempotency-Key was used for another one.",
    429: "Too many calls or tries: see Retry-After.",
    500: "A fault of the gateway itself: its log has the details under the request's id.",
    502: "The provider failed.",
    503: "The provider is overloaded, or the gateway cannot take the call now: see Retry-After.",
    504: "The provider took too long.",
    529: "The provider is overloaded.",
}

ASK_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": AskRequest.model_json_schema()}}}
}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """The body of an endpoint that reads it itself, for its `openapi_extra`."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def sdk_operation(dialect: Dialect, description: str = "") -> dict[str, Any]:
    """What an operation of the SDKs says of itself: the body is the SDK's, and more than we know may be in it."""
    body = {"type": "object", "additionalProperties": True, "example": _EXAMPLES[dialect]}
    return {
        "response_class": Response,
        "description": _STREAMED if dialect in _STREAMING else description,
        "responses": {
            200: {"description": "As the provider answers.", "content": {"application/json": {"schema": {}}}},
            **_errors_of(dialect),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    }


_STREAMED = 'With `"stream": true` the answer comes as server-sent events.'
_STREAMING = frozenset({"chat", "completions", "responses", "messages"})
_MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
_EXAMPLES: dict[Dialect, dict[str, Any]] = {
    "chat": {"model": "gpt-6-luna", "messages": _MESSAGES},
    "completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "The capital of France is", "max_tokens": 5},
    "embeddings": {"model": "text-embedding-3-small", "input": "What is the capital of France?"},
    "moderations": {"model": "omni-moderation-latest", "input": "What is the capital of France?"},
    "responses": {"model": "gpt-6-luna", "input": "What is the capital of France?"},
    "messages": {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": _MESSAGES},
    "count_tokens": {"model": "claude-haiku-4-5", "messages": _MESSAGES},
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an endpoint, for its `responses`."""
    return {status: {"model": ErrorResponse, "description": _ERRORS[status]} for status in statuses}


def _errors_of(dialect: Dialect) -> dict[int | str, dict[str, Any]]:
    found = errors(400, 401, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504)
    if dialect not in _ANTHROPIC:
        return found
    return {status: {**said, "model": AnthropicErrorResponse} for status, said in (found | errors(529)).items()}


_ANTHROPIC = frozenset({"messages", "count_tokens"})


def install(app: FastAPI) -> None:
    """Describe the API: the security scheme is ours, because keys are checked without FastAPI's dependencies."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title="AI Proxy",
        version=__version__,
        description="Ask large language models, get the answer as it is written, see what was asked.",
        routes=app.routes,
    )
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "Your API key, which begins with aip_."},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "session": {"type": "apiKey", "in": "cookie", "name": cookies.PLAIN, "description": "A login's cookie."},
    }
    for path, operations in schema["paths"].items():
        if path.startswith(("/api/", "/v1/")):
            for method, operation in operations.items():
                operation["security"] = _security(_PERMISSIONS[method.upper(), path])
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]  # the framework's own: invalid parameters are 400 here
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    return schema


def _security(permission: Permission) -> list[dict[str, list[str]]]:
    keys: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
    return (keys if permission.scope else []) + ([{"session": []}] if permission.by_session else [])


_PERMISSIONS = {(method, path.replace(":path}", "}")): held for (method, path), held in PERMISSIONS.items()}
