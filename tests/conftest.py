"""Shared fixtures: real server processes on real SQLite files, with the mock or a scripted provider behind them."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests import stores
from tests.postgres import Postgres
from tests.service import Service
from tests.stores import Store
from tests.upstream import Upstream, completion

# How fast examples come says something of the machine, and of what else runs on it.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def bare_environment(tmp_path, monkeypatch):
    """Nothing is set, and the working directory has no .env."""
    for name in os.environ:
        if not name.startswith("PYTEST"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that the whole run shares. A test that stops it must start its own."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=stores.STORES)
def store(request, tmp_path):
    """An empty database of either kind: the test runs once with each."""
    if request.param == "sqlite":
        return stores.in_file(tmp_path / "data")
    return Store(request.getfixturevalue("postgres").new_database(), tmp_path / "data")


@pytest.fixture
def start(tmp_path_factory):
    """Starts servers with the settings of one test; they are stopped at its end."""
    started = []

    def start(directory=None, **settings):
        service = Service(directory or tmp_path_factory.mktemp("service"), **settings)
        started.append(service)
        return service.start()

    yield start
    for service in started:
        service.stop()
        service.client.close()


@pytest.fixture(scope="session")
def mocked(tmp_path_factory):
    """A server in mock mode that the whole run shares. A test that changes it must start its own."""
    service = Service(tmp_path_factory.mktemp("mocked"), AI_PROXY_MOCK__TOKEN_DELAY=0).start()
    yield service
    assert service.stop() == 0
    service.client.close()


@pytest.fixture(scope="session")
def mocked_on_server(postgres, tmp_path_factory):
    """The same on PostgreSQL."""
    directory = tmp_path_factory.mktemp("mocked_on_server")
    store = Store(postgres.new_database(), directory)
    service = Service(directory, AI_PROXY_MOCK__TOKEN_DELAY=0, **store.settings).start()
    yield service
    assert service.stop() == 0
    service.client.close()


@pytest.fixture(scope="session")
def scripted_pair(tmp_path_factory):
    with Upstream() as upstream:
        service = Service(
            tmp_path_factory.mktemp("scripted"),
            OPENAI_API_KEY="sk-upstream-canary-key",
            OPENAI_BASE_URL=upstream.url,
            AI_PROXY_DEFAULT_MODEL="small",
            AI_PROXY_UPSTREAM__CONNECT_TIMEOUT=1,
            AI_PROXY_UPSTREAM__FIRST_BYTE_TIMEOUT=1,
            AI_PROXY_UPSTREAM__IDLE_TIMEOUT=0.5,
            AI_PROXY_UPSTREAM__TOTAL_TIMEOUT=3,
            AI_PROXY_UPSTREAM__MAX_RESPONSE_BYTES=1_000_000,
        ).start()
        yield service, upstream
        assert service.stop() == 0
        service.client.close()


@pytest.fixture
def scripted(scripted_pair):
    """A server that asks a scripted provider: (service, upstream). Its time-outs are short."""
    service, upstream = scripted_pair
    upstream.handler = completion()
    upstream.connections.clear()
    return service, upstream
