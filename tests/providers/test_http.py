"""The client towards providers, against a provider on real sockets: waits that the API cannot show quickly."""

import asyncio
import contextlib
import json
import time

import msgspec
import pytest
from yarl import URL

from ai_proxy.core.config import read_settings
from ai_proxy.core.exceptions import PoolFull
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import StreamTruncated, UpstreamRateLimited, UpstreamTimeout, UpstreamUnreachable
from ai_proxy.dialects.call import of
from ai_proxy.providers.http import Channel, Http
from ai_proxy.providers.openai import OpenAI
from tests.upstream import Upstream, delta, silence, stream

pytestmark = pytest.mark.anyio


def provider_at(url: str) -> ResolvedProvider:
    settings = read_settings(providers={"up": {"base_url": url}}, mock_mode=False)
    return settings.resolved_providers()["up"]


@contextlib.asynccontextmanager
async def channel():
    async with Http() as http:
        yield http.channel("up", max_connections=1, pool_timeout=0.1)


async def read_slowly(limits: Bounds, url: URL) -> None:
    """Take an answer more slowly than it comes."""
    async with channel() as up, up.request("POST", url, {}, limits, b"{}") as reply:
        while await reply.block():
            await asyncio.sleep(0.1)


async def test_the_total_limit_holds_even_if_there_is_always_something_to_read():
    with Upstream() as upstream:
        upstream.handler = stream(*[part for _ in range(500) for part in (delta("word"), 0.01)])
        began = time.monotonic()

        with pytest.raises(UpstreamTimeout) as caught:
            await read_slowly(Bounds(total=0.5), URL(upstream.url))

    assert caught.value.code == "upstream_timeout_total"
    assert time.monotonic() - began < 3


async def test_a_refusal_whose_words_do_not_come_is_passed_on_without_them():
    async def stalled(connection):
        head = b"HTTP/1.1 429 X\r\ncontent-type: application/json\r\ncontent-length: 99\r\nretry-after: 7\r\n\r\n"
        await connection.send(head + b'{"error"')
        await connection.until_closed()

    with Upstream() as upstream:
        upstream.handler = stalled
        began = time.monotonic()

        async with channel() as up:
            provider = OpenAI(provider_at(upstream.url), "k", up)
            call = of("chat", {"messages": [{"role": "user", "content": "ping"}]}, question="ping")
            with pytest.raises(UpstreamRateLimited) as caught:
                await provider.complete(call, "m", Bounds())

    assert caught.value.retry_after == 7
    assert time.monotonic() - began < 10  # the limit of silence is a minute


async def test_a_provider_whose_slots_are_taken_leaves_the_others_theirs():
    async def hang(connection):
        await connection.until_closed()

    with Upstream() as hung, Upstream() as well:
        hung.handler = hang
        async with Http() as http:
            first = http.channel("first", max_connections=1, pool_timeout=0.1)
            second = http.channel("second", max_connections=1, pool_timeout=0.1)
            waiting = asyncio.create_task(read(first, hung.url))
            await asyncio.sleep(0.1)

            with pytest.raises(PoolFull) as refused:
                await read(first, hung.url)
            answered = await read(second, well.url)
            waiting.cancel()

    assert refused.value.retry_after == 1
    assert b"choices" in answered


async def read(up: Channel, url: str) -> bytes:
    async with up.request("POST", URL(url), {}, Bounds(), b"{}") as reply:
        return await reply.read()


@pytest.mark.parametrize("address", ["http://h:99999/v1", "http://h/v1"], ids=["no port", "no header"])
async def test_what_cannot_be_asked_like_this_is_an_error_of_ours(address):
    async with channel() as up:
        with pytest.raises(UpstreamUnreachable):
            up.request("GET", URL(address, encoded=True), {"x-a": "a\nb"}, Bounds())


async def streamed(url: str, dialect: str, **body) -> list:
    async with channel() as up:
        provider = OpenAI(msgspec.structs.replace(provider_at(url), dialects=frozenset({dialect})), "k", up)
        call = of(dialect, {"stream": True, **body}, question="ping")
        return [chunk async for chunk in provider.stream(call, "m", Bounds(idle=0.5))]


async def test_the_last_event_of_a_response_ends_the_stream_even_if_the_connection_stays_open():
    last = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}}
    with Upstream() as upstream:
        upstream.handler = stream(b"data: %s\n\n" % json.dumps(last).encode(), silence)

        chunks = await streamed(upstream.url, "responses", input="ping")

    assert [chunk.finish_reason for chunk in chunks] == ["stop"]


async def test_each_of_several_answers_must_come_to_its_end():
    def piece(index: int, text: str, finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
        return b"data: %s\n\n" % json.dumps({"choices": [choice]}).encode()

    with Upstream() as upstream:
        upstream.handler = stream(piece(0, "a"), piece(1, "b"), piece(0, "", "stop"), b"data: [DONE]\n\n")

        with pytest.raises(StreamTruncated):
            await streamed(upstream.url, "chat", messages=[])
