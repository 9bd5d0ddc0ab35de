"""A server without patience, for clients that misbehave."""

import pytest

from tests.service import Service
from tests.upstream import Upstream, completion


@pytest.fixture(scope="session")
def hasty_pair(tmp_path_factory):
    with Upstream() as upstream:
        service = Service(
            tmp_path_factory.mktemp("hasty"),
            OPENAI_API_KEY="sk-upstream-canary-key",
            OPENAI_BASE_URL=upstream.url,
            AI_PROXY_DEFAULT_MODEL="small",
            AI_PROXY_SERVER__HEADER_TIMEOUT=1,
            AI_PROXY_SERVER__BODY_TIMEOUT=1,
            AI_PROXY_SERVER__WRITE_TIMEOUT=1,
            AI_PROXY_SERVER__KEEP_ALIVE=1,
            AI_PROXY_SERVER__MAX_BODY_BYTES=1_000_000,
        ).start()
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
