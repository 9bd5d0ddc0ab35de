"""Any upstream that speaks the OpenAI wire format: OpenAI, OpenRouter, vLLM, llama.cpp, Ollama."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import NoReturn, TypeVar

import msgspec
from pydantic import SecretStr
from yarl import URL

from ai_proxy.core.exceptions import BadUpstreamResponse, StreamTruncated, UpstreamError
from ai_proxy.dialects.chat import (
    ChatRequest,
    Chunk,
    Completion,
    ProviderFault,
    read_chunk,
    read_completion,
    read_fault,
)
from ai_proxy.providers.errors import rejection
from ai_proxy.providers.http import Http, Reply
from ai_proxy.providers.sse import EventSplitter

T = TypeVar("T")

_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_GOOD = 200
_PATIENCE = 2.0  # seconds for the words that go with an error status
_LEAST_KEY = 8  # what is shorter is no secret, but a word for servers that want none: "ollama", "EMPTY"


class OpenAI:
    is_mock = False

    def __init__(self, name: str, *, base_url: str, api_key: SecretStr, default_model: str, http: Http) -> None:
        self.name = name
        self.default_model = default_model
        self._http = http
        self._url = URL(f"{base_url}/chat/completions", encoded=True)
        self._key = api_key.get_secret_value()
        self._headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "ai-proxy",
        }

    async def complete(self, request: ChatRequest, model: str) -> Completion:
        async with self._http.post(self.name, self._url, request.payload(model, stream=False), self._headers) as reply:
            if reply.status != _GOOD:
                await self._refuse(reply)
            body = await reply.read()
        return self._read(read_completion, body)

    async def stream(self, request: ChatRequest, model: str) -> AsyncGenerator[Chunk, None]:
        async with self._http.post(self.name, self._url, request.payload(model, stream=True), self._headers) as reply:
            if reply.status != _GOOD or "text/event-stream" not in (reply.header("content-type") or "").lower():
                await self._refuse(reply)
            finished = False
            async for data in self._events(reply):
                chunk = self._read(read_chunk, data)
                finished = finished or chunk.finish_reason is not None
                yield chunk
            if not finished:
                raise StreamTruncated(self.name, "ended its answer without finishing it")

    async def _events(self, reply: Reply) -> AsyncGenerator[bytes, None]:
        """The data of each event, up to the `[DONE]` that ends a stream in this format."""
        splitter = EventSplitter()
        async for block in reply.blocks():
            for data in splitter.feed(block):
                if data == b"[DONE]":
                    await reply.finish()
                    return
                yield data
        for data in splitter.close():
            if data != b"[DONE]":
                yield data

    async def _refuse(self, reply: Reply) -> NoReturn:
        """Raise the error that anything but a good answer stands for."""
        if reply.status == _GOOD:
            fault = read_fault(await reply.read())
            raise self._rejection(fault.status or _GOOD, fault)
        try:
            async with asyncio.timeout(_PATIENCE):
                fault = read_fault(await reply.read())
        except (UpstreamError, TimeoutError):  # the status says enough
            fault = ProviderFault("")
        raise self._rejection(reply.status, fault, retry_after=reply.header("retry-after"))

    def _read(self, read: Callable[[bytes], T], body: bytes) -> T:
        try:
            return read(body)
        except ProviderFault as fault:
            raise self._rejection(fault.status or _GOOD, fault) from None
        except _BROKEN:
            message = "sent something that is not an answer"
            raise BadUpstreamResponse(self.name, message, upstream_status=_GOOD) from None

    def _rejection(self, status: int, fault: ProviderFault, *, retry_after: str | None = None) -> UpstreamError:
        if len(self._key) >= _LEAST_KEY:  # it may not look like one
            fault.message = fault.message.replace(self._key, "***")
        return rejection(self.name, status, fault, retry_after=retry_after)
