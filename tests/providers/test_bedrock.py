"""Amazon Bedrock as a provider, against a server that sends what its documentation shows."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import msgspec
import pytest
from yarl import URL

from ai_proxy.core import resolved
from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.sources import ConfigurationError
from ai_proxy.core.types import Bounds, Usage
from ai_proxy.core.upstream_errors import (
    BadUpstreamResponse,
    ProviderAuth,
    StreamTruncated,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.providers.aws_signing import Credentials, Request, signature
from ai_proxy.providers.bedrock import Bedrock
from ai_proxy.providers.http import Http
from tests.eventstream import event, packed
from tests.upstream import Connection, Handler, Upstream, raw, status

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent / "recorded" / "bedrock"
KEY = "bedrock-api-key-of-the-account"
MODEL = "anthropic.claude-haiku-4-5-20251001-v1:0"
MESSAGES = [{"role": "user", "content": "Why?"}]
CALL = calls.of("chat", {"model": "any", "messages": MESSAGES, "max_tokens": 9}, question="Why?")
STREAM = "application/vnd.amazon.eventstream"


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def events(name: str) -> list[bytes]:
    return [event(json.loads(line)) for line in recorded(name).splitlines()]


def streaming(*parts: bytes) -> Handler:
    return status(200, b"".join(parts), content_type=STREAM)


def refusing(code: int, kind: str, name: str, *, at: datetime | None = None) -> Handler:
    """A refusal of this kind, at the time of the other side."""
    date = f"date: {format_datetime(at, usegmt=True)}\r\n" if at else ""
    return status(code, recorded(name), headers=f"x-amzn-errortype: {kind}:http://internal.amazon.com/\r\n{date}")


def one_by_one(*handlers: Handler) -> Handler:
    coming = iter(handlers)

    async def handle(connection: Connection) -> None:
        await next(coming)(connection)

    return handle


class Keys:
    """Credentials, others each time that they are looked for anew."""

    def __init__(self, token: str | None = None) -> None:
        self.found = 1
        self.token = token

    def __call__(self, *, anew: bool = False) -> Credentials:
        self.found += anew
        return Credentials(f"AKID{self.found}", "secret", self.token)


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
async def provider_at(upstream: Upstream, keys: Keys | None = None) -> AsyncIterator[Bedrock]:
    settings = msgspec.structs.replace(
        resolved.mock(resolved.Defaults(Bounds(), max_connections=4)),
        name="bedrock",
        base_url=f"http://127.0.0.1:{upstream.port}",
        region="eu-central-1",
    )
    async with Http() as http:
        channel = http.channel("bedrock", max_connections=4, pool_timeout=1)
        yield Bedrock(settings, "" if keys else KEY, channel, keys)


async def completed(upstream: Upstream, keys: Keys | None = None, model: str = MODEL) -> Completion:
    async with provider_at(upstream, keys) as provider:
        return await provider.complete(CALL, model, Bounds())


async def streamed(upstream: Upstream, seen: list[Chunk] | None = None) -> list[Chunk]:
    chunks = [] if seen is None else seen
    async with provider_at(upstream) as provider:
        async for chunk in provider.stream(CALL, MODEL, Bounds()):
            chunks.append(chunk)
    return chunks


def signed_at(connection: Connection) -> datetime:
    return datetime.strptime(connection.header("x-amz-date"), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def is_signed(upstream: Upstream, connection: Connection, credentials: Credentials) -> bool:
    """Whether the signature is that of the request as it came."""
    method, path, _ = connection.head.partition("\r\n")[0].split(" ")
    url = URL(f"http://127.0.0.1:{upstream.port}{path}", encoded=True)
    request = Request(method, url, connection.body)
    expected = signature(request, credentials, region="eu-central-1", at=signed_at(connection))
    return all(connection.header(name) == value for name, value in expected.items())


# Answers.


async def test_a_call_is_answered_by_translation_with_a_key():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("answer.json"))

        completion = await completed(upstream)

    (request,) = upstream.connections
    assert request.head.startswith("POST /model/anthropic.claude-haiku-4-5-20251001-v1%3A0/converse HTTP/1.1")
    assert request.header("authorization") == f"Bearer {KEY}"
    assert request.header("x-amz-date") is None
    assert request.json == {
        "messages": [{"role": "user", "content": [{"text": "Why?"}]}],
        "inferenceConfig": {"maxTokens": 9},
    }
    assert (completion.text, completion.finish_reason) == ("The sky is blue.", "stop")
    assert completion.usage == Usage(128, 7, cache_read_tokens=100, cache_write_tokens=20)
    body = json.loads(completion.body)
    assert (body["object"], body["model"], body["id"][:9]) == ("chat.completion", MODEL, "chatcmpl-")


async def test_tool_calls_come_back_as_chat_has_them():
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("tool_calls.json"))

        completion = await completed(upstream)

    message = json.loads(completion.body)["choices"][0]["message"]
    assert completion.finish_reason == "tool_calls"
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather", "now"]


async def test_a_stream_comes_as_chunks_and_ends_with_its_usage():
    with Upstream() as upstream:
        upstream.handler = streaming(*events("stream.jsonl"))

        chunks = await streamed(upstream)

    assert "/converse-stream HTTP/1.1" in upstream.connections[0].head
    assert "".join(chunk.text for chunk in chunks) == "The sky is blue."
    assert [chunk.content for chunk in chunks] == [False, True, True, True, False]
    assert chunks[-2].finish_reason == "stop"
    assert (chunks[-1].usage, chunks[-1].usage_only) == (Usage(8, 7), True)


async def test_streamed_tool_calls_and_thoughts_are_content():
    with Upstream() as upstream:
        upstream.handler = streaming(*events("tool_calls.jsonl"))

        chunks = await streamed(upstream)

    arguments = [
        call["function"]["arguments"]
        for chunk in chunks
        for choice in json.loads(chunk.data)["choices"]
        for call in choice["delta"].get("tool_calls", [])
    ]
    assert "".join(arguments) == '{"city": "Oslo"}{}'
    assert chunks[1].content
    assert chunks[-2].finish_reason == "tool_calls"


# Streams that break.


async def test_a_stream_that_ends_early_is_truncated():
    seen: list[Chunk] = []
    with Upstream() as upstream:
        upstream.handler = streaming(*events("stream.jsonl")[:3])

        with pytest.raises(StreamTruncated):
            await streamed(upstream, seen)

    assert "".join(chunk.text for chunk in seen) == "The sky is blue."


async def test_a_stream_whose_connection_breaks_is_an_error():
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {STREAM}\r\ncontent-length: 9999\r\n\r\n".encode()
    with Upstream() as upstream:
        upstream.handler = raw(head + events("stream.jsonl")[0] + events("stream.jsonl")[1][:20])

        with pytest.raises(BadUpstreamResponse):
            await streamed(upstream)


@pytest.mark.parametrize(
    "damaged",
    [
        b"data: {}\n\n" * 3,
        bytes([*events("stream.jsonl")[1][:-1], 0]),
        packed({":message-type": "event", ":event-type": "messageStop"}, b"no json"),
        packed({":message-type": "event", ":event-type": "messageStop"}, b"[]"),
    ],
)
async def test_a_damaged_stream_is_an_error(damaged):
    with Upstream() as upstream:
        upstream.handler = streaming(events("stream.jsonl")[0], damaged)

        with pytest.raises(BadUpstreamResponse):
            await streamed(upstream)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", UpstreamRateLimited),
        ("serviceUnavailableException", UpstreamOverloaded),
        ("validationException", UpstreamRejected),
        ("modelStreamErrorException", BadUpstreamResponse),
        ("internalServerException", BadUpstreamResponse),
    ],
)
async def test_an_exception_in_a_stream_is_an_error(name, kind):
    with Upstream() as upstream:
        upstream.handler = streaming(*events("stream.jsonl")[:2], event({name: {"message": "Sorry.", "p": "ab"}}))

        with pytest.raises(kind):
            await streamed(upstream)


async def test_an_error_without_a_shape_is_an_error():
    error = packed({":message-type": "error", ":error-code": "InternalError", ":error-message": "Sorry."}, b"")
    with Upstream() as upstream:
        upstream.handler = streaming(error)

        with pytest.raises(BadUpstreamResponse):
            await streamed(upstream)


async def test_events_of_no_known_kind_are_passed_over():
    strange = packed({":message-type": "event", ":event-type": "somethingNew"}, b"{}")
    with Upstream() as upstream:
        upstream.handler = streaming(strange, *events("stream.jsonl"))

        chunks = await streamed(upstream)

    assert "".join(chunk.text for chunk in chunks) == "The sky is blue."


# Refusals.


@pytest.mark.parametrize(
    ("code", "name", "kind", "client"),
    [
        (400, "error_400.json", UpstreamRejected, 400),
        (403, "error_token.json", ProviderAuth, 502),
        (404, "error_400.json", UpstreamRejected, 404),
        (408, "error_400.json", UpstreamTimeout, 504),
        (424, "error_400.json", BadUpstreamResponse, 502),
        (429, "error_429.json", UpstreamRateLimited, 429),
        (500, "error_400.json", BadUpstreamResponse, 502),
        (503, "error_429.json", UpstreamOverloaded, 503),
        (200, "error_400.json", BadUpstreamResponse, 502),
    ],
)
async def test_refusals_become_errors_whole_and_streamed(code, name, kind, client):
    with Upstream() as upstream:
        upstream.handler = status(code, recorded(name))

        with pytest.raises(kind) as whole:
            await completed(upstream)
        with pytest.raises(kind):
            await streamed(upstream)

    assert whole.value.status == client


async def test_what_cannot_be_said_never_leaves_the_house():
    refused = calls.of("chat", {"messages": MESSAGES, "n": 2}, question="")
    with Upstream() as upstream:
        async with provider_at(upstream) as provider:
            with pytest.raises(BadRequest):
                await provider.complete(refused, MODEL, Bounds())

        assert upstream.accepted == 0


# Signatures.


@pytest.mark.parametrize("model", [MODEL, "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0"])
async def test_without_a_key_requests_are_signed(model):
    keys = Keys(token="of-a-session")
    with Upstream() as upstream:
        upstream.handler = status(200, recorded("answer.json"))

        await completed(upstream, keys, model)

    (request,) = upstream.connections
    assert is_signed(upstream, request, Credentials("AKID1", "secret", "of-a-session"))
    assert abs(signed_at(request) - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_wrong_is_corrected_by_that_of_the_other_side(hours):
    there = datetime.now(UTC) + timedelta(hours=hours)
    with Upstream() as upstream:
        upstream.handler = one_by_one(
            refusing(403, "InvalidSignatureException", "error_expired.json", at=there),
            status(200, recorded("answer.json")),
            status(200, recorded("answer.json")),
        )
        async with provider_at(upstream, Keys()) as provider:
            await provider.complete(CALL, MODEL, Bounds())
            await provider.complete(CALL, MODEL, Bounds())

    first, *later = upstream.connections
    assert abs(signed_at(first) - there) > timedelta(minutes=50)
    assert len(later) == 2  # the second call is right at once
    for request in later:
        assert abs(signed_at(request) - there) < timedelta(seconds=30)
        assert is_signed(upstream, request, Credentials("AKID1", "secret"))


async def test_the_clock_is_corrected_once_and_then_it_is_an_error():
    there = datetime.now(UTC) + timedelta(hours=1)
    with Upstream() as upstream:
        upstream.handler = refusing(403, "InvalidSignatureException", "error_expired.json", at=there)

        with pytest.raises(ProviderAuth):
            await completed(upstream, Keys())

    assert len(upstream.connections) == 2


@pytest.mark.parametrize(
    ("kind", "hours"),
    [
        ("InvalidSignatureException", 0),  # the secret is wrong
        ("InvalidSignatureException", None),
        ("AccessDeniedException", 1),
    ],
)
async def test_other_refusals_are_not_tried_again(kind, hours):
    at = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
    with Upstream() as upstream:
        upstream.handler = refusing(403, kind, "error_token.json", at=at)

        with pytest.raises(ProviderAuth):
            await completed(upstream, Keys())

    assert len(upstream.connections) == 1


async def test_a_date_that_makes_no_sense_is_passed_over():
    headers = "x-amzn-errortype: InvalidSignatureException\r\ndate: yesterday\r\n"
    with Upstream() as upstream:
        upstream.handler = status(403, b"{}", headers=headers)

        with pytest.raises(ProviderAuth):
            await completed(upstream, Keys())

    assert len(upstream.connections) == 1


async def test_credentials_that_have_expired_are_looked_for_again():
    with Upstream() as upstream:
        upstream.handler = one_by_one(
            refusing(403, "ExpiredTokenException", "error_token.json"), status(200, recorded("answer.json"))
        )

        await completed(upstream, Keys())

    assert is_signed(upstream, upstream.connections[0], Credentials("AKID1", "secret"))
    assert is_signed(upstream, upstream.connections[1], Credentials("AKID2", "secret"))


async def test_a_key_is_not_tried_again():
    with Upstream() as upstream:
        upstream.handler = refusing(403, "ExpiredTokenException", "error_token.json")

        with pytest.raises(ProviderAuth):
            await completed(upstream)

    assert len(upstream.connections) == 1


async def test_credentials_that_do_not_come_are_waited_for_only_so_long():
    def stalled(*, anew: bool = False) -> Credentials:
        time.sleep(1)
        return Credentials("AKID", "secret")

    with Upstream() as upstream:
        async with provider_at(upstream, stalled) as provider:
            with pytest.raises(UpstreamTimeout):
                await provider.complete(CALL, MODEL, Bounds(first_byte=0.1))

        assert upstream.accepted == 0


async def test_signing_needs_a_region():
    settings = resolved.mock(resolved.Defaults(Bounds(), max_connections=4))
    async with Http() as http:
        channel = http.channel("bedrock", max_connections=4, pool_timeout=1)

        with pytest.raises(ConfigurationError) as caught:
            Bedrock(settings, "", channel, Keys())

    assert "AWS_REGION" in str(caught.value)


# Models.


async def test_models_and_inference_profiles_are_listed_page_by_page():
    async def listing(connection: Connection) -> None:
        name = "models.json"
        if "/inference-profiles" in connection.head:
            name = "profiles_2.json" if "nextToken=AAMA-Fcr%2B%2F%3D " in connection.head else "profiles_1.json"
        await status(200, recorded(name))(connection)

    with Listing() as upstream:
        upstream.handler = listing
        async with provider_at(upstream, Keys()) as provider:
            names = await provider.models(Bounds())

    assert names == [
        "amazon.nova-micro-v1:0",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "global.amazon.nova-2-lite-v1:0",
        "arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/a1b2c3d4e5f6",
    ]
    assert all(is_signed(upstream, request, Credentials("AKID1", "secret")) for request in upstream.connections)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [(status(200, b"[]"), BadUpstreamResponse), (status(403, recorded("error_token.json")), ProviderAuth)],
)
async def test_a_list_that_is_none_is_an_error(handler, kind):
    with Listing() as upstream:
        upstream.handler = handler
        async with provider_at(upstream) as provider:
            with pytest.raises(kind):
                await provider.models(Bounds())
