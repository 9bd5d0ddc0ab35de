"""A server whose provider speaks every format."""

import pytest

from tests.service import Service
from tests.upstream import Upstream, completion
from tests.v1 import settings_for


@pytest.fixture(scope="session")
def native_pair(tmp_path_factory):
    with Upstream() as upstream:
        service = Service(tmp_path_factory.mktemp("native"), AI_PROXY_SERVER__MAX_BODY_BYTES=20_000)
        yield service.configure(**settings_for(upstream)).start(), upstream
        assert service.stop() == 0
        service.client.close()


@pytest.fixture
def native(native_pair):
    """A server whose provider speaks every format: (service, upstream)."""
    service, upstream = native_pair
    service.configure(**settings_for(upstream))
    upstream.handler = completion()
    upstream.connections.clear()
    return service, upstream
