"""Amazon Bedrock's Converse API: chat completions by translation, with a Bedrock API key or with signed requests.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from yarl import URL

from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.sources import ConfigurationError, Problem
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import BadUpstreamResponse, StreamTruncated, UpstreamError, UpstreamTimeout
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion, ProviderFault
from ai_proxy.dialects.converse import upstream_request
from ai_proxy.dialects.converse_answers import ToChunks, to_completion
from ai_proxy.dialects.converse_wire import read_fault
from ai_proxy.providers import translated
from ai_proxy.providers.answers import GOOD, Answers
from ai_proxy.providers.aws_events import BrokenStream, Message, MessageSplitter
from ai_proxy.providers.aws_signing import Chain, Credentials, Request, Signer
from ai_proxy.providers.http import Channel, Reply

_FORBIDDEN, _MODEL_FAILED = 403, 424
_STREAM = "application/vnd.amazon.eventstream"
_MAX_PAGES = 10  # of a thousand inference profiles each


class Bedrock:
    """Without a key, requests are signed with AWS credentials: those that `credentials` gives, or else botocore finds.

    Raises `ConfigurationError` when that is not possible.
    """

    is_mock = False
    dialects = frozenset({"chat"})

    def __init__(
        self,
        provider: ResolvedProvider,
        key: str,
        channel: Channel,
        credentials: Callable[..., Credentials | None] | None = None,
    ) -> None:
        self.name = provider.name
        self.default_model = provider.default_model
        self._base_url = provider.base_url
        self._channel = channel
        self._answers = _Answers(provider.name, key, read_fault)
        self._signer = None if key else _signer(provider, credentials)
        self._headers = {
            **({"authorization": f"Bearer {key}"} if key else {}),
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "ai-proxy",
        }

    async def complete(self, call: Call, model: str, limits: Bounds) -> Completion:
        """Raises `BadRequest`, too, for a call that cannot be translated."""
        async with self._post(call, model, limits, "converse") as reply:
            if reply.status != GOOD:
                await self._answers.refuse(reply)
            body = await reply.read()
        return self._answers.read(translated.completion(to_completion, call, model), body)

    async def stream(self, call: Call, model: str, limits: Bounds) -> AsyncGenerator[Chunk, None]:
        """Raises `BadRequest`, too, for a call that cannot be translated."""
        chunks = ToChunks(**translated.arguments(call, model))
        async with self._post(call, model, limits, "converse-stream") as reply:
            if reply.status != GOOD or _STREAM not in (reply.header("content-type") or ""):
                await self._answers.refuse(reply)
            async for message in self._messages(reply):
                read = partial(_read_event, chunks, message.headers)
                for chunk in self._answers.read(read, message.payload):
                    reply.has_content = reply.has_content or chunk.content
                    yield chunk
        if not chunks.finished:
            raise StreamTruncated(self.name, "ended its answer without finishing it")

    async def models(self, limits: Bounds) -> list[str]:
        """The models and inference profiles that can be asked.

        https://docs.aws.amazon.com/bedrock/latest/APIReference/API_ListFoundationModels.html and
        https://docs.aws.amazon.com/bedrock/latest/APIReference/API_ListInferenceProfiles.html
        """
        query = "?byInferenceType=ON_DEMAND&byOutputModality=TEXT"
        listed = await self._list(f"/foundation-models{query}", _models.decode, limits)
        names = [model.modelId for model in listed.modelSummaries if model.chats]
        after = ""
        for _ in range(_MAX_PAGES):
            page = await self._list(f"/inference-profiles?maxResults=1000{after}", _profiles.decode, limits)
            names += [profile.name for profile in page.inferenceProfileSummaries]
            if not page.nextToken:
                break
            after = f"&nextToken={quote(page.nextToken, safe='')}"
        return names

    async def _list(self, path: str, read: Callable[[bytes], Any], limits: Bounds) -> Any:
        """Lists are kept at another address than models."""
        url = URL(self._base_url.replace("bedrock-runtime", "bedrock", 1) + path, encoded=True)
        async with self._request(Request("GET", url), limits) as reply:
            if reply.status != GOOD:
                await self._answers.refuse(reply)
            return self._answers.read(read, await reply.read())

    def _post(self, call: Call, model: str, limits: Bounds, operation: str) -> AbstractAsyncContextManager[Reply]:
        body = msgspec.json.encode(upstream_request(call.body))
        url = URL(f"{self._base_url}/model/{quote(model, safe='')}/{operation}", encoded=True)
        return self._request(Request("POST", url, body), limits)

    @asynccontextmanager
    async def _request(self, request: Request, limits: Bounds) -> AsyncIterator[Reply]:
        """Send it; and once more, if the first answer tells how to sign better."""
        async with self._send(request, limits, await self._authorized(request, limits)) as reply:
            if not self._signs_better_after(reply):
                yield reply
                return
        async with self._send(request, limits, await self._authorized(request, limits)) as reply:
            yield reply

    def _send(self, request: Request, limits: Bounds, headers: Mapping[str, str]) -> Reply:
        return self._channel.request(request.method, request.url, headers, limits, request.body or None)

    async def _authorized(self, request: Request, limits: Bounds) -> Mapping[str, str]:
        if self._signer is None:
            return self._headers
        try:
            async with asyncio.timeout(limits.first_byte):
                return {**self._headers, **await self._signer.headers(request)}
        except TimeoutError:
            raise UpstreamTimeout(self.name, "has credentials that could not be fetched in time") from None

    def _signs_better_after(self, reply: Reply) -> bool:
        if self._signer is None or reply.status != _FORBIDDEN:
            return False
        code = (reply.header("x-amzn-errortype") or "").partition(":")[0].rpartition("#")[2]
        return self._signer.learns(code, reply.header("date"))

    async def _messages(self, reply: Reply) -> AsyncGenerator[Message, None]:
        splitter = MessageSplitter()
        while block := await reply.block():
            try:
                messages = splitter.feed(block)
            except BrokenStream:
                message = "sent something that is not an answer"
                raise BadUpstreamResponse(self.name, message, upstream_status=GOOD) from None
            for each in messages:
                yield each


class _Answers(Answers):
    def rejection(self, status: int, fault: ProviderFault, *, retry_after: str | None = None) -> UpstreamError:
        """A model that failed has a status of the caller's mistakes.

        https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html: ModelErrorException
        """
        error = super().rejection(status, fault, retry_after=retry_after)
        if status != _MODEL_FAILED:
            return error
        message = f"answered with status {status}"
        return BadUpstreamResponse(error.provider or "", message, upstream_status=status)


def _signer(provider: ResolvedProvider, credentials: Callable[..., Credentials | None] | None) -> Signer:
    if provider.region is None:
        what = "signing requests with AWS credentials needs a region: set AWS_REGION"
        raise ConfigurationError(Problem(f"providers.{provider.name}.region", what))
    return Signer(provider.name, provider.region, credentials or Chain(provider.name).load)


def _read_event(chunks: ToChunks, headers: Mapping[str, str], payload: bytes) -> list[Chunk]:
    if headers.get(":message-type") == "error":
        raise ProviderFault(headers.get(":error-message", ""), code=headers.get(":error-code"))
    name = headers.get(":event-type") or headers.get(":exception-type") or ""
    return translated.as_chunks(chunks.feed({name: msgspec.json.decode(payload)}))


class _Model(msgspec.Struct):
    modelId: str
    outputModalities: list[str] = []
    inferenceTypesSupported: list[str] = []

    @property
    def chats(self) -> bool:
        return "TEXT" in self.outputModalities and "ON_DEMAND" in self.inferenceTypesSupported


class _Models(msgspec.Struct):
    modelSummaries: list[_Model] = []


class _Profile(msgspec.Struct):
    inferenceProfileId: str
    inferenceProfileArn: str
    type: str = "SYSTEM_DEFINED"

    @property
    def name(self) -> str:
        """Amazon's own go by their id, those of the account by the whole name."""
        return self.inferenceProfileId if self.type == "SYSTEM_DEFINED" else self.inferenceProfileArn


class _Profiles(msgspec.Struct):
    inferenceProfileSummaries: list[_Profile] = []
    nextToken: str | None = None


_models = msgspec.json.Decoder(_Models)
_profiles = msgspec.json.Decoder(_Profiles)
