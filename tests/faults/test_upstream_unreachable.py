"""U1 to U4: a provider that no connection can be made to.

Not here: a resolver that answers late, or with another address each time: that takes one of our own, which cannot be
had without changing the machine.
"""

import contextlib
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509

from tests.faults.certificates import Authority
from tests.outcome import EVERY_WAY, failed, post, recorded, refusal, said, sampled, seen, tried
from tests.service import Service
from tests.upstream import Upstream, answer, delta, finish, status

CANARY = "token-canary-0123456789"  # no pattern of a key would find this one


@pytest.fixture(scope="module")
def addresses():
    """Of providers that cannot be reached, each for another reason; by name."""
    with socket.socket() as refusing, socket.socket() as deaf, socket.create_server(("127.0.0.1", 0)) as mute:
        refusing.bind(("127.0.0.1", 0))
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        queue = [socket.socket() for _ in range(3)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        yield {
            "refusing": f"http://127.0.0.1:{refusing.getsockname()[1]}/v1",
            "deaf": f"http://127.0.0.1:{deaf.getsockname()[1]}/v1",
            "unknown": "http://nonexistent.invalid/v1",
            "mute": f"https://127.0.0.1:{mute.getsockname()[1]}/v1",
        }
        for waiting in queue:
            waiting.close()


@pytest.fixture(scope="module")
def secure_upstream(tmp_path_factory):
    """A provider that speaks TLS, and whose certificate can be chosen: (upstream, authority, context)."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("good"))
    with Upstream(tls=context) as upstream:
        yield upstream, authority, context


@pytest.fixture(scope="module")
def remote(tmp_path_factory, secure_upstream):
    """A server that trusts the authority of these tests, and that gives connections half a second to come about."""
    _, authority, _ = secure_upstream
    service = Service(
        tmp_path_factory.mktemp("remote"),
        UPSTREAM_KEY=CANARY,
        AI_PROXY_UPSTREAM__CONNECT_TIMEOUT=0.5,
        RES_OPTIONS="timeout:1 attempts:1",  # of the resolver: it may have no one to ask
        SSL_CERT_FILE=authority.file,
    )
    yield service.start()
    assert service.stop() == 0
    service.client.close()


@pytest.fixture
def towards(remote, addresses, upstreams, secure_upstream):
    """Sets up the model "small" at the named providers, which are tried once each: towards("deaf", "a").

    `at` gives the addresses of those that are not among the usual ones.
    """
    known = {**addresses, "secure": secure_upstream[0].url, "a": upstreams["a"].url}

    def towards(*names: str, at: dict | None = None, **options) -> Service:
        upstreams["a"].handler = answer("from a")
        addresses = known | (at or {})
        tables = {
            name: {"base_url": addresses[name], "api_keys": "env:UPSTREAM_KEY", "models": ["a-model"]} for name in names
        }
        model = {"targets": [f"{name}/a-model" for name in names], "retries": 0, **options}
        return remote.configure(default_model="small", providers=tables, models={"small": model})

    return towards


@EVERY_WAY
def test_u1_a_refused_connection_is_told_at_once(towards, way):
    service = towards("refusing")
    began = time.monotonic()

    response = post(service, way)

    assert time.monotonic() - began < 0.4
    assert seen(response) == refusal(502, "upstream_unreachable", way=way, provider="refusing")
    assert recorded(service) == failed("upstream_unreachable")
    assert tried(service) == [("refusing", "upstream_unreachable", None)]


@EVERY_WAY
def test_u2_a_connection_that_does_not_come_about_is_given_up_at_its_own_limit(towards, way):
    service = towards("deaf")
    began = time.monotonic()

    response = post(service, way)

    assert 0.4 < time.monotonic() - began < 2
    assert seen(response) == refusal(504, "upstream_timeout_connect", way=way, provider="deaf")
    assert recorded(service) == failed("upstream_timeout_connect")
    assert tried(service) == [("deaf", "upstream_timeout_connect", None)]


@pytest.mark.parametrize(
    ("name", "code"),
    [("refusing", "upstream_unreachable"), ("deaf", "upstream_timeout_connect"), ("unknown", "upstream_dns")],
)
def test_u1_u2_u3_what_never_was_a_connection_is_tried_once_more(towards, name, code):
    service = towards(name, retries=1)

    post(service, "/v1/chat/completions")

    assert tried(service) == [(name, code, None)] * 2


def test_u4_a_certificate_that_cannot_be_trusted_is_not_asked_for_again(towards, secure_upstream):
    _, authority, context = secure_upstream
    context.load_cert_chain(authority.issue("expired", days=-1))
    service = towards("secure", retries=1)

    post(service, "/v1/chat/completions")

    assert tried(service) == [("secure", "upstream_tls", None)]


@sampled(
    EVERY_WAY,
    pytest.mark.parametrize(
        ("name", "code"),
        [
            pytest.param("refusing", "upstream_unreachable", id="u1"),
            pytest.param("deaf", "upstream_timeout_connect", id="u2"),
            pytest.param("unknown", "upstream_dns", id="u3"),
        ],
    ),
)
def test_u1_u2_u3_another_provider_takes_over_at_once(towards, way, name, code):
    service = towards(name, "a", retries=1)

    response = post(service, way)

    assert said(response) == "from a"
    assert recorded(service)[:3] == ("completed", None, "from a")
    assert tried(service) == [(name, code, None), ("a", "completed", None)]


@pytest.mark.parametrize("name", ["refusing", "deaf", "unknown", "mute"])
def test_u1_u2_u3_u4_where_the_provider_is_stays_with_us(towards, name):
    service = towards(name)

    response = post(service, "/v1/chat/completions")

    assert "127.0.0.1" not in response.text
    assert "http" not in response.text
    assert "invalid." not in response.text


@EVERY_WAY
def test_u3_a_name_that_does_not_exist_is_told_as_such(towards, way):
    service = towards("unknown")

    response = post(service, way)

    assert seen(response) == refusal(502, "upstream_dns", way=way, provider="unknown")
    assert recorded(service) == failed("upstream_dns")
    assert tried(service) == [("unknown", "upstream_dns", None)]


@EVERY_WAY
def test_u4_a_trusted_certificate_is_good_enough(towards, secure_upstream, way):
    upstream, authority, context = secure_upstream
    context.load_cert_chain(authority.issue("good"))
    body, content_type = (delta("pong") + finish(), "text/event-stream") if way.stream else (GOOD, "application/json")
    upstream.handler = status(200, body, content_type=content_type, headers="connection: close\r\n")
    service = towards("secure")

    response = post(service, way)

    assert said(response) == "pong"
    assert tried(service) == [("secure", "completed", None)]


GOOD = b'{"choices": [{"message": {"content": "pong"}}]}'


@sampled(
    EVERY_WAY,
    pytest.mark.parametrize(
        "certificate",
        [
            pytest.param({"name": "self-signed", "trusted": False}, id="self-signed"),
            pytest.param({"name": "expired", "days": -1}, id="expired"),
            pytest.param({"name": "future", "days": 20}, id="not yet valid"),
            pytest.param({"name": "other", "host": x509.DNSName("api.openai.com")}, id="of another host"),
        ],
    ),
)
def test_u4_a_certificate_that_cannot_be_trusted_is_not(towards, secure_upstream, way, certificate):
    upstream, authority, context = secure_upstream
    context.load_cert_chain(authority.issue(**certificate))
    upstream.connections.clear()
    service = towards("secure")

    response = post(service, way)

    assert seen(response) == refusal(502, "upstream_tls", way=way, provider="secure")
    assert recorded(service) == failed("upstream_tls")
    assert tried(service) == [("secure", "upstream_tls", None)]
    assert upstream.connections == []


@pytest.fixture(scope="module")
def outdated(secure_upstream):
    """The address of a provider that speaks TLS 1.1 and nothing later, and says so before it hangs up."""
    _, authority, _ = secure_upstream
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("outdated"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(ssl.SSLError):
                    context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@EVERY_WAY
def test_u4_an_old_version_of_tls_is_not_spoken(towards, outdated, way):
    service = towards("outdated", at={"outdated": outdated})

    response = post(service, way)

    assert seen(response) == refusal(502, "upstream_tls", way=way, provider="outdated")
    assert recorded(service) == failed("upstream_tls")
    assert tried(service) == [("outdated", "upstream_tls", None)]


@EVERY_WAY
def test_u4_a_handshake_that_does_not_end_is_given_up_at_the_limit_for_connecting(towards, way):
    service = towards("mute")
    began = time.monotonic()

    response = post(service, way)

    assert 0.4 < time.monotonic() - began < 2
    assert seen(response) == refusal(504, "upstream_timeout_connect", way=way, provider="mute")
    assert recorded(service) == failed("upstream_timeout_connect")
