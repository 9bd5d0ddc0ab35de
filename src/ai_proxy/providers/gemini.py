"""Google's Gemini API: chat completions by translation.

Source: https://ai.google.dev/api/generate-content
"""

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import msgspec
from yarl import URL

from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import StreamTruncated, UpstreamError
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion, ProviderFault
from ai_proxy.dialects.gemini import upstream_request
from ai_proxy.dialects.gemini_answers import ToChunks, to_completion
from ai_proxy.dialects.gemini_wire import Fault, read_fault
from ai_proxy.providers import translated
from ai_proxy.providers.answers import GOOD, Answers, event_data, is_stream
from ai_proxy.providers.http import Channel, Reply

_MAX_PAGES = 10  # of a thousand models each
_OTHER_MODELS = "tunedModels/"


class Gemini:
    is_mock = False
    dialects = frozenset({"chat"})

    def __init__(self, provider: ResolvedProvider, key: str, channel: Channel) -> None:
        self.name = provider.name
        self.default_model = provider.default_model
        self._base_url = provider.base_url
        self._channel = channel
        self._answers = _Answers(provider.name, key, read_fault)
        self._headers = {
            provider.key_header: key,
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "ai-proxy",
        }

    async def complete(self, call: Call, model: str, limits: Bounds) -> Completion:
        """Raises `BadRequest`, too, for a call that cannot be translated."""
        async with self._post(call, model, limits, "generateContent") as reply:
            if reply.status != GOOD:
                await self._answers.refuse(reply)
            body = await reply.read()
        return self._answers.read(translated.completion(to_completion, call, model), body)

    async def stream(self, call: Call, model: str, limits: Bounds) -> AsyncGenerator[Chunk, None]:
        """Raises `BadRequest`, too, for a call that cannot be translated. Google marks the end by ending."""
        chunks = ToChunks(**translated.arguments(call, model))
        read = translated.chunks(chunks.feed)
        async with self._post(call, model, limits, "streamGenerateContent?alt=sse") as reply:
            if not is_stream(reply):
                await self._answers.refuse(reply)
            async for events in event_data(reply):
                for data in events:
                    for chunk in self._answers.read(read, data):
                        reply.has_content = reply.has_content or chunk.content
                        yield chunk
        if not chunks.finished:
            raise StreamTruncated(self.name, "ended its answer without finishing it")
        for chunk in translated.as_chunks(chunks.close()):
            yield chunk

    async def models(self, limits: Bounds) -> list[str]:
        """https://ai.google.dev/api/models#method:-models.list"""
        names: list[str] = []
        page = _Page()
        for _ in range(_MAX_PAGES):
            after = f"&pageToken={quote(page.nextPageToken, safe='')}" if page.nextPageToken else ""
            url = URL(f"{self._base_url}/models?pageSize=1000{after}", encoded=True)
            async with self._channel.request("GET", url, self._headers, limits) as reply:
                if reply.status != GOOD:
                    await self._answers.refuse(reply)
                page = self._answers.read(_page.decode, await reply.read())
            names += [model.name.removeprefix("models/") for model in page.models if model.chats]
            if not page.nextPageToken:
                break
        return names

    def _post(self, call: Call, model: str, limits: Bounds, method: str) -> Reply:
        body = msgspec.json.encode(upstream_request(call.body, model=model))
        kind = _OTHER_MODELS if model.startswith(_OTHER_MODELS) else "models/"
        name = kind + quote(model.removeprefix(kind), safe="")
        return self._channel.request(
            "POST", URL(f"{self._base_url}/{name}:{method}", encoded=True), self._headers, limits, body
        )


class _Answers(Answers):
    def rejection(self, status: int, fault: ProviderFault, *, retry_after: str | None = None) -> UpstreamError:
        """The body tells more than the status, and how long to wait, which no header does."""
        told = fault.retry_after if isinstance(fault, Fault) else None
        return super().rejection(fault.status or status, fault, retry_after=retry_after or told)


class _Model(msgspec.Struct):
    name: str
    supportedGenerationMethods: list[Any] = []

    @property
    def chats(self) -> bool:
        return "generateContent" in self.supportedGenerationMethods


class _Page(msgspec.Struct):
    models: list[_Model] = []
    nextPageToken: str | None = None


_page = msgspec.json.Decoder(_Page)
