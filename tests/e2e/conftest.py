"""What a real language model needs: it is started once, and one server of ours is before it. What transfers need."""

import openai
import pytest

from tests import real_model
from tests.service import KEY, Service
from tests.stores import STORES, Store


@pytest.fixture(scope="session")
def model_address():
    with real_model.running() as address:
        yield address


@pytest.fixture(scope="session")
def model_settings(model_address):
    return real_model.settings(model_address)


@pytest.fixture(scope="session")
def before_model(model_settings, tmp_path_factory):
    """A server that asks the real model."""
    service = Service(tmp_path_factory.mktemp("real")).configure(**model_settings).start()
    service.client.timeout = real_model.PATIENCE
    yield service
    assert service.stop() == 0
    service.client.close()


@pytest.fixture
def sdk(before_model):
    """OpenAI's own client of that server."""
    url = f"{before_model.url}/v1"
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=real_model.PATIENCE) as client:
        yield client


@pytest.fixture(params=STORES)
def pair(request, start, tmp_path_factory) -> tuple[Service, Service]:
    """Two services on databases of one kind, the second one empty."""
    return tuple(start(**_settings(request, tmp_path_factory)) for _ in range(2))


def _settings(request, tmp_path_factory) -> dict:
    if request.param == "sqlite":
        return {}
    return Store(request.getfixturevalue("postgres").new_database(), tmp_path_factory.mktemp("store")).settings


@pytest.fixture
def managing():
    """Makes clients with an administrator's key."""
    clients = []

    def managing(service: Service):
        done = service.run("keys", "create", "boss", "--scope", "manage")
        clients.append(service.client_with(done.stdout.partition("key: ")[2].split()[0]))
        return clients[-1]

    yield managing
    for client in clients:
        client.close()
