"""U5 to U8: a provider that is slow or silent. Limits here: 1 s to the first byte, 0.5 s of silence, 3 s in all."""

import asyncio
import time

from tests.outcome import (
    ASK,
    EITHER_WAY,
    STREAMING,
    broken_off,
    failed,
    failure,
    post,
    recorded,
    refusal,
    seen,
    streamed,
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


@EITHER_WAY
def test_u5_a_provider_that_never_answers_is_given_up_at_the_limit_for_the_first_byte(scripted, path):
    service, upstream = scripted
    upstream.handler = silence
    began = time.monotonic()

    response = post(service, path)

    assert 0.9 < time.monotonic() - began < 2
    assert seen(response) == refusal(504, "upstream_timeout_first_byte")
    assert recorded(service) == failed("upstream_timeout_first_byte")
    assert len(upstream.connections) == 1
    service.eventually(lambda: upstream.connections[0].closed_after is not None)


def test_u6_silence_after_the_headers_counts_as_silence_before_the_first_byte(scripted):
    service, upstream = scripted
    upstream.handler = body_then()

    response = post(service, ASK)

    assert seen(response) == refusal(504, "upstream_timeout_first_byte")
    assert recorded(service) == failed("upstream_timeout_first_byte")


def test_u6_a_stream_without_a_first_event_is_refused_with_a_plain_error(scripted):
    service, upstream = scripted
    upstream.handler = stream(silence)

    response = post(service, STREAMING)

    assert response.headers["content-type"] == "application/json"
    assert seen(response) == refusal(504, "upstream_timeout_first_byte")
    assert recorded(service) == failed("upstream_timeout_first_byte")


def test_u6_a_stream_that_falls_silent_before_its_first_word_is_refused_with_a_plain_error(scripted):
    service, upstream = scripted
    upstream.handler = stream(b": thinking\n\n", ROLE, silence)

    response = post(service, STREAMING)

    assert seen(response) == refusal(504, "upstream_timeout_idle")
    assert recorded(service) == failed("upstream_timeout_idle")


def test_u7_an_answer_that_stops_half_way_is_given_up_after_the_limit_of_silence(scripted):
    service, upstream = scripted
    upstream.handler = body_then(b'{"choices": [')
    began = time.monotonic()

    response = post(service, ASK)

    assert 0.4 < time.monotonic() - began < 1
    assert seen(response) == refusal(504, "upstream_timeout_idle")
    assert recorded(service) == failed("upstream_timeout_idle")


def test_u7_a_stream_that_falls_silent_ends_in_an_error_event_and_its_beginning_is_kept(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("one "), delta("two"), silence)

    response = post(service, STREAMING)

    assert broken_off(response) == ("one two", failure("upstream_timeout_idle"))
    assert recorded(service) == failed("upstream_timeout_idle", "one two", (1, 2, True))
    service.eventually(lambda: upstream.connections[0].closed_after is not None)


def test_u8_an_answer_that_comes_slowly_but_steadily_is_waited_for(scripted):
    service, upstream = scripted
    upstream.handler = body_then(
        b'{"choices": [{"mess', 0.35, b'age": {"content": "slow but', 0.35, b' sure"}}', 0.35, b"]}", length=56
    )

    response = post(service, ASK)

    assert response.json()["answer"] == "slow but sure"


def test_u8_a_stream_that_comes_slowly_but_steadily_is_waited_for(scripted):
    service, upstream = scripted
    upstream.handler = words("slow ", "but ", "sure", gap=0.4)

    response = post(service, STREAMING)

    assert streamed(response)[0] == "slow but sure"


def test_u8_an_answer_that_drips_for_ever_is_cut_at_the_total_limit(scripted):
    service, upstream = scripted
    upstream.handler = body_then(*[b" ", 0.3] * 15)
    began = time.monotonic()

    response = post(service, ASK)

    assert 2.9 < time.monotonic() - began < 4
    assert seen(response) == refusal(504, "upstream_timeout_total")
    assert recorded(service) == failed("upstream_timeout_total")


def test_u8_a_stream_that_drips_for_ever_is_cut_at_the_total_limit(scripted):
    service, upstream = scripted
    upstream.handler = stream(*[delta("x"), 0.4] * 10, finish())

    response = post(service, STREAMING)

    text, error = broken_off(response)
    assert error == failure("upstream_timeout_total")
    assert text == "x" * 8
    assert recorded(service) == failed("upstream_timeout_total", text, (1, 2, True))


def test_u8_the_provider_hears_at_once_that_its_answer_is_no_longer_wanted(scripted):
    service, upstream = scripted
    gone = []

    async def broken_then_silence(connection):
        await connection.send(STREAM_HEAD)
        await connection.chunk(delta("one") + b"data: nonsense\n\n")
        await connection.until_closed()
        gone.append(connection.closed_after)

    upstream.handler = broken_then_silence

    post(service, STREAMING)

    assert service.eventually(lambda: gone)[0] < 0.4


def test_a_providers_own_timeout_is_told_as_one(scripted):
    service, upstream = scripted
    upstream.handler = status(408)

    response = post(service, ASK)

    assert seen(response) == refusal(504, "upstream_timeout", upstream_status=408)
