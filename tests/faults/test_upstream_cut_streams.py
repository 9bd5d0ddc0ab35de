"""U9, U10, U11: streams that end before the answer does."""

import asyncio

import httpx2
import pytest

from tests.outcome import (
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
    sampled,
    seen,
    tried,
)
from tests.upstream import DONE, delta, event, finish, raw, stream, usage

CLOSING_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
SIZED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\n"
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})

# What was sent before must be read before the connection breaks: a broken connection throws it away.
PAUSE = 0.05


async def reset(connection):
    """Break the connection off with RST."""
    await asyncio.sleep(PAUSE)
    connection.reset()


async def hang_up(connection):
    """Close the connection in an orderly way, in the middle of the body."""
    await asyncio.sleep(PAUSE)
    connection.writer.close()


# U10: the stream ends as if nothing was wrong, but the answer is not finished.


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        "handler",
        [
            pytest.param(stream(delta("one "), delta("two")), id="end of the body"),
            pytest.param(stream(delta("one "), delta("two"), DONE), id="DONE"),
            pytest.param(stream(delta("one "), delta("two"), usage(), DONE), id="usage and DONE"),
            pytest.param(raw(CLOSING_HEAD + delta("one ") + delta("two")), id="end of the connection"),
        ],
    ),
)
def test_u10_a_stream_that_ends_without_a_finish_reason_ends_in_an_error_event(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert broken_off(response) == ("one two", failure("upstream_stream_truncated", way=way))
    assert recorded(service)[:3] == ("failed", "upstream_stream_truncated", "one two")
    assert tried(service) == [("openai", "upstream_stream_truncated", None)]
    assert len(upstream.connections) == 1


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        "handler",
        [
            pytest.param(stream(), id="nothing at all"),
            pytest.param(stream(b": comment\n\n", event({"choices": []})), id="nothing that bears content"),
            pytest.param(stream(DONE), id="DONE alone"),
            pytest.param(stream(usage(), DONE), id="usage alone"),
        ],
    ),
)
def test_u10_a_stream_that_ends_before_its_first_word_is_refused_with_a_plain_error(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert seen(response) == refusal(502, "upstream_stream_truncated", way=way)
    assert recorded(service)[:3] == ("failed", "upstream_stream_truncated", "")


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        "handler",
        [
            pytest.param(stream(delta("pong"), finish()), id="no DONE"),
            pytest.param(raw(CLOSING_HEAD + delta("pong") + finish()), id="end of the connection"),
            pytest.param(stream(delta("pong"), finish("length"), DONE), id="cut by the model's own limit"),
        ],
    ),
)
def test_u10_a_finished_answer_is_complete_however_its_stream_ends(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert said(response) == "pong"
    assert recorded(service) == ("completed", None, "pong", (1, 1, True))


@STREAMED
def test_u10_a_finished_answer_without_a_word_is_an_answer(scripted, way):
    service, upstream = scripted
    upstream.handler = stream(finish(), usage(3, 0), DONE)

    response = post(service, way)

    assert said(response) == ""
    assert recorded(service) == ("completed", None, "", (3, 0, False))


# U9: the connection ends in the middle of a chunk of the body.


@STREAMED
def test_u9_a_stream_cut_in_the_middle_of_a_chunk_ends_in_an_error_event(scripted, way):
    service, upstream = scripted

    async def half_a_chunk(connection):
        await connection.send(b"fff\r\ndata: {")
        await hang_up(connection)

    upstream.handler = stream(delta("one"), half_a_chunk, end=b"")

    response = post(service, way)

    assert broken_off(response) == ("one", failure("bad_upstream_response", way=way))
    assert recorded(service) == failed("bad_upstream_response", "one", (1, 1, True))


# U11: the connection breaks.


async def reset_at_open_end(connection):
    await connection.send(CLOSING_HEAD + delta("one ") + delta("two"))
    await reset(connection)


async def too_short(connection):
    await connection.send(SIZED_HEAD + delta("one ") + delta("two"))
    await hang_up(connection)


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        "handler",
        [
            pytest.param(stream(delta("one "), delta("two"), reset, end=b""), id="reset"),
            pytest.param(stream(delta("one "), delta("two"), hang_up, end=b""), id="closed inside a chunked body"),
            pytest.param(too_short, id="closed inside a sized body"),
        ],
    ),
)
def test_u11_a_stream_that_is_broken_off_ends_in_an_error_event(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert broken_off(response) == ("one two", failure("bad_upstream_response", way=way))
    assert recorded(service) == failed("bad_upstream_response", "one two", (1, 2, True))
    assert tried(service) == [("openai", "bad_upstream_response", None)]
    assert len(upstream.connections) == 1


@STREAMED
def test_u11_a_reset_body_of_unknown_length_is_a_truncated_stream(scripted, way):
    service, upstream = scripted
    upstream.handler = reset_at_open_end

    response = post(service, way)

    assert broken_off(response) == ("one two", failure("upstream_stream_truncated", way=way))
    assert recorded(service) == failed("upstream_stream_truncated", "one two", (1, 2, True))


@STREAMED
def test_u11_a_stream_whose_framing_breaks_ends_in_an_error_event(scripted, way):
    service, upstream = scripted

    async def break_framing(connection):
        await connection.send(b"zz\r\nnonsense")
        await connection.until_closed()

    upstream.handler = stream(delta("one "), delta("two"), PAUSE, break_framing, end=b"")

    response = post(service, way)

    assert broken_off(response) == ("one two", failure("bad_upstream_response", way=way))
    assert recorded(service) == failed("bad_upstream_response", "one two", (1, 2, True))
    service.eventually(lambda: upstream.connections[0].closed_after is not None)


def test_u11_bare_text_cannot_say_what_went_wrong_so_its_connection_is_cut(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("one "), delta("two"), hang_up, end=b"")
    received = []

    with (
        pytest.raises(httpx2.RemoteProtocolError),
        service.client.stream("POST", STREAMING, json={"question": "ping"}, headers={"accept": "text/plain"}) as answer,
    ):
        received.extend(answer.iter_text())

    assert "".join(received) == "one two"
    assert recorded(service) == failed("bad_upstream_response", "one two", (1, 2, True))


@STREAMED
def test_u11_a_stream_that_is_broken_off_before_its_first_word_is_refused_with_a_plain_error(scripted, way):
    service, upstream = scripted
    upstream.handler = stream(reset, end=b"")

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way)
    assert recorded(service) == failed("bad_upstream_response")
    assert tried(service) == [("openai", "bad_upstream_response", None)]
    assert len(upstream.connections) == 1


@WHOLE
def test_u11_a_whole_answer_that_is_broken_off_is_a_bad_answer(scripted, way):
    service, upstream = scripted

    async def half(connection):
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        await reset(connection)

    upstream.handler = half

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way)
    assert recorded(service) == failed("bad_upstream_response")
    assert tried(service) == [("openai", "bad_upstream_response", None)]
    assert len(upstream.connections) == 1


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        ("handler", "code"),
        [
            pytest.param(stream(ROLE, DONE), "upstream_stream_truncated", id="u10"),
            pytest.param(stream(ROLE, reset, end=b""), "bad_upstream_response", id="u11"),
        ],
    ),
)
def test_u10_u11_another_provider_takes_over_before_the_first_word(gateway, routed, way, handler, code):
    upstreams = routed("a", "b")
    upstreams["a"].handler = handler

    response = post(gateway, way)

    assert said(response) == "from b"
    assert tried(gateway) == [("a", code, None), ("b", "completed", None)]


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        ("handler", "code"),
        [
            pytest.param(stream(delta("one")), "upstream_stream_truncated", id="u10"),
            pytest.param(stream(delta("one"), reset, end=b""), "bad_upstream_response", id="u11"),
        ],
    ),
)
def test_u10_u11_nobody_takes_over_after_the_first_word(gateway, routed, way, handler, code):
    upstreams = routed("a", "b")
    upstreams["a"].handler = handler

    response = post(gateway, way)

    assert broken_off(response) == ("one", failure(code, way=way, provider="a"))
    assert tried(gateway) == [("a", code, None)]
    assert upstreams["b"].connections == []
