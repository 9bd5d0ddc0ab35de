"""U5 to U8: a provider that is slow or silent. Bounds here: 0.4 s to the first byte, 0.25 s of silence, 1 s in all."""

import asyncio
import time

import pytest

from tests.outcome import (
    AS_CHAT,
    ASK,
    CHAT,
    EVERY_WAY,
    STREAMED,
    STREAMING,
    WHOLE,
    broken_off,
    failed,
    failure,
    post,
    recorded,
    refusal,
    said,
    seen,
    tried,
)
from tests.upstream import STREAM_HEAD, delta, event, finish, silence, status, stream, words

ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})


def body_then(*parts: bytes | float, length: int = 1000):
    """A whole answer's headers, and its body in parts; numbers are pauses in seconds."""

    async def handle(connection):
        await connection.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length
        )
        for part in parts:
            if isinstance(part, bytes):
                await connection.send(part)
            else:
                await asyncio.sleep(part)
        if length > sum(len(part) for part in parts if isinstance(part, bytes)):
            await connection.until_closed()

    return handle


LIMITS = {"first_byte_timeout": 0.4, "idle_timeout": 0.25, "total_timeout": 1}


@pytest.fixture
def hurried(gateway, routed):
    """A server whose provider must be quick: (service, upstream)."""
    return gateway, routed("openai", providers={"openai": LIMITS})["openai"]


@EVERY_WAY
def test_u5_a_provider_that_never_answers_is_given_up_at_the_limit_for_the_first_byte(hurried, way):
    service, upstream = hurried
    upstream.handler = silence
    began = time.monotonic()

    response = post(service, way)

    assert 0.35 < time.monotonic() - began < 0.9
    assert seen(response) == refusal(504, "upstream_timeout_first_byte", way=way)
    assert recorded(service) == failed("upstream_timeout_first_byte")
    assert tried(service) == [("openai", "upstream_timeout_first_byte", None)]
    assert len(upstream.connections) == 1
    service.eventually(lambda: upstream.connections[0].closed_after is not None)


@EVERY_WAY
def test_u5_another_provider_takes_over_from_one_that_never_answers(gateway, routed, way):
    upstreams = routed("a", "b", providers={"a": {"first_byte_timeout": 0.2}})
    upstreams["a"].handler = silence

    response = post(gateway, way)

    assert said(response) == "from b"
    assert recorded(gateway)[:3] == ("completed", None, "from b")
    assert tried(gateway) == [("a", "upstream_timeout_first_byte", None), ("b", "completed", None)]
    gateway.eventually(lambda: upstreams["a"].connections[0].closed_after is not None)


@AS_CHAT
def test_u5_all_tries_together_take_no_longer_than_the_call_may(gateway, routed, way):
    upstreams = routed(
        "a", "b", "c", "d", total_timeout=1.5, providers={name: {"first_byte_timeout": 0.6} for name in "abcd"}
    )
    for upstream in upstreams.values():
        upstream.handler = silence
    began = time.monotonic()

    response = post(gateway, way)

    assert 1.4 < time.monotonic() - began < 2.2
    assert seen(response)["code"] in {"upstream_timeout_first_byte", "upstream_timeout_total"}
    assert [provider for provider, *_ in tried(gateway)] == ["a", "b", "c"]
    assert upstreams["d"].connections == []


@WHOLE
def test_u6_silence_after_the_headers_counts_as_silence_before_the_first_byte(hurried, way):
    service, upstream = hurried
    upstream.handler = body_then()

    response = post(service, way)

    assert seen(response) == refusal(504, "upstream_timeout_first_byte", way=way)
    assert recorded(service) == failed("upstream_timeout_first_byte")
    assert tried(service) == [("openai", "upstream_timeout_first_byte", None)]


@STREAMED
def test_u6_a_stream_without_a_first_event_is_refused_with_a_plain_error(hurried, way):
    service, upstream = hurried
    upstream.handler = stream(silence)

    response = post(service, way)

    assert seen(response) == refusal(504, "upstream_timeout_first_byte", way=way)
    assert recorded(service) == failed("upstream_timeout_first_byte")
    assert tried(service) == [("openai", "upstream_timeout_first_byte", None)]


@STREAMED
def test_u6_signs_of_life_are_no_first_word(hurried, way):
    service, upstream = hurried
    upstream.handler = stream(b": thinking\n\n", ROLE, *[0.1, b": thinking\n\n"] * 10)
    began = time.monotonic()

    response = post(service, way)

    assert 0.35 < time.monotonic() - began < 0.9
    assert seen(response) == refusal(504, "upstream_timeout_first_byte", way=way)
    assert recorded(service) == failed("upstream_timeout_first_byte")


@STREAMED
def test_u6_another_provider_takes_over_from_one_that_stalls_before_its_first_word(gateway, routed, way):
    upstreams = routed("a", "b", providers={"a": {"first_byte_timeout": 0.2}})
    upstreams["a"].handler = stream(ROLE, silence)

    response = post(gateway, way)

    assert said(response) == "from b"
    assert tried(gateway) == [("a", "upstream_timeout_first_byte", None), ("b", "completed", None)]


@WHOLE
def test_u7_an_answer_that_stops_half_way_is_given_up_after_the_limit_of_silence(hurried, way):
    service, upstream = hurried
    upstream.handler = body_then(b'{"choices": [')
    began = time.monotonic()

    response = post(service, way)

    assert 0.2 < time.monotonic() - began < 0.7
    assert seen(response) == refusal(504, "upstream_timeout_idle", way=way)
    assert recorded(service) == failed("upstream_timeout_idle")
    assert tried(service) == [("openai", "upstream_timeout_idle", None)]


@STREAMED
def test_u7_a_stream_that_falls_silent_ends_in_an_error_event_and_its_beginning_is_kept(hurried, way):
    service, upstream = hurried
    upstream.handler = stream(delta("one "), delta("two"), silence)

    response = post(service, way)

    assert broken_off(response) == ("one two", failure("upstream_timeout_idle", way=way))
    assert recorded(service) == failed("upstream_timeout_idle", "one two", (1, 2, True))
    assert tried(service) == [("openai", "upstream_timeout_idle", None)]
    service.eventually(lambda: upstream.connections[0].closed_after is not None)


@STREAMED
def test_u7_nobody_takes_over_once_there_was_a_word(gateway, routed, way):
    upstreams = routed("a", "b", providers={"a": {"idle_timeout": 0.25}})
    upstreams["a"].handler = stream(delta("one"), silence)

    response = post(gateway, way)

    assert broken_off(response) == ("one", failure("upstream_timeout_idle", way=way, provider="a"))
    assert tried(gateway) == [("a", "upstream_timeout_idle", None)]
    assert upstreams["b"].connections == []


@WHOLE
def test_u8_an_answer_that_comes_slowly_but_steadily_is_waited_for(hurried, way):
    service, upstream = hurried
    upstream.handler = body_then(
        b'{"choices": [{"mess', 0.15, b'age": {"content": "slow but', 0.15, b' sure"}}', 0.15, b"]}", length=56
    )

    response = post(service, way)

    assert said(response) == "slow but sure"


@STREAMED
def test_u8_a_stream_that_comes_slowly_but_steadily_is_waited_for(hurried, way):
    service, upstream = hurried
    upstream.handler = words("slow ", "but ", "sure", gap=0.15)

    response = post(service, way)

    assert said(response) == "slow but sure"


def test_u8_an_answer_that_drips_for_ever_is_cut_at_the_total_limit(hurried):
    service, upstream = hurried
    upstream.handler = body_then(*[b" ", 0.1] * 20)
    began = time.monotonic()

    response = post(service, CHAT)

    assert 0.9 < time.monotonic() - began < 1.8
    assert seen(response) == refusal(504, "upstream_timeout_total")
    assert recorded(service) == failed("upstream_timeout_total")
    assert tried(service) == [("openai", "upstream_timeout_total", None)]


@STREAMED
def test_u8_a_stream_that_drips_for_ever_is_cut_at_the_total_limit(hurried, way):
    service, upstream = hurried
    upstream.handler = stream(*[delta("x"), 0.2] * 10, finish())

    response = post(service, way)

    text, error = broken_off(response)
    assert error == failure("upstream_timeout_total", way=way)
    assert text in {"xxxx", "xxxxx"}
    assert recorded(service) == failed("upstream_timeout_total", text, (1, -(-len(text) // 4), True))
    assert tried(service) == [("openai", "upstream_timeout_total", None)]


def test_u8_the_provider_hears_at_once_that_its_answer_is_no_longer_wanted(hurried):
    service, upstream = hurried
    gone = []

    async def broken_then_silence(connection):
        await connection.send(STREAM_HEAD)
        await connection.chunk(delta("one") + b"data: nonsense\n\n")
        await connection.until_closed()
        gone.append(connection.closed_after)

    upstream.handler = broken_then_silence

    post(service, STREAMING)

    assert service.eventually(lambda: gone)[0] < 0.2


def test_a_providers_own_timeout_is_told_as_one(hurried):
    service, upstream = hurried
    upstream.handler = status(408)

    response = post(service, ASK)

    assert seen(response) == refusal(504, "upstream_timeout", upstream_status=408)
    assert tried(service) == [("openai", "upstream_timeout", 408)]
