"""Request bodies: read within limits, decoded strictly."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel, ValidationError

from ai_proxy.core.exceptions import BadRequest, BodyTooLarge, ClientGone, RequestTimeout, UnsupportedMediaType
from ai_proxy.core.groups import ServerSettings
from ai_proxy.schemas.ask import AskRequest

M = TypeVar("M", bound=BaseModel)

ARRIVED = "ai_proxy.body_arrived"  # in the scope of a request that our server has read to its end: nothing to wait for


async def read_body(request: Request, settings: ServerSettings) -> bytes:
    """The body of a request that says it is JSON.

    Raises `UnsupportedMediaType`, `BodyTooLarge`, `RequestTimeout` or `ClientGone`.
    """
    length = _check_headers(request.scope["headers"], settings.max_body_bytes)
    if length == 0:
        return b""
    if ARRIVED in request.scope:
        return await _receive(request, settings.max_body_bytes)
    return await _receive_in_time(request, settings)


async def read_json(request: Request, settings: ServerSettings) -> Any:
    """The body as JSON (RFC 8259: UTF-8, no NaN; the last of equal names counts).

    Raises as `read_body` does, or `BadRequest`.
    """
    return decode(await read_body(request, settings))


def decode(body: bytes) -> Any:
    """Raises `BadRequest`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = "The body must be valid JSON in UTF-8."
        raise BadRequest(message) from None
    except RecursionError:
        message = "The body is nested too deeply."
        raise BadRequest(message) from None


def parse(body: Any, model: type[M]) -> M:
    """The body as what it must be. Raises `BadRequest`, naming the field at fault."""
    if not isinstance(body, dict):
        message = "The body must be a JSON object."
        raise BadRequest(message)
    unknown = next((name for name in body if name not in model.model_fields), None)
    if unknown is not None:  # found here, because Pydantic would make an error of each, however many there are
        raise invalid([unknown], "there is no such field")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise invalid(problem["loc"], problem["msg"]) from None


def parse_ask(body: Any) -> AskRequest:
    """Raises `BadRequest`, naming the field at fault."""
    return parse(body, AskRequest)


def invalid(location: Sequence[int | str], reason: str) -> BadRequest:
    """A Pydantic error as ours. A field that nobody knows may have a name of any length."""
    param = ".".join(map(str, location))[:_MAX_PARAM]
    return BadRequest(f"{param}: {reason.removeprefix('Value error, ')}", param=param)


_MAX_PARAM = 100  # characters
_JSON_TYPES = frozenset({b"application/json", b"text/json"})


def _check_headers(headers: list[tuple[bytes, bytes]], limit: int) -> int | None:
    """Refuse what can be refused before the body is read. The declared length, if there is one."""
    length = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"content-type":
            _check_type(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            message = "Compressed bodies are not taken: send the body as it is."
            raise UnsupportedMediaType(message)
    if length is not None and length > limit:
        raise _too_large(limit)
    return length


def _check_type(value: bytes) -> None:
    media_type = value.partition(b";")[0].strip().lower()
    if media_type not in _JSON_TYPES and not media_type.endswith(b"+json"):
        message = "The body must be JSON: send it with the header 'Content-Type: application/json'."
        raise UnsupportedMediaType(message)


async def _receive_in_time(request: Request, settings: ServerSettings) -> bytes:
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _receive(request, settings.max_body_bytes)
    except TimeoutError:
        message = f"The body did not arrive within {settings.body_timeout:g} s."
        raise RequestTimeout(message) from None


async def _receive(request: Request, limit: int) -> bytes:
    blocks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            gone = "The client went away before its request was complete."
            raise ClientGone(gone)
        block = message.get("body", b"")
        size += len(block)
        if size > limit:
            raise _too_large(limit)
        blocks.append(block)
        if not message.get("more_body", False):
            return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over the limit of {limit:,} bytes.")
