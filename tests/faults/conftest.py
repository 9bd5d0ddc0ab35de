"""A server without patience for clients that misbehave, and one whose providers are anew for each test."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.service import Service
from tests.upstream import KEY as PROVIDER_KEY
from tests.upstream import Upstream, answer, completion

NAMES = ("openai", "a", "b", "c", "d")


@pytest.fixture(scope="session")
def hasty_pair(tmp_path_factory):
    with Upstream() as upstream:
        service = Service(
            tmp_path_factory.mktemp("hasty"),
            OPENAI_API_KEY=PROVIDER_KEY,
            OPENAI_BASE_URL=upstream.url,
            AI_PROXY_DEFAULT_MODEL="small",
            AI_PROXY_SERVER__HEADER_TIMEOUT=1,
            AI_PROXY_SERVER__BODY_TIMEOUT=1,
            AI_PROXY_SERVER__WRITE_TIMEOUT=1,
            AI_PROXY_SERVER__KEEP_ALIVE=1,
            AI_PROXY_SERVER__MAX_BODY_BYTES=1_000_000,
        )
        service.configure(providers={"openai": {"models": ["small"]}})  # so that it is not asked for them
        service.start()
        service.client.headers["connection"] = "close"  # a kept one could be closed just as it is used again
        yield service, upstream
        assert service.stop() == 0
        service.client.close()


@pytest.fixture
def hasty(hasty_pair):
    """A server with time-outs of a second and bodies of a megabyte, and its scripted provider: (service, upstream).

    No fault of a client is a fault of ours: there must be neither a traceback nor a line of level error in the log.
    """
    service, upstream = hasty_pair
    upstream.handler = completion()
    upstream.connections.clear()
    before = len(service.log())
    yield service, upstream
    assert [line for line in service.log()[before:] if line["level"] == "error" or "exception" in line] == []


@pytest.fixture(scope="session")
def upstreams():
    """Scripted providers by name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Upstream()) for name in NAMES}


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """The server that all these tests share. What it knows of its providers is what the last test configured."""
    service = Service(
        tmp_path_factory.mktemp("gateway"),
        UPSTREAM_KEY=PROVIDER_KEY,
        AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
        AWS_SECRET_ACCESS_KEY="canary-of-the-cloud",
        AI_PROXY_DEFAULT_MODEL="small",
        AI_PROXY_UPSTREAM__CONNECT_TIMEOUT=1,
        AI_PROXY_UPSTREAM__FIRST_BYTE_TIMEOUT=2,
        AI_PROXY_UPSTREAM__IDLE_TIMEOUT=2,
        AI_PROXY_UPSTREAM__TOTAL_TIMEOUT=3,
        AI_PROXY_UPSTREAM__POOL_TIMEOUT=0.3,
        AI_PROXY_UPSTREAM__MAX_RESPONSE_BYTES=1_000_000,
    )
    yield service.start()
    assert service.stop() == 0
    service.client.close()


@pytest.fixture
def scripted(gateway, upstreams):
    """A server that asks one scripted provider, and its time-outs are short: (service, upstream).

    Its model "small" is tried twice where that may help, as any model that no table names; "once" is not.
    """
    upstream = upstreams["openai"]
    provider = {"base_url": upstream.url, "api_keys": "env:UPSTREAM_KEY", "models": ["small", "once", "y"]}
    gateway.configure(
        providers={"openai": provider}, models={"once": {"targets": ["openai/once"], "retries": 0, "total_timeout": 3}}
    )
    upstream.handler = completion()
    upstream.connections.clear()
    return gateway, upstream


@pytest.fixture
def routed(gateway, upstreams) -> Callable[..., dict[str, Upstream]]:
    """Sets up the model "small": routed("a", "b") sends its calls to the provider a, and then to b.

    Other models are given in `models`, what shall be different with a provider in `providers`. Returns the providers,
    all of which answer well until they are told otherwise.
    """

    def routed(*targets: str, models: dict | None = None, providers: dict | None = None, **options):
        tables = {
            name: {
                "base_url": upstream.url,
                "api_keys": "env:UPSTREAM_KEY",
                "models": [f"model-of-{name}"],
                **(providers or {}).get(name, {}),
            }
            for name, upstream in upstreams.items()
        }
        small = {"targets": [target if "/" in target else f"{target}/model-of-{target}" for target in targets]}
        gateway.configure(providers=tables, models={"small": {**small, **options}, **(models or {})})
        for name, upstream in upstreams.items():
            upstream.handler = answer(f"from {name}")
            upstream.connections.clear()
        return upstreams

    return routed
