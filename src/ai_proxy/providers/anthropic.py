"""Anthropic's own API: messages as they come, chat completions by translation.

Source: https://platform.claude.com/docs/en/api/overview
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from urllib.parse import quote

import msgspec
from yarl import URL

from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import StreamTruncated, UpstreamError
from ai_proxy.dialects.anthropic import ToChunks, to_completion, upstream_request
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion, ProviderFault
from ai_proxy.dialects.messages_readers import read_event, read_fault
from ai_proxy.dialects.wires import WIRES
from ai_proxy.providers import translated
from ai_proxy.providers.answers import GOOD, Answers, event_data, is_stream
from ai_proxy.providers.http import Channel, Reply

_LAST_EVENT = "message_stop"
_MAX_PAGES = 10  # of a thousand models each


class Anthropic:
    is_mock = False

    def __init__(self, provider: ResolvedProvider, key: str, channel: Channel) -> None:
        self.name = provider.name
        self.default_model = provider.default_model
        counting = {"count_tokens"} if "messages" in provider.dialects else set()
        self.dialects = frozenset({*provider.dialects, *counting})
        self._channel = channel
        self._answers = _Answers(provider.name, key, read_fault)
        self._base_url = provider.base_url
        self._urls = {
            path: URL(provider.base_url + path, encoded=True) for path in ("/messages", "/messages/count_tokens")
        }
        self._headers = {
            provider.key_header: key,
            "anthropic-version": provider.api_version or "2023-06-01",
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "ai-proxy",
        }

    async def complete(self, call: Call, model: str, limits: Bounds) -> Completion:
        """Raises `BadRequest`, too, for a chat call that cannot be translated."""
        async with self._post(call, model, limits, stream=False) as reply:
            if reply.status != GOOD:
                await self._answers.refuse(reply)
            body = await reply.read()
        if call.dialect == "chat":
            return self._answers.read(translated.reader(to_completion, translated.naming(model)), body)
        return self._answers.read(WIRES[call.dialect].read_answer, body)

    async def stream(self, call: Call, model: str, limits: Bounds) -> AsyncGenerator[Chunk, None]:
        """Raises `BadRequest`, too, for a chat call that cannot be translated."""
        read = _translation(model) if call.dialect == "chat" else _as_it_came
        async with self._post(call, model, limits, stream=True) as reply:
            if not is_stream(reply):
                await self._answers.refuse(reply)
            finished = False
            async for events in event_data(reply):
                for data in events:
                    for chunk in self._answers.read(read, data):
                        reply.has_content = reply.has_content or chunk.content
                        finished = finished or chunk.finish_reason is not None
                        yield chunk
                        if finished and (chunk.event == _LAST_EVENT or chunk.usage_only):
                            await reply.finish()
                            return
            if not finished:
                raise StreamTruncated(self.name, "ended its answer without finishing it")

    async def models(self, limits: Bounds) -> list[str]:
        """https://platform.claude.com/docs/en/api/models/list"""
        names: list[str] = []
        after = ""
        for _ in range(_MAX_PAGES):
            url = URL(f"{self._base_url}/models?limit=1000{after}", encoded=True)
            async with self._channel.request("GET", url, self._headers, limits) as reply:
                if reply.status != GOOD:
                    await self._answers.refuse(reply)
                page = self._answers.read(_models.decode, await reply.read())
            names += [model.id for model in page.data]
            if not page.has_more or page.last_id is None:
                break
            after = f"&after_id={quote(page.last_id, safe='')}"
        return names

    def _post(self, call: Call, model: str, limits: Bounds, *, stream: bool) -> Reply:
        if call.dialect == "chat":
            body = msgspec.json.encode(upstream_request(call.body, model=model, stream=stream))
            return self._channel.request("POST", self._urls["/messages"], self._headers, limits, body)
        url, headers = self._urls[WIRES[call.dialect].path], {**self._headers, **_own(call.headers)}
        return self._channel.request("POST", url, headers, limits, call.payload(model))


class _Answers(Answers):
    def rejection(self, status: int, fault: ProviderFault, *, retry_after: str | None = None) -> UpstreamError:
        """An account without means is told by the words, under a status that stands for something else."""
        known = fault.status if fault.code == "insufficient_quota" else None
        return super().rejection(known or status, fault, retry_after=retry_after)


def _translation(model: str) -> Callable[[bytes], list[Chunk]]:
    return translated.chunks(ToChunks(**translated.naming(model)).feed)


def _as_it_came(data: bytes) -> tuple[Chunk]:
    return (read_event(data),)


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("anthropic-")}


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False
    last_id: str | None = None


_models = msgspec.json.Decoder(_Models)
