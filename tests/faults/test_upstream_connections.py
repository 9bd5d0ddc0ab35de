"""U29, U30, U31: connections that are used again, and connections that are all in use."""

import asyncio
import select
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.outcome import (
    AS_CHAT,
    ASK,
    CHAT,
    EVERY_WAY,
    STREAMING,
    failed,
    post,
    recorded,
    refusal,
    said,
    sampled,
    seen,
    tried,
)
from tests.upstream import DONE, answer, completion, delta, error, finish, raw, silence, stream


@pytest.fixture
def narrow(gateway, routed):
    """A server that makes one call at a time to its provider "a": (service, upstream)."""
    upstreams = routed("a", providers={"a": {"max_connections": 1}})
    return gateway, upstreams["a"]


# U29: a cookie. It needs a provider with a name, because cookies of bare addresses are dropped by everyone.


def test_u29_a_cookie_of_the_provider_does_not_come_back_to_it(gateway, routed, upstreams):
    address = upstreams["a"].url.replace("127.0.0.1", "localhost")
    upstream = routed("a", providers={"a": {"base_url": address}})["a"]
    body = b'{"choices": [{"message": {"content": "pong"}}]}'
    upstream.handler = raw(
        b"HTTP/1.1 200 OK\r\nset-cookie: session=1; path=/\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body),
        then_close=False,
    )

    post(gateway, CHAT)
    post(gateway, CHAT)

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


@sampled(EVERY_WAY, pytest.mark.parametrize("last_act", [close_unread, close_idle]))
def test_u30_a_kept_connection_that_the_provider_gives_up_is_replaced_and_nobody_notices(scripted, way, last_act):
    service, upstream = scripted
    upstream.handler = answered_then(last_act)
    post(service, ASK)
    accepted = upstream.accepted
    upstream.connections.clear()
    upstream.handler = answer("pong")

    response = post(service, way)

    assert said(response) == "pong"
    assert upstream.accepted == accepted + 1
    assert len(upstream.connections) == 1
    assert recorded(service)[:3] == ("completed", None, "pong")
    assert tried(service) == [("openai", "completed", None)]


@sampled(
    EVERY_WAY,
    pytest.mark.parametrize(
        "work",
        [
            pytest.param({"seconds": 0.6}, id="after some time"),
            pytest.param({"answer": b"HTTP/1.1 200"}, id="after half a status line"),
            pytest.param({"answer": b"HTTP/1.1 200 OK\r\nx: y\r\n"}, id="after some headers"),
        ],
    ),
)
def test_u30_a_request_on_which_the_provider_worked_is_not_sent_again(scripted, way, work):
    service, upstream = scripted
    received = []
    upstream.handler = answered_then(close_at_work(received, **work))
    post(service, ASK)
    upstream.connections.clear()

    response = post(service, way)

    assert seen(response) == refusal(502, "upstream_unreachable", way=way)
    assert len(received) == 1
    assert upstream.connections == []
    assert recorded(service) == failed("upstream_unreachable")
    assert tried(service) == [("openai", "upstream_unreachable", None)]


@sampled(EVERY_WAY, pytest.mark.parametrize("how", ["close", "reset"]))
def test_u30_a_new_connection_closed_without_an_answer_is_not_tried_again(scripted, way, how):
    service, upstream = scripted

    async def hang_up(connection):
        connection.reset() if how == "reset" else connection.writer.close()

    upstream.handler = raw(b"HTTP/1.1 501 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    post(service, ASK)  # so that no kept connection is left
    upstream.handler = hang_up
    upstream.connections.clear()
    accepted = upstream.accepted

    response = post(service, way)

    assert seen(response) == refusal(502, "upstream_unreachable", way=way)
    assert recorded(service) == failed("upstream_unreachable")
    assert tried(service) == [("openai", "upstream_unreachable", None)]
    assert (upstream.accepted - accepted, len(upstream.connections)) == (1, 1)


@EVERY_WAY
def test_u30_another_provider_takes_over_from_one_that_hangs_up(gateway, routed, way):
    upstreams = routed("a", "b")
    upstreams["a"].handler = raw(b"")

    response = post(gateway, way)

    assert said(response) == "from b"
    assert tried(gateway) == [("a", "upstream_unreachable", None), ("b", "completed", None)]
    assert len(upstreams["a"].connections) == 1


# U31: all connections are in use.


@EVERY_WAY
def test_u31_a_call_that_finds_no_free_connection_is_told_to_come_back(narrow, way):
    service, upstream = narrow
    upstream.handler = stream(delta("one "), 1.5, delta("two"), finish(), DONE)

    with service.client.stream("POST", STREAMING, json={"question": "first"}) as first:
        began = time.monotonic()
        response = post(service, way)
        waited = time.monotonic() - began
        kept, tries = recorded(service), tried(service)
        first.read()

    assert 0.2 < waited < 1.5  # when the place would be free
    assert seen(response) == refusal(503, "pool_full", way=way, source="gateway", provider=None, retry_after=1)
    assert kept == failed("pool_full")
    assert tries == [("a", "pool_full", None)]
    assert said(first) == "one two"
    assert len(upstream.connections) == 1


def test_u31_a_call_waits_a_moment_for_a_free_connection(narrow):
    service, upstream = narrow
    upstream.handler = stream(delta("one"), 0.15, finish(), DONE)

    with service.client.stream("POST", STREAMING, json={"question": "first"}) as first:
        upstream.handler = completion("pong")
        response = post(service, CHAT)
        first.read()

    assert said(response) == "pong"


@EVERY_WAY
def test_u31_another_provider_takes_over_when_there_is_no_free_connection(gateway, routed, way):
    upstreams = routed("a", "b", providers={"a": {"max_connections": 1}})
    upstreams["a"].handler = stream(delta("one"), 0.5, finish(), DONE)

    with gateway.client.stream("POST", STREAMING, json={"question": "first"}) as first:
        response = post(gateway, way)
        tries = tried(gateway)
        first.read()

    assert said(response) == "from b"
    assert tries == [("a", "pool_full", None), ("b", "completed", None)]


@AS_CHAT
def test_u31_a_provider_that_hangs_does_not_hold_up_another(gateway, routed, way):
    limits = {"max_connections": 2, "first_byte_timeout": 0.8}
    upstreams = routed("a", providers={"a": limits}, models={"other": {"targets": ["b/other"]}})
    upstreams["a"].handler = silence

    with ThreadPoolExecutor() as threads:
        hung = [threads.submit(post, gateway, way) for _ in range(2)]
        gateway.eventually(lambda: len(upstreams["a"].connections) == 2)
        began = time.monotonic()
        answers = [post(gateway, way, model="other") for _ in range(5)]
        took = time.monotonic() - began
        third = post(gateway, way)

    assert [said(response) for response in answers] == ["from b"] * 5
    assert took < 0.4
    assert seen(third) == refusal(503, "pool_full", way=way, source="gateway", provider=None, retry_after=1)
    timed_out = refusal(504, "upstream_timeout_first_byte", way=way, provider="a")
    assert [seen(call.result()) for call in hung] == [timed_out] * 2
    assert len(upstreams["a"].connections) == 2


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(error(501), id="refused"),
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

    response = post(service, CHAT)

    assert said(response) == "pong"


def test_u31_a_client_that_left_gives_its_connection_back(narrow):
    service, upstream = narrow
    upstream.handler = stream(delta("one"), 5.0)
    with service.client.stream("POST", STREAMING, json={"question": "first"}):
        pass
    upstream.handler = completion("pong")

    response = post(service, CHAT)

    assert said(response) == "pong"
