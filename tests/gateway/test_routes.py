"""Providers and models as the settings say, and as they say it later on."""

import asyncio
import json
import re
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from ai_proxy.core.config import read_settings
from ai_proxy.core.exceptions import GatewayError, ModelNotFound
from ai_proxy.core.groups import CacheSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.sources import ConfigurationError
from ai_proxy.core.types import Exchange
from ai_proxy.dialects.call import parse
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.routes import Routes
from ai_proxy.providers.http import Http
from tests.context import NO_CONTEXT

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("bare_environment")]

FAST = """
mock_mode = true
[mock]
token_delay = 0.002
[models.fast]
targets = ["openai/some-model"]
"""
OTHER = FAST.replace("models.fast", "models.other")


class Rows:
    """A history that takes everything at once."""

    def __init__(self) -> None:
        self.rows: list[Exchange] = []

    def admit(self) -> None:
        pass

    def add(self, exchange: Exchange) -> asyncio.Event:
        self.rows.append(exchange)
        written = asyncio.Event()
        written.set()
        return written


@pytest.fixture
def configure(tmp_path):
    def configure(text: str) -> None:
        (tmp_path / "ai-proxy.toml").write_text(text)

    return configure


@pytest.fixture
def history():
    return Rows()


@pytest.fixture
def gateway(history):
    return Gateway(history, NO_CONTEXT, Metrics(), CacheSettings())


@pytest.fixture
async def routes(gateway):
    async with Http() as http, Routes(gateway, http) as routes:
        yield routes


def call(model: str):
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "ping"}]}
    return parse("chat", json.dumps(body).encode())


def exchange() -> Exchange:
    return Exchange(
        id="id", key_id="key", question="", model="", conversation_id=None, created_at=0, started=0.0, stream=True
    )


def discoveries() -> int:
    """How many lists of models are kept up to date."""
    return sum(task.get_name() == "discovery" for task in asyncio.all_tasks())


async def asked(gateway: Gateway, model: str) -> str:
    async with aclosing(gateway.stream(exchange(), call(model))) as chunks:
        return "".join([chunk.text async for chunk in chunks])


async def test_calls_go_where_the_settings_say(configure, routes, gateway):
    configure(FAST)

    await routes.use(read_settings())

    assert list(gateway.models()) == ["fast", "mock"]
    assert "ping" in await asked(gateway, "fast")


async def test_settings_that_have_changed_hold_from_now_on(configure, routes, gateway):
    configure(FAST)
    await routes.use(read_settings())
    configure(OTHER)

    with capture_logs() as logs:
        await routes.reload(read_settings)

    assert list(gateway.models()) == ["other", "mock"]
    said = [(line["log_level"], line["event"].partition(":")[0]) for line in logs]
    assert said == [("info", "providers"), ("info", "reload")]


RIGHT = """
[providers.openai]
base_url = "http://127.0.0.1:9/v1"
models = ["x", "y"]
"""
WRONG = {
    "no toml at all": ("[models.fast", "Expected ']'"),
    "an unknown setting": ("nonsense = 1", "nonsense"),
    "an unknown field": ('[models.fast]\ntargets = ["openai/x"]\nnonsense = 1', "nonsense"),
    "an unknown provider": ('[models.fast]\ntargets = ["nobody/x"]', "there is no provider 'nobody'"),
    "no target": ("[models.fast]\ntargets = []", "targets: there must be one at least"),
    "a name twice": (
        '[models.fast]\ntargets = ["openai/x"]\n[models.slow]\ntargets = ["openai/y"]\naliases = ["fast"]',
        "models.slow.aliases",
    ),
    "an alias twice": ('[models.fast]\ntargets = ["openai/x"]\naliases = ["quick", "quick"]', "models.fast.aliases"),
    "a fallback that is none": ('[models.fast]\ntargets = ["openai/x"]\non_context_length = "z"', "no model 'z'"),
    "an address that is none": ('[providers.z]\nbase_url = "nonsense"', "base_url"),
    "a key that is nowhere": ('[providers.z]\nbase_url = "http://127.0.0.1:9"\napi_keys = ["env:NOT_SET"]', "NOT_SET"),
}
EACH_WRONG = pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG)


@EACH_WRONG
async def test_wrong_settings_leave_those_before_in_force(configure, routes, gateway, text, problem):
    configure(FAST)
    await routes.use(read_settings())
    configure(text + RIGHT)

    with capture_logs() as logs:
        await routes.reload(read_settings)

    (line,) = logs
    assert (line["log_level"], line["event"].partition(":")[0]) == ("error", "reload")
    assert all(told.startswith("ai-proxy.toml:") and problem in told for told in line["problems"])
    assert list(gateway.models()) == ["fast", "mock"]
    assert "ping" in await asked(gateway, "fast")


@EACH_WRONG
async def test_nothing_is_begun_with_wrong_settings(configure, routes, text, problem):
    configure(text + RIGHT)

    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        await routes.use(read_settings())

    assert discoveries() == 0


async def test_after_wrong_settings_right_ones_are_taken_again(configure, routes, gateway):
    for text in (FAST, *(text + RIGHT for text, _ in WRONG.values()), OTHER):
        configure(text)
        await routes.reload(read_settings)

    assert list(gateway.models()) == ["other", "mock"]


async def test_without_a_file_there_are_no_configured_models_any_more(configure, routes, gateway, tmp_path):
    configure(FAST)
    await routes.use(read_settings())
    (tmp_path / "ai-proxy.toml").unlink()

    await routes.reload(read_settings)

    assert list(gateway.models()) == ["mock"]


async def test_a_call_that_runs_ends_as_it_began(configure, routes, gateway, history):
    configure(FAST)
    await routes.use(read_settings())

    async with aclosing(gateway.stream(exchange(), call("fast"))) as chunks:
        first = await anext(chunks)
        configure('[providers.x]\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["y"]')
        await routes.reload(read_settings)
        rest = [chunk async for chunk in chunks]

    assert "ping" in "".join(chunk.text for chunk in (first, *rest))
    assert [(row.status, row.provider, row.finish_reason) for row in history.rows] == [("completed", "mock", "stop")]
    assert list(gateway.models()) == ["y"]
    with pytest.raises(ModelNotFound):
        await asked(gateway, "fast")


async def test_lists_of_models_are_kept_by_the_settings_in_force_alone(configure, gateway):
    configure('[providers.x]\nbase_url = "http://127.0.0.1:9/v1"')

    async with Http() as http, Routes(gateway, http) as routes:
        counts = [discoveries()]
        for _ in range(3):
            await routes.reload(read_settings)
            counts.append(discoveries())
        configure("nonsense = 1")
        await routes.reload(read_settings)
        counts.append(discoveries())

    assert counts == [0, 1, 1, 1, 1]
    assert discoveries() == 0


async def test_a_new_address_of_a_provider_is_where_calls_go(configure, routes, gateway):
    configure('default_model = "y"\n[providers.x]\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["y"]')
    await routes.use(read_settings())
    with pytest.raises(GatewayError) as caught:
        await asked(gateway, "y")
    configure("mock_mode = true\n[mock]\nlatency = 0\ntoken_delay = 0")

    await routes.reload(read_settings)

    assert caught.value.code == "upstream_unreachable"
    assert "ping" in await asked(gateway, "y")
