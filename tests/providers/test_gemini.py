"""Gemini as a provider, against a server that sends what its documentation shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ai_proxy.core import resolved
from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.types import Bounds, Usage
from ai_proxy.core.upstream_errors import (
    BadUpstreamResponse,
    ContentFiltered,
    ProviderAuth,
    StreamTruncated,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.providers.gemini import Gemini
from ai_proxy.providers.http import Http
from tests.upstream import Connection, Upstream, status, stream

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent / "recorded" / "gemini"
KEY = "AIza-secret-of-the-account"
MODEL = "gemini-3.5-flash"
MESSAGES = [{"role": "user", "content": "Why?"}]
CALL = calls.of("chat", {"model": "any", "messages": MESSAGES, "temperature": 0.5}, question="Why?")


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


class Listing(Upstream):
    """Takes requests without a body, too."""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read = reader.readuntil

        async def with_length(separator: bytes) -> bytes:
            head = await read(separator)
            return head if b"content-length" in head.lower() else head[:-2] + b"content-length: 0\r\n\r\n"

        reader.readuntil = with_length
        await super()._accept(reader, writer)


@asynccontextmanager
async def provider_at(upstream: Upstream) -> AsyncIterator[Gemini]:
    settings = msgspec.structs.replace(
        resolved.mock(resolved.Defaults(Bounds(), max_connections=4)),
        name="gemini",
        base_url=upstream.url,
        key_header="x-goog-api-key",
    )
    async with Http() as http:
        yield Gemini(settings, KEY, http.channel("gemini", max_connections=4, pool_timeout=1))


async def completed(upstream: Upstream, call: Call = CALL, model: str = MODEL) -> Completion:
    async with provider_at(upstream) as provider:
        return await provider.complete(call, model, Bounds())


async def streamed(upstream: Upstream, seen: list[Chunk] | None = None) -> list[Chunk]:
    chunks = [] if seen is None else seen
    async with provider_at(upstream) as provider:
        async for chunk in provider.stream(CALL, MODEL, Bounds()):
            chunks.append(chunk)
    return chunks


async def test_a_call_is_answered_by_translation():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("answer.json"))

        completion = await completed(upstream)

    (request,) = upstream.connections
    assert request.head.startswith("POST /v1/models/gemini-3.5-flash:generateContent HTTP/1.1")
    assert (request.header("x-goog-api-key"), request.header("authorization")) == (KEY, None)
    assert request.json == {
        "contents": [{"role": "user", "parts": [{"text": "Why?"}]}],
        "generationConfig": {"temperature": 0.5},
    }
    assert (completion.text, completion.finish_reason) == ("The sky is blue.", "stop")
    assert completion.usage == Usage(8, 36, cache_read_tokens=2, reasoning_tokens=31)
    body = json.loads(completion.body)
    assert (body["object"], body["model"], body["id"][:9]) == ("chat.completion", MODEL, "chatcmpl-")


async def test_tool_calls_come_back_as_chat_has_them():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("tool_calls.json"))

        completion = await completed(upstream)

    message = json.loads(completion.body)["choices"][0]["message"]
    assert completion.finish_reason == "tool_calls"
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather", "weather"]
    assert message["tool_calls"][0]["extra_content"]["google"]["thought_signature"] == "EjQKMgEMOdbH"


async def test_who_wants_no_parallel_calls_gets_the_first():
    one_by_one = calls.of("chat", {**CALL.body, "parallel_tool_calls": False}, question="Why?")
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("tool_calls.json"))

        completion = await completed(upstream, one_by_one)

    assert len(json.loads(completion.body)["choices"][0]["message"]["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-3.5-flash", "/v1/models/gemini-3.5-flash:generateContent"),
        ("tunedModels/mine-1", "/v1/tunedModels/mine-1:generateContent"),
        ("../x?y#z", "/v1/models/..%2Fx%3Fy%23z:generateContent"),
    ],
)
async def test_a_models_name_is_quoted_into_the_path(model, path):
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("answer.json"))

        await completed(upstream, model=model)

    assert upstream.connections[0].head.startswith(f"POST {path} ")


async def test_a_stream_comes_as_chunks_and_ends_with_its_usage():
    with Upstream() as upstream:
        upstream.handler = stream(recorded("stream.sse"))

        chunks = await streamed(upstream)

    assert upstream.connections[0].head.startswith(
        "POST /v1/models/gemini-3.5-flash:streamGenerateContent?alt=sse HTTP/1.1"
    )
    assert "".join(chunk.text for chunk in chunks) == "The sky is blue."
    assert [chunk.content for chunk in chunks] == [True, True, True, False, True, False]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, None, "stop", None]
    assert chunks[-1].usage == Usage(8, 36, reasoning_tokens=31)
    assert chunks[-1].usage_only


async def test_streamed_tool_calls_are_content():
    with Upstream() as upstream:
        upstream.handler = stream(recorded("tool_calls.sse"))

        chunks = await streamed(upstream)

    assert [chunk.content for chunk in chunks] == [True, True, True, True, False]
    assert chunks[-2].finish_reason == "tool_calls"


async def test_a_stream_that_ends_early_is_truncated():
    seen: list[Chunk] = []
    whole = recorded("stream.sse")
    with Upstream() as upstream:
        upstream.handler = stream(whole[: whole.index(b"\r\n\r\n") + 4])

        with pytest.raises(StreamTruncated):
            await streamed(upstream, seen)

    assert len(seen) == 1


@pytest.mark.parametrize(
    ("event", "kind"),
    [(b"data: {", BadUpstreamResponse), (b"data: " + b"".join(recorded("error_503.json").split()), UpstreamOverloaded)],
)
async def test_a_stream_that_breaks_is_an_error(event, kind):
    with Upstream() as upstream:
        upstream.handler = stream(event + b"\n\n")

        with pytest.raises(kind):
            await streamed(upstream)


@pytest.mark.parametrize(
    ("code", "name", "kind", "client"),
    [
        (400, "error_400.json", UpstreamRejected, 400),
        (400, "error_key.json", ProviderAuth, 502),
        (400, "error_place.json", ProviderAuth, 502),
        (429, "error_429.json", UpstreamRateLimited, 429),
        (503, "error_503.json", UpstreamOverloaded, 503),
        (200, "error_503.json", UpstreamOverloaded, 503),
        (200, "blocked.json", ContentFiltered, 400),
    ],
)
async def test_refusals_become_errors_whole_and_streamed(code, name, kind, client):
    with Upstream() as upstream:
        upstream.handler = status(code, recorded(name))

        with pytest.raises(kind) as whole:
            await completed(upstream)
        if name != "blocked.json":
            with pytest.raises(kind):
                await streamed(upstream)

    assert whole.value.status == client
    assert KEY not in whole.value.message


async def test_how_long_to_wait_is_told_in_the_body():
    with Upstream() as upstream:
        upstream.handler = status(429, recorded("error_429.json"))

        with pytest.raises(UpstreamRateLimited) as caught:
            await completed(upstream)

    assert caught.value.retry_after == 38


async def test_a_blocked_prompt_is_told_in_a_stream_as_well():
    with Upstream() as upstream:
        upstream.handler = stream(b"data: " + json.dumps(json.loads(recorded("blocked.json"))).encode() + b"\n\n")

        with pytest.raises(ContentFiltered):
            await streamed(upstream)


async def test_what_cannot_be_said_never_leaves_the_house():
    refused = calls.of("chat", {"messages": MESSAGES, "functions": [{"name": "f"}]}, question="")
    with Upstream() as upstream:
        with pytest.raises(BadRequest):
            await completed(upstream, refused)

        assert upstream.accepted == 0


async def test_models_that_can_chat_are_listed_page_by_page():
    async def listing(connection: Connection) -> None:
        second = "pageToken=Ch1tb2RlbHMvZ2VtaW5p%2B%2F%3D%3D " in connection.head
        await status(200, recorded("models_2.json" if second else "models_1.json"))(connection)

    with Listing() as upstream:
        upstream.handler = listing
        async with provider_at(upstream) as provider:
            names = await provider.models(Bounds())

    assert names == ["gemini-3.5-flash", "gemini-3.1-pro-preview"]
    assert upstream.connections[0].head.startswith("GET /v1/models?pageSize=1000 ")
    assert upstream.connections[0].header("x-goog-api-key") == KEY


@pytest.mark.parametrize(
    ("handler", "kind"),
    [(status(200, b'{"models": 1}'), BadUpstreamResponse), (status(400, recorded("error_key.json")), ProviderAuth)],
)
async def test_a_list_that_is_none_is_an_error(handler, kind):
    with Listing() as upstream:
        upstream.handler = handler
        async with provider_at(upstream) as provider:
            with pytest.raises(kind):
                await provider.models(Bounds())
