"""A request's body that is worked on as it comes, however long it is."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from fastapi import Request
from starlette.types import Message

from ai_proxy.core.exceptions import ClientGone, RequestTimeout, UnsupportedMediaType

ANY_SIZE = "ai_proxy.any_size"  # in the scope of a request whose body may be as long as it likes


def check_type(request: Request, types: Sequence[str]) -> None:
    """Raises `UnsupportedMediaType`."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in types:
        message = f"Send the body with a Content-Type that says what it is: one of {', '.join(types)}."
        raise UnsupportedMediaType(message)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        message = "Compressed bodies are not taken: send the body as it is."
        raise UnsupportedMediaType(message)


async def blocks(request: Request, *, patience: float) -> AsyncGenerator[bytes, None]:
    """Each is waited for as long as `patience` says, in seconds; meanwhile nothing more is read than fits in a buffer.

    Raises `RequestTimeout` or `ClientGone`.
    """
    request.scope[ANY_SIZE] = True
    while True:
        message = await _next(request, patience)
        if message["type"] == "http.disconnect":
            gone = "The client went away before its request was complete."
            raise ClientGone(gone)
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _next(request: Request, patience: float) -> Message:
    try:
        async with asyncio.timeout(patience):
            return await request.receive()
    except TimeoutError:
        late = f"Nothing more of the body arrived within {patience:g} s."
        raise RequestTimeout(late) from None
