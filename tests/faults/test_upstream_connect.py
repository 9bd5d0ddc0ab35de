"""U1 to U4, U29 to U31: a provider that cannot be reached, or not by this connection, or not now."""

import asyncio
import select
import socket
import ssl
import time

import pytest
from cryptography import x509

from tests.faults.certificates import Authority
from tests.outcome import ASK, EITHER_WAY, STREAMING, failed, post, recorded, refusal, seen, streamed
from tests.service import Service
from tests.upstream import DONE, Upstream, completion, delta, error, finish, raw, status, stream, words

ELSEWHERE = "a/model"  # a model of the second provider
CANARY = "token-canary-0123456789"  # no pattern of a key would find this one


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory):
    """A server whose first provider refuses connections, and whose second does not even answer to that."""
    with socket.socket() as refusing, socket.socket() as deaf:
        refusing.bind(("127.0.0.1", 0))
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        queue = [socket.socket() for _ in range(3)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        service = Service(
            tmp_path_factory.mktemp("unreachable"),
            OPENAI_API_KEY=CANARY,
            OPENAI_BASE_URL=f"http://127.0.0.1:{refusing.getsockname()[1]}/v1",
            OPENROUTER_API_KEY=CANARY,
            OPENROUTER_BASE_URL=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1",
            AI_PROXY_UPSTREAM__CONNECT_TIMEOUT=0.5,
        ).start()
        yield service
        assert service.stop() == 0
        service.client.close()
        for waiting in queue:
            waiting.close()


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A server whose providers speak TLS: the first with the certificate that a test presents, the second not at all.

    (service, upstream, authority, present)
    """
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("good"))
    with Upstream(tls=context) as upstream, socket.create_server(("127.0.0.1", 0)) as mute:
        service = Service(
            tmp_path_factory.mktemp("secured"),
            OPENAI_API_KEY="ollama",
            OPENAI_BASE_URL=upstream.url,
            OPENROUTER_API_KEY=CANARY,
            OPENROUTER_BASE_URL=f"https://127.0.0.1:{mute.getsockname()[1]}/v1",
            AI_PROXY_UPSTREAM__CONNECT_TIMEOUT=0.5,
            SSL_CERT_FILE=authority.file,
        ).start()
        yield service, upstream, authority, context.load_cert_chain
        assert service.stop() == 0
        service.client.close()


@pytest.fixture(scope="module")
def narrow_pair(tmp_path_factory):
    with Upstream() as upstream:
        service = Service(
            tmp_path_factory.mktemp("narrow"),
            OPENAI_API_KEY=CANARY,
            OPENAI_BASE_URL=upstream.url.replace("127.0.0.1", "localhost"),
            OPENROUTER_API_KEY=CANARY,
            OPENROUTER_BASE_URL="http://nonexistent.invalid/v1",
            AI_PROXY_UPSTREAM__MAX_CONNECTIONS=1,
            AI_PROXY_UPSTREAM__POOL_TIMEOUT=0.3,
            AI_PROXY_UPSTREAM__FIRST_BYTE_TIMEOUT=1,
            RES_OPTIONS="timeout:1 attempts:1",  # of the resolver: it may have no one to ask
        ).start()
        yield service, upstream
        assert service.stop() == 0
        service.client.close()


@pytest.fixture
def narrow(narrow_pair):
    """A server that makes one call at a time, (service, upstream). Its second provider's name does not exist."""
    service, upstream = narrow_pair
    upstream.handler = completion()
    upstream.connections.clear()
    return service, upstream


@EITHER_WAY
def test_u1_a_refused_connection_is_told_at_once(unreachable, path):
    response = post(unreachable, path)

    assert seen(response) == refusal(502, "upstream_unreachable")
    assert recorded(unreachable) == failed("upstream_unreachable")


@EITHER_WAY
def test_u2_a_connection_that_does_not_come_about_is_given_up_at_its_own_limit(unreachable, path):
    began = time.monotonic()

    response = post(unreachable, path, model=ELSEWHERE)

    assert 0.4 < time.monotonic() - began < 3
    assert seen(response) == refusal(504, "upstream_timeout_connect", provider="openrouter")
    assert recorded(unreachable) == failed("upstream_timeout_connect")


@EITHER_WAY
def test_u1_u2_where_the_provider_is_stays_with_us(unreachable, path):
    for model in ("small", ELSEWHERE):
        response = post(unreachable, path, model=model)

        assert "127.0.0.1" not in response.text
        assert "http" not in response.text


@EITHER_WAY
def test_u3_a_name_that_does_not_exist_is_told_as_such(narrow, path):
    service, _ = narrow

    response = post(service, path, model=ELSEWHERE)

    assert seen(response) == refusal(502, "upstream_dns", provider="openrouter")
    assert "invalid" not in response.text
    assert recorded(service) == failed("upstream_dns")


GOOD = {
    ASK: (b'{"choices": [{"message": {"content": "pong"}}]}', "application/json"),
    STREAMING: (delta("pong") + finish(), "text/event-stream"),
}


@EITHER_WAY
def test_u4_a_trusted_certificate_is_good_enough(secured, path):
    service, upstream, authority, present = secured
    present(authority.issue("good"))
    body, content_type = GOOD[path]
    upstream.handler = status(200, body, content_type=content_type, headers="connection: close\r\n")

    response = post(service, path)

    assert response.status_code == 200
    assert recorded(service)[:3] == ("completed", None, "pong")


@EITHER_WAY
@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param({"name": "self-signed", "trusted": False}, id="self-signed"),
        pytest.param({"name": "expired", "days": -1}, id="expired"),
        pytest.param({"name": "future", "days": 20}, id="not yet valid"),
        pytest.param({"name": "other", "host": x509.DNSName("api.openai.com")}, id="of another host"),
    ],
)
def test_u4_a_certificate_that_cannot_be_trusted_is_not(secured, path, certificate):
    service, upstream, authority, present = secured
    present(authority.issue(**certificate))
    upstream.connections.clear()

    response = post(service, path)

    assert seen(response) == refusal(502, "upstream_tls")
    assert recorded(service) == failed("upstream_tls")
    assert upstream.connections == []


@EITHER_WAY
def test_u4_a_handshake_that_does_not_end_is_given_up_at_the_limit_for_connecting(secured, path):
    service, *_ = secured
    began = time.monotonic()

    response = post(service, path, model=ELSEWHERE)

    assert 0.4 < time.monotonic() - began < 3
    assert seen(response) == refusal(504, "upstream_timeout_connect", provider="openrouter")
    assert recorded(service) == failed("upstream_timeout_connect")


# U29: a cookie. It needs a provider with a name, because cookies of bare addresses are dropped by everyone.


def test_u29_a_cookie_of_the_provider_does_not_come_back_to_it(narrow):
    service, upstream = narrow
    body, content_type = GOOD[ASK]
    upstream.handler = status(200, body, content_type=content_type, headers="set-cookie: session=1; path=/\r\n")

    post(service, ASK)
    post(service, ASK)

    assert [connection.header("cookie") for connection in upstream.connections] == [None, None]


# U30: the provider ends a connection that we would use once more.


def answered_then(last_act):
    """Answers the first request, and then it is for `last_act` to receive the next one on that connection."""

    async def handle(connection):
        await completion("pong")(connection)
        await last_act(connection)

    return handle


async def close_unread(connection):
    """Close just as a request comes, without having read it."""
    connection.writer.transport.pause_reading()
    await asyncio.to_thread(select.select, [connection.writer.get_extra_info("socket")], [], [], 5)
    connection.reset()


async def close_idle(connection):
    """Close before another request comes."""
    connection.writer.close()


def close_at_work(received: list[bytes], *, seconds: float = 0.0, answer: bytes = b""):
    """Read the next request, take so long over it, say so much, and close."""

    async def last_act(connection):
        received.append(await connection.reader.readuntil(b"\r\n\r\n") + await connection.reader.read(65_536))
        await asyncio.sleep(seconds)
        await connection.send(answer)
        await asyncio.sleep(0.05)
        connection.writer.close()

    return last_act


@EITHER_WAY
@pytest.mark.parametrize("last_act", [close_unread, close_idle])
def test_u30_a_kept_connection_that_the_provider_gives_up_is_replaced_and_nobody_notices(scripted, path, last_act):
    service, upstream = scripted
    upstream.handler = answered_then(last_act)
    post(service, ASK)
    accepted = upstream.accepted
    upstream.connections.clear()
    upstream.handler = completion("pong") if path == ASK else words("pong")

    response = post(service, path)

    text = response.json()["answer"] if path == ASK else streamed(response)[0]
    assert text == "pong"
    assert upstream.accepted == accepted + 1
    assert len(upstream.connections) == 1
    assert recorded(service)[:3] == ("completed", None, "pong")


@EITHER_WAY
@pytest.mark.parametrize(
    "work",
    [
        pytest.param({"seconds": 0.6}, id="after some time"),
        pytest.param({"answer": b"HTTP/1.1 200"}, id="after half a status line"),
        pytest.param({"answer": b"HTTP/1.1 200 OK\r\nx: y\r\n"}, id="after some headers"),
    ],
)
def test_u30_a_request_on_which_the_provider_worked_is_not_sent_again(scripted, path, work):
    service, upstream = scripted
    received = []
    upstream.handler = answered_then(close_at_work(received, **work))
    post(service, ASK)
    upstream.connections.clear()

    response = post(service, path)

    assert seen(response) == refusal(502, "upstream_unreachable")
    assert len(received) == 1
    assert upstream.connections == []
    assert recorded(service) == failed("upstream_unreachable")


@EITHER_WAY
@pytest.mark.parametrize("how", ["close", "reset"])
def test_u30_a_new_connection_closed_without_an_answer_is_not_tried_again(scripted, path, how):
    service, upstream = scripted

    async def hang_up(connection):
        connection.reset() if how == "reset" else connection.writer.close()

    upstream.handler = raw(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    post(service, ASK)  # so that no kept connection is left
    upstream.handler = hang_up
    upstream.connections.clear()
    accepted = upstream.accepted

    response = post(service, path)

    assert seen(response) == refusal(502, "upstream_unreachable")
    assert recorded(service) == failed("upstream_unreachable")
    assert (upstream.accepted - accepted, len(upstream.connections)) == (1, 1)


# U31: all connections are in use.


@EITHER_WAY
def test_u31_a_call_that_finds_no_free_connection_is_told_to_come_back(narrow, path):
    service, upstream = narrow
    upstream.handler = stream(delta("one "), 1.0, delta("two"), finish(), DONE)

    with service.client.stream("POST", STREAMING, json={"question": "first"}) as first:
        began = time.monotonic()
        response = post(service, path)
        waited = time.monotonic() - began
        kept = recorded(service)
        first.read()

    assert 0.2 < waited < 0.9
    assert seen(response) == refusal(503, "pool_full", source="gateway", provider=None, retry_after=1)
    assert kept == failed("pool_full")
    assert streamed(first)[0] == "one two"
    assert len(upstream.connections) == 1


def test_u31_a_call_waits_a_moment_for_a_free_connection(narrow):
    service, upstream = narrow
    upstream.handler = stream(delta("one"), 0.15, finish(), DONE)

    with service.client.stream("POST", STREAMING, json={"question": "first"}) as first:
        upstream.handler = completion("pong")
        response = post(service, ASK)
        first.read()

    assert response.json()["answer"] == "pong"


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(error(500), id="refused"),
        pytest.param(raw(b"nonsense"), id="not HTTP"),
        pytest.param(raw(b""), id="closed"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"), id="broken off"),
        pytest.param(stream(delta("one")), id="truncated"),
    ],
)
def test_u31_a_call_that_failed_gives_its_connection_back(narrow, handler):
    service, upstream = narrow
    upstream.handler = handler
    post(service, ASK)
    post(service, STREAMING)
    upstream.handler = completion("pong")

    response = post(service, ASK)

    assert response.json()["answer"] == "pong"


def test_u31_a_client_that_left_gives_its_connection_back(narrow):
    service, upstream = narrow
    upstream.handler = stream(delta("one"), 5.0)
    with service.client.stream("POST", STREAMING, json={"question": "first"}):
        pass
    upstream.handler = completion("pong")

    response = post(service, ASK)

    assert response.json()["answer"] == "pong"


@EITHER_WAY
def test_a_provider_that_repeats_our_key_does_not_give_it_away(narrow, path):
    service, upstream = narrow
    upstream.handler = error(400, f"Bad key {CANARY}!")

    response = post(service, path)

    assert response.json()["error"]["message"] == "openai: Bad key ***!"


def test_a_key_that_is_no_secret_is_left_in_the_words_of_the_provider(secured):
    service, upstream, authority, present = secured
    present(authority.issue("good"))
    upstream.handler = error(400, "no such model, try: ollama pull", headers="connection: close\r\n")

    response = post(service, ASK)

    assert response.json()["error"]["message"] == "openai: no such model, try: ollama pull"
