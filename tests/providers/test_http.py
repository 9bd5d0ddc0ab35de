"""The client towards providers, against a provider on real sockets: waits that the API cannot show quickly."""

import asyncio
import time

import pytest
from pydantic import SecretStr
from yarl import URL

from ai_proxy.core.config import UpstreamSettings
from ai_proxy.core.exceptions import UpstreamRateLimited, UpstreamTimeout
from ai_proxy.dialects.chat import ChatRequest
from ai_proxy.providers.http import Http
from ai_proxy.providers.openai import OpenAI
from tests.upstream import Upstream, delta, stream

pytestmark = pytest.mark.anyio


async def read_slowly(settings: UpstreamSettings, url: URL) -> None:
    """Take an answer more slowly than it comes."""
    async with Http(settings) as http, http.post("slow", url, b"{}", {}) as reply:
        async for _ in reply.blocks():
            await asyncio.sleep(0.1)


async def test_the_total_limit_holds_even_if_there_is_always_something_to_read():
    settings = UpstreamSettings(total_timeout=0.5)
    with Upstream() as upstream:
        upstream.handler = stream(*[part for _ in range(500) for part in (delta("word"), 0.01)])
        began = time.monotonic()

        with pytest.raises(UpstreamTimeout) as caught:
            await read_slowly(settings, URL(upstream.url))

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

        async with Http(UpstreamSettings()) as http:
            provider = OpenAI("up", base_url=upstream.url, api_key=SecretStr("k"), default_model="m", http=http)
            with pytest.raises(UpstreamRateLimited) as caught:
                await provider.complete(ChatRequest([{"role": "user", "content": "ping"}]), "m")

    assert caught.value.retry_after == 7
    assert time.monotonic() - began < 10  # the limit of silence is a minute
