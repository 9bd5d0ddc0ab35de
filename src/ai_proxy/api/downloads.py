"""An answer that is written as it is read, however long it is."""

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from ai_proxy.core.exceptions import ClientGone, GatewayError
from ai_proxy.core.metrics import Metrics


class Download(Response):
    """A file of that name. `held` is entered while it is sent; what that or the first block raises is an answer.

    Later it is too late for that: then the connection is cut, so that nobody takes a part for the whole.
    """

    def __init__(
        self, name: str, media_type: str, blocks: AsyncGenerator[bytes, None], held: AbstractContextManager[None]
    ) -> None:
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._blocks = blocks
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            async with aclosing(self._blocks):
                first = await anext(self._blocks, b"")
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                try:
                    await self._send_all(first, Request(scope, receive), send)
                except GatewayError as error:
                    scope["error"] = error
                    metrics: Metrics = scope["state"]["metrics"]
                    metrics.stream_aborted(error.source)
                    return
        await send({"type": "http.response.body", "body": b""})

    async def _send_all(self, first: bytes, request: Request, send: Send) -> None:
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for block in self._blocks:
            if await request.is_disconnected():
                message = "The client went away before all was sent."
                raise ClientGone(message)
            await send({"type": "http.response.body", "body": block, "more_body": True})
