"""Calls that come before the providers have told which models they have."""

import asyncio
import json
from contextlib import aclosing

import pytest

from ai_proxy.core.catalog import ModelSettings
from ai_proxy.core.groups import CacheSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Exchange
from ai_proxy.core.upstream_errors import UpstreamTimeout
from ai_proxy.dialects.call import parse
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway.discovery import Discovery
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.routing import Names, Router
from tests.context import NO_CONTEXT

pytestmark = pytest.mark.anyio


class Provider:
    """Tells its models when it is let, and answers every call."""

    is_mock = False
    default_model = "some"
    dialects = frozenset({"chat"})

    def __init__(self, name: str, models) -> None:
        self.name = name
        self.has = models
        self.may_tell = asyncio.Event()

    async def models(self, limits):
        await self.may_tell.wait()
        if isinstance(self.has, Exception):
            raise self.has
        return self.has

    async def complete(self, call, model, limits):
        return Completion(b"{}", self.name, "stop", None)

    async def stream(self, call, model, limits):
        yield Chunk(b"{}", self.name, content=True)


class History:
    def admit(self) -> None:
        pass

    def add(self, exchange: Exchange) -> asyncio.Event:
        written = asyncio.Event()
        written.set()
        return written


class World:
    """Two providers, the second of which has `llama`."""

    def __init__(self, first=("gpt",), **options) -> None:
        self.first, self.second = Provider("first", first), Provider("second", ["llama"])
        self.gateway = Gateway(History(), NO_CONTEXT, Metrics(), CacheSettings())
        self.discovery = self.use([self.first, self.second], **options)

    def use(self, providers, **options) -> Discovery:
        keys = {provider.name: [provider] for provider in providers}
        discovery = Discovery(keys, {}, **options)
        models = {"fast": ModelSettings(targets=["first/x"])}
        names = Names(known=discovery.known, prefixes={"first": ["gpt-"]})
        self.gateway.use(Router(keys, models, limits={}, names=names), discovery)
        return discovery

    async def answered_by(self, model: str | None, *, stream: bool = False) -> str:
        """The name of the provider that answers."""
        body = {"messages": [{"role": "user", "content": "ping"}], **({"model": model} if model else {})}
        call = parse("chat", json.dumps(body).encode())
        exchange = Exchange(
            id="id", key_id="key", question="", model="", conversation_id=None, created_at=0, started=0.0, stream=stream
        )
        if not stream:
            return (await self.gateway.complete(exchange, call)).text
        async with aclosing(self.gateway.stream(exchange, call)) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    def tell(self) -> None:
        self.first.may_tell.set()
        self.second.may_tell.set()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", [["gpt"], UpstreamTimeout("first", "did not answer", phase="total")])
async def test_a_name_that_only_a_list_can_explain_waits_for_the_lists(first, stream):
    scene = World(first)

    async with scene.discovery:
        call = asyncio.create_task(scene.answered_by("llama", stream=stream))
        await asyncio.sleep(0.02)
        waits = not call.done()
        scene.tell()
        async with asyncio.timeout(2):
            answered_by = await call

    assert (waits, answered_by) == (True, "second")


@pytest.mark.parametrize(
    ("model", "provider"),
    [(None, "first"), ("fast", "first"), ("gpt-5", "first"), ("second/llama", "second"), ("first/x", "first")],
)
async def test_a_name_that_needs_no_list_waits_for_none(model, provider):
    scene = World(patience=60)

    async with scene.discovery, asyncio.timeout(2):
        assert await scene.answered_by(model) == provider


async def test_a_list_that_does_not_come_is_waited_for_once():
    scene = World(patience=0.1)

    async with scene.discovery, asyncio.timeout(2):
        first = await scene.answered_by("llama")
        async with asyncio.timeout(0.05):
            second = await scene.answered_by("llama")

    assert (first, second) == ("first", "first")


async def test_the_only_provider_is_asked_at_once():
    scene = World()
    alone = scene.use([scene.first], patience=60)

    async with alone, asyncio.timeout(2):
        assert await scene.answered_by("llama") == "first"


async def test_who_waits_while_the_settings_are_read_again_goes_where_the_new_ones_say():
    scene = World(patience=60)

    async with asyncio.timeout(2):
        async with scene.discovery:
            call = asyncio.create_task(scene.answered_by("llama"))
            await asyncio.sleep(0.01)
            later = scene.use([Provider("first", []), scene.second, Provider("third", [])], patience=0.1)
        async with later:
            scene.tell()
            assert await call == "second"
