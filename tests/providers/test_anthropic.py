"""Anthropic as a provider, against a server that sends what its documentation shows."""

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
    ProviderAuth,
    ProviderQuota,
    StreamTruncated,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.dialects.messages_readers import fold
from ai_proxy.providers.anthropic import Anthropic
from ai_proxy.providers.http import Http
from tests.upstream import Connection, Upstream, silence, status, stream

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent / "recorded" / "anthropic"
KEY = "secret-of-the-account"
CHAT = calls.of("chat", {"model": "claude", "messages": [{"role": "user", "content": "Hi"}]}, question="Hi")
BODY = b'{"model":"claude", "max_tokens":1.0e1,"messages":[{"role":"user","content":"Hi"}],"new_field":{"a" : 1}}'
HEADERS = {"anthropic-beta": "context-1m-2025-08-07", "openai-beta": "x"}
MESSAGES = calls.parse("messages", BODY, HEADERS)


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


@asynccontextmanager
async def provider_at(upstream: Upstream) -> AsyncIterator[Anthropic]:
    settings = msgspec.structs.replace(
        resolved.mock(resolved.Defaults(Bounds(), max_connections=4)),
        name="anthropic",
        base_url=upstream.url,
        key_header="x-api-key",
        api_version="2023-06-01",
        dialects=frozenset({"chat", "messages"}),
    )
    async with Http() as http:
        yield Anthropic(settings, KEY, http.channel("anthropic", max_connections=4, pool_timeout=1))


async def completed(upstream: Upstream, call: Call) -> Completion:
    async with provider_at(upstream) as provider:
        return await provider.complete(call, "claude-haiku-4-5", Bounds())


async def chunks_of(upstream: Upstream, call: Call, limits: Bounds | None = None) -> list[Chunk]:
    async with provider_at(upstream) as provider:
        return [chunk async for chunk in provider.stream(call, "claude-haiku-4-5", limits or Bounds())]


async def test_a_chat_call_is_answered_by_translation():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("answer.json"))

        completion = await completed(upstream, CHAT)

    (request,) = upstream.connections
    assert request.head.startswith("POST /v1/messages ")
    assert (request.header("x-api-key"), request.header("authorization")) == (KEY, None)
    assert request.header("anthropic-version") == "2023-06-01"
    assert request.json == {
        "model": "claude-haiku-4-5",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert (completion.text, completion.finish_reason) == ("Hello! How can I help you today?", "stop")
    assert completion.usage == Usage(2058, 12, cache_read_tokens=2048)
    body = json.loads(completion.body)
    assert (body["object"], body["model"]) == ("chat.completion", "claude-haiku-4-5")


async def test_tool_calls_come_back_as_chat_has_them():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("tool_calls.json"))

        completion = await completed(upstream, CHAT)

    message = json.loads(completion.body)["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["get_weather", "get_time"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "Köln", "unit": "celsius"}
    assert message["reasoning_content"] == "The user asks about two cities."
    assert (completion.finish_reason, completion.usage) == (
        "tool_calls",
        Usage(400, 95, cache_write_tokens=16, reasoning_tokens=21),
    )


async def test_a_chat_call_that_cannot_be_translated_is_not_sent():
    call = calls.of("chat", {**CHAT.body, "n": 2}, question="Hi")
    with Upstream() as upstream:
        with pytest.raises(BadRequest):
            await completed(upstream, call)
        with pytest.raises(BadRequest):
            await chunks_of(upstream, call)

    assert upstream.connections == []


async def test_messages_go_through_as_they_are_but_for_the_model():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("answer.json"))

        completion = await completed(upstream, MESSAGES)

    (request,) = upstream.connections
    assert request.body == (
        b'{"model":"claude-haiku-4-5","max_tokens":1.0e1,'
        b'"messages":[{"role":"user","content":"Hi"}],"new_field":{"a" : 1}}'
    )
    assert completion.body == recorded("answer.json")
    assert (completion.text, completion.usage) == (
        "Hello! How can I help you today?",
        Usage(2058, 12, cache_read_tokens=2048),
    )


async def test_the_callers_own_anthropic_headers_are_passed_on():
    call = calls.parse("messages", BODY, {**HEADERS, "anthropic-version": "2027-01-01"})
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("answer.json"))

        await completed(upstream, call)

    (request,) = upstream.connections
    assert request.header("anthropic-version") == "2027-01-01"
    assert request.header("anthropic-beta") == "context-1m-2025-08-07"
    assert request.header("openai-beta") is None
    assert request.header("x-api-key") == KEY


async def test_tokens_are_counted_by_anthropic():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("count.json"))

        completion = await completed(upstream, calls.parse("count_tokens", BODY))

    assert upstream.connections[0].head.startswith("POST /v1/messages/count_tokens ")
    assert json.loads(completion.body) == {"input_tokens": 2095}


async def test_a_chat_stream_is_answered_by_translation():
    with Upstream() as upstream:
        upstream.handler = stream(recorded("tool_calls.sse"))

        chunks = await chunks_of(upstream, CHAT)

    assert upstream.connections[0].json["stream"] is True
    assert "".join(chunk.text for chunk in chunks) == "I'll check."
    deltas = [json.loads(chunk.data)["choices"][0]["delta"] for chunk in chunks if not chunk.usage_only]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "The user asks about two cities."
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    arguments = ["".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == at) for at in (0, 1)]
    assert arguments == ['{"city": "Köln"}', "{}"]
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]
    assert chunks[-1].usage == Usage(472, 89, reasoning_tokens=12)
    assert chunks[-1].usage_only


async def test_a_stream_of_messages_goes_through_as_it_is():
    call = calls.parse("messages", BODY.replace(b'{"model"', b'{"stream":true,"model"'))
    with Upstream() as upstream:
        upstream.handler = stream(recorded("stream.sse"))

        chunks = await chunks_of(upstream, call)

    lines = recorded("stream.sse").decode().splitlines()
    assert [chunk.data.decode() for chunk in chunks] == [line[6:] for line in lines if line.startswith("data: ")]
    assert [chunk.event for chunk in chunks] == [line[7:] for line in lines if line.startswith("event: ")]
    assert "".join(chunk.text for chunk in chunks) == "Hello wörld!"
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert [chunk.usage for chunk in chunks if chunk.usage] == [
        Usage(30, 1, estimated=True, cache_read_tokens=5),
        Usage(0, 15),
    ]
    assert json.loads(fold([chunk.data for chunk in chunks]))["content"][0]["text"] == "Hello wörld!"


@pytest.mark.parametrize("call", [CHAT, MESSAGES], ids=["chat", "messages"])
async def test_a_stream_is_over_with_its_last_event_whatever_becomes_of_the_connection(call):
    with Upstream() as upstream:
        upstream.handler = stream(recorded("stream.sse"), silence)

        async with asyncio.timeout(10):
            chunks = await chunks_of(upstream, call)

    assert "".join(chunk.text for chunk in chunks) == "Hello wörld!"


@pytest.mark.parametrize("call", [CHAT, MESSAGES], ids=["chat", "messages"])
async def test_an_error_within_a_stream_is_raised(call):
    with Upstream() as upstream:
        upstream.handler = stream(recorded("error_in_stream.sse"))

        with pytest.raises(UpstreamOverloaded) as caught:
            await chunks_of(upstream, call)

    assert caught.value.upstream_status == 529


@pytest.mark.parametrize("call", [CHAT, MESSAGES], ids=["chat", "messages"])
async def test_a_stream_that_ends_before_its_message_does_is_truncated(call):
    with Upstream() as upstream:
        upstream.handler = stream(recorded("stream.sse").partition(b"event: message_delta")[0])

        with pytest.raises(StreamTruncated):
            await chunks_of(upstream, call)


@pytest.mark.parametrize("call", [CHAT, MESSAGES], ids=["chat", "messages"])
@pytest.mark.parametrize("data", [b"[]", b"{", b'{"type":"content_block_delta","delta":3}', b'"x"'])
async def test_an_event_that_is_none_is_no_answer(call, data):
    with Upstream() as upstream:
        upstream.handler = stream(b"event: message_start\ndata: " + data + b"\n\n")

        with pytest.raises((BadUpstreamResponse, StreamTruncated)):
            await chunks_of(upstream, call)


@pytest.mark.parametrize("call", [CHAT, MESSAGES], ids=["chat", "messages"])
@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"content":3}'])
async def test_a_body_that_is_no_message_is_no_answer(call, body):
    with Upstream() as upstream:
        upstream.handler = status(200, body)

        with pytest.raises(BadUpstreamResponse):
            await completed(upstream, call)


@pytest.mark.parametrize("call", [CHAT, MESSAGES], ids=["chat", "messages"])
@pytest.mark.parametrize(
    ("code", "name", "error", "words"),
    [
        (400, "400", UpstreamRejected, "max_tokens: 200000 > 64000"),
        (404, "404", UpstreamRejected, "model: claude-nothing"),
        (401, "401", ProviderAuth, "refused the gateway's own key"),
        (403, "403", ProviderAuth, "refused the gateway's own key"),
        (429, "429", UpstreamRateLimited, "limits the rate"),
        (500, "500", BadUpstreamResponse, "status 500"),
        (529, "529", UpstreamOverloaded, "is overloaded"),
        (400, "balance", ProviderQuota, "run out of quota"),
        (400, "spend_limit", ProviderQuota, "run out of quota"),
        (429, "tier", ProviderQuota, "run out of quota"),
        (200, "529", UpstreamOverloaded, "is overloaded"),
    ],
)
async def test_an_error_becomes_ours(call, code, name, error, words):
    with Upstream() as upstream:
        upstream.handler = status(code, recorded(f"error_{name}.json"), headers="retry-after: 7\r\n")

        with pytest.raises(error) as whole:
            await completed(upstream, call)
        with pytest.raises(error) as begun:
            await chunks_of(upstream, call)

    assert words in whole.value.message
    assert words in begun.value.message
    if error is UpstreamRateLimited:
        assert whole.value.retry_after == 7


async def test_its_models_are_listed_page_by_page():
    paths: list[str] = []

    async def pages(connection: Connection) -> None:
        paths.append(connection.head.split()[1])
        await status(200, recorded(f"models_{len(paths)}.json"))(connection)

    with Upstream() as upstream:
        upstream.handler = pages

        async with provider_at(upstream) as provider:
            models = await provider.models(Bounds())

    assert models == ["claude-opus-5", "claude-haiku-4-5-20251001", "claude-opus-4-5-20251101"]
    assert paths == ["/v1/models?limit=1000", "/v1/models?limit=1000&after_id=claude-haiku-4-5-20251001"]
    assert upstream.connections[0].header("x-api-key") == KEY


async def test_models_that_cannot_be_listed_are_an_error():
    with Upstream() as upstream:
        upstream.handler = status(401, recorded("error_401.json"))

        async with provider_at(upstream) as provider:
            with pytest.raises(ProviderAuth):
                await provider.models(Bounds())
