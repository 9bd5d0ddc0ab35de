"""Any upstream that speaks the OpenAI wire formats: OpenAI, OpenRouter, Groq, vLLM, llama.cpp, Ollama, Azure."""

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from yarl import URL

from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import StreamTruncated
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.dialects.wires import WIRES
from ai_proxy.providers.answers import GOOD, Answers, event_data, is_stream, read_models
from ai_proxy.providers.http import Channel, Reply

# What ends a stream, in the formats that have no `[DONE]`: some servers leave the connection open after it.
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "message_stop"})
_WITH_OPTIONS = frozenset({"chat", "completions"})  # the formats that have stream_options


class OpenAI:
    is_mock = False

    def __init__(self, provider: ResolvedProvider, key: str, channel: Channel) -> None:
        self.name = provider.name
        self.default_model = provider.default_model
        self.dialects = _with_counting(provider.dialects)
        self._provider = provider
        self._channel = channel
        self._answers = Answers(provider.name, key)
        self._query = f"?api-version={quote(provider.api_version)}" if provider.api_version else ""
        self._urls: dict[str, URL] = {}
        self._headers = {
            **_authorization(provider.key_header, key),
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "ai-proxy",
        }

    async def complete(self, call: Call, model: str, limits: Bounds) -> Completion:
        async with self._post(call, model, limits, call.payload(model, self._changes(call, stream=False))) as reply:
            if reply.status != GOOD:
                await self._answers.refuse(reply)
            body = await reply.read()
        return self._answers.read(WIRES[call.dialect].read_answer, body)

    async def stream(self, call: Call, model: str, limits: Bounds) -> AsyncGenerator[Chunk, None]:
        read_event = WIRES[call.dialect].read_event
        async with self._post(call, model, limits, call.payload(model, self._changes(call, stream=True))) as reply:
            if not is_stream(reply):
                await self._answers.refuse(reply)
            begun: set[int] = set()  # several answers may come at once, and each must come to its end
            ended: set[int] = set()
            async for events in event_data(reply):
                for data in events:
                    chunk = self._answers.read(read_event, data)
                    if chunk.content:
                        reply.has_content = True
                        (ended if chunk.finish_reason else begun).add(chunk.index)
                    yield chunk
                    if chunk.event in _LAST_EVENTS:
                        await reply.finish()
                        return
            if not ended or begun - ended:
                raise StreamTruncated(self.name, "ended its answer without finishing it")

    async def models(self, limits: Bounds) -> list[str]:
        url = URL(f"{self._provider.base_url}/models{self._query}", encoded=True)
        async with self._channel.request("GET", url, self._headers, limits) as reply:
            if reply.status != GOOD:
                await self._answers.refuse(reply)
            return self._answers.read(read_models, await reply.read())

    def _post(self, call: Call, model: str, limits: Bounds, body: bytes) -> Reply:
        headers = {**self._headers, **call.headers} if call.headers else self._headers
        return self._channel.request("POST", self._url(WIRES[call.dialect].path, model), headers, limits, body)

    def _url(self, path: str, model: str) -> URL:
        if self._provider.deployments:  # Azure: https://learn.microsoft.com/azure/ai-services/openai/reference
            path = f"/deployments/{quote(model, safe='')}{path}"
            return URL(f"{self._provider.base_url}{path}{self._query}", encoded=True)
        known = self._urls.get(path)
        if known is None:
            known = self._urls[path] = URL(f"{self._provider.base_url}{path}{self._query}", encoded=True)
        return known

    def _changes(self, call: Call, *, stream: bool) -> dict[str, Any] | None:
        """What is sent otherwise than it came.

        A stream tells its usage only to those who ask, and it is asked for always: somebody has to pay for it. A limit
        that the provider would not heed goes under the name that it knows.
        """
        if call.dialect not in _WITH_OPTIONS:
            return None
        changes = self._limit(call)
        if stream and self._provider.usage_option:
            changes["stream_options"] = {**(call.body.get("stream_options") or {}), "include_usage": True}
        return changes

    def _limit(self, call: Call) -> dict[str, Any]:
        """The limit of tokens under the name that the provider heeds: OpenAI's newer models refuse the old one."""
        old, new = "max_tokens", "max_completion_tokens"
        if self._provider.completion_limit:
            if call.is_ours and old in call.body:
                return {new: call.body[old], old: None}
        elif self._provider.completion_limit is False and new in call.body:
            return {old: call.body[new], new: None}
        return {}


def _authorization(header: str, key: str) -> dict[str, str]:
    if not key:
        return {}
    return {header: f"Bearer {key}" if header == "authorization" else key}


def _with_counting(dialects: frozenset[str]) -> frozenset[str]:
    """Who takes Anthropic's messages counts their tokens, too."""
    return dialects | {"count_tokens"} if "messages" in dialects else dialects
