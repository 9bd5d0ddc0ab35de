"""U9 to U13, U16, U27, U32: streams that break, and streams that only look as if they did."""

import asyncio
import json

import httpx2
import pytest

from tests.outcome import (
    ASK,
    STREAMING,
    broken_off,
    failed,
    failure,
    memory,
    post,
    recorded,
    refusal,
    seen,
    streamed,
)
from tests.upstream import DONE, END, STREAM_HEAD, Connection, completion, delta, event, finish, raw, stream, usage

MEGABYTE = 2**20
CLOSING_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
SIZED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\n"


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


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(stream(delta("one "), delta("two")), id="end of the body"),
        pytest.param(stream(delta("one "), delta("two"), DONE), id="DONE"),
        pytest.param(stream(delta("one "), delta("two"), usage(), DONE), id="usage and DONE"),
        pytest.param(raw(CLOSING_HEAD + delta("one ") + delta("two")), id="end of the connection"),
    ],
)
def test_u10_a_stream_that_ends_without_a_finish_reason_ends_in_an_error_event(scripted, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, STREAMING)

    assert broken_off(response) == ("one two", failure("upstream_stream_truncated"))
    status, error, answer, _ = recorded(service)
    assert (status, error, answer) == ("failed", "upstream_stream_truncated", "one two")
    assert len(upstream.connections) == 1


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(stream(), id="nothing at all"),
        pytest.param(stream(b": comment\n\n", event({"choices": []})), id="nothing that bears content"),
        pytest.param(stream(DONE), id="DONE alone"),
        pytest.param(stream(usage(), DONE), id="usage alone"),
    ],
)
def test_u10_a_stream_that_ends_before_its_first_word_is_refused_with_a_plain_error(scripted, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, STREAMING)

    assert seen(response) == refusal(502, "upstream_stream_truncated")
    assert recorded(service)[:3] == ("failed", "upstream_stream_truncated", "")


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(stream(delta("pong"), finish()), id="no DONE"),
        pytest.param(raw(CLOSING_HEAD + delta("pong") + finish()), id="end of the connection"),
        pytest.param(stream(delta("pong"), finish("length"), DONE), id="cut by the model's own limit"),
    ],
)
def test_u10_a_finished_answer_is_complete_however_its_stream_ends(scripted, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, STREAMING)

    assert streamed(response)[0] == "pong"
    assert recorded(service) == ("completed", None, "pong", (1, 1, True))


def test_u10_a_finished_answer_without_a_word_is_an_answer(scripted):
    service, upstream = scripted
    upstream.handler = stream(finish(), usage(3, 0), DONE)

    response = post(service, STREAMING)

    assert streamed(response)[0] == ""
    assert recorded(service) == ("completed", None, "", (3, 0, False))


# U9: the connection ends in the middle of a chunk of the body.


def test_u9_a_stream_cut_in_the_middle_of_a_chunk_ends_in_an_error_event(scripted):
    service, upstream = scripted

    async def half_a_chunk(connection):
        await connection.send(b"fff\r\ndata: {")
        await hang_up(connection)

    upstream.handler = stream(delta("one"), half_a_chunk, end=b"")

    response = post(service, STREAMING)

    assert broken_off(response) == ("one", failure("bad_upstream_response"))
    assert recorded(service) == failed("bad_upstream_response", "one", (1, 1, True))


# U11: the connection breaks.


async def reset_at_open_end(connection):
    await connection.send(CLOSING_HEAD + delta("one ") + delta("two"))
    await reset(connection)


async def too_short(connection):
    await connection.send(SIZED_HEAD + delta("one ") + delta("two"))
    await hang_up(connection)


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(stream(delta("one "), delta("two"), reset, end=b""), id="reset"),
        pytest.param(stream(delta("one "), delta("two"), hang_up, end=b""), id="closed inside a chunked body"),
        pytest.param(too_short, id="closed inside a sized body"),
    ],
)
def test_u11_a_stream_that_is_broken_off_ends_in_an_error_event(scripted, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, STREAMING)

    assert broken_off(response) == ("one two", failure("bad_upstream_response"))
    assert recorded(service) == failed("bad_upstream_response", "one two", (1, 2, True))
    assert len(upstream.connections) == 1


def test_u11_a_reset_body_of_unknown_length_is_a_truncated_stream(scripted):
    service, upstream = scripted
    upstream.handler = reset_at_open_end

    response = post(service, STREAMING)

    assert broken_off(response) == ("one two", failure("upstream_stream_truncated"))
    assert recorded(service) == failed("upstream_stream_truncated", "one two", (1, 2, True))


def test_u11_a_stream_whose_framing_breaks_ends_in_an_error_event(scripted):
    service, upstream = scripted

    async def break_framing(connection):
        await connection.send(b"zz\r\nnonsense")
        await connection.until_closed()

    upstream.handler = stream(delta("one "), delta("two"), PAUSE, break_framing, end=b"")

    response = post(service, STREAMING)

    assert broken_off(response) == ("one two", failure("bad_upstream_response"))
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


def test_u11_a_stream_that_is_broken_off_before_its_first_word_is_refused_with_a_plain_error(scripted):
    service, upstream = scripted
    upstream.handler = stream(reset, end=b"")

    response = post(service, STREAMING)

    assert seen(response) == refusal(502, "bad_upstream_response")
    assert recorded(service) == failed("bad_upstream_response")
    assert len(upstream.connections) == 1


def test_u11_a_whole_answer_that_is_broken_off_is_a_bad_answer(scripted):
    service, upstream = scripted

    async def half(connection):
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        await reset(connection)

    upstream.handler = half

    response = post(service, ASK)

    assert seen(response) == refusal(502, "bad_upstream_response")
    assert recorded(service) == failed("bad_upstream_response")
    assert len(upstream.connections) == 1


# U12: odd, but good streams.


def plain(text: str) -> bytes:
    """A delta in UTF-8, where `delta` escapes what is not ASCII."""
    return b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % text.encode()


HELLO = plain("Grüße, ") + plain("世界 😀") + finish() + usage() + DONE


async def byte_by_byte(connection):
    await connection.send(STREAM_HEAD)
    for position in range(len(HELLO)):
        await connection.chunk(HELLO[position : position + 1])
    await connection.send(END)


def multi_line(data: bytes) -> bytes:
    """The same events, their JSON spread over `data` lines."""
    return data.replace(b'"choices": ', b'\ndata: "choices":\ndata:')


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(stream(HELLO), id="as it should be"),
        pytest.param(stream(HELLO.replace(b"\n", b"\r\n")), id="CRLF"),
        pytest.param(stream(HELLO.replace(b"\n", b"\r")), id="CR"),
        pytest.param(stream(HELLO.replace(b"\n\n", b"\r\n\n")), id="mixed"),
        pytest.param(stream(HELLO.replace(b"data: ", b"data:")), id="no space after data"),
        pytest.param(stream(HELLO.replace(b"data: ", b"id: 5\nevent: x\nretry: 9\ndata: ")), id="other fields"),
        pytest.param(
            stream(b": hi\n\n:\n\n" + HELLO.replace(b"data", b": OPENROUTER PROCESSING\n\ndata")), id="comments"
        ),
        pytest.param(stream(b"\xef\xbb\xbf" + HELLO), id="byte order mark"),
        pytest.param(stream(multi_line(HELLO)), id="data of many lines"),
        pytest.param(stream(HELLO.removesuffix(DONE).rstrip()), id="no blank line at the end"),
        pytest.param(byte_by_byte, id="byte by byte"),
        pytest.param(stream(HELLO, b"data: this is read by nobody\n\n"), id="something after DONE"),
    ],
)
def test_u12_a_stream_is_read_however_it_is_written(scripted, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, STREAMING)

    text, done = streamed(response)
    assert text == "Grüße, 世界 😀"
    assert done["usage"] == {"input_tokens": 3, "output_tokens": 4, "estimated": False}
    assert recorded(service) == ("completed", None, text, (3, 4, False))


def test_u12_nothing_is_waited_for_after_done(scripted):
    service, upstream = scripted
    upstream.handler = stream(HELLO, Connection.until_closed, end=b"")

    text, _ = streamed(post(service, STREAMING))

    assert text == "Grüße, 世界 😀"
    service.eventually(lambda: upstream.connections[0].closed_after is not None)
    assert upstream.connections[0].closed_after < 0.4


def test_u12_a_stream_that_was_read_to_its_end_leaves_a_connection_to_use_again(scripted):
    service, upstream = scripted
    upstream.handler = stream(HELLO)
    post(service, STREAMING)
    accepted = upstream.accepted

    post(service, STREAMING)

    assert upstream.accepted == accepted


# U13: an event that is not a chunk.

NO_CHUNKS = pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"data: {oops\n\n", id="not JSON"),
        pytest.param(b"data:\n\n", id="empty"),
        pytest.param(b"data: 5\n\n", id="a number"),
        pytest.param(b"data: [1]\n\n", id="a list"),
        pytest.param(b'data: {"choices": {}}\n\n', id="choices of another shape"),
        pytest.param(b'data: {"choices": [{"delta": {"content": 5}}]}\n\n', id="a number for text"),
        pytest.param(b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', id="not UTF-8"),
        pytest.param(b'data: {"choices": ' + b"[" * 100_000 + b"\n\n", id="deep nesting"),
    ],
)


@NO_CHUNKS
def test_u13_a_broken_chunk_ends_the_stream_in_an_error_event(scripted, data):
    service, upstream = scripted
    upstream.handler = stream(delta("one"), data, delta("two"), finish(), DONE)

    response = post(service, STREAMING)

    assert broken_off(response) == ("one", failure("bad_upstream_response", upstream_status=200))
    assert recorded(service) == failed("bad_upstream_response", "one", (1, 1, True))


@NO_CHUNKS
def test_u13_a_broken_first_chunk_is_refused_with_a_plain_error(scripted, data):
    service, upstream = scripted
    upstream.handler = stream(data, delta("two"), finish(), DONE)

    response = post(service, STREAMING)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=200)
    assert recorded(service) == failed("bad_upstream_response")


# U16: an error in the stream.

FAULTS = pytest.mark.parametrize(
    ("fault", "status", "code", "upstream_status", "retry_after"),
    [
        pytest.param({"error": {"message": "no", "type": "server_error"}}, 502, "bad_upstream_response", 200, None),
        pytest.param({"error": "no"}, 502, "bad_upstream_response", 200, None),
        pytest.param({"error": {"code": 429, "message": "no"}}, 429, "upstream_rate_limited", 429, None),
        pytest.param({"error": {"code": 503, "message": "no"}}, 503, "upstream_overloaded", 503, 5),
        pytest.param({"error": {"code": 400, "message": "no"}}, 400, "upstream_rejected", 400, None),
        pytest.param(
            {"error": {"code": 502, "message": "no"}, "choices": [{"delta": {}, "finish_reason": "error"}]},
            *(502, "bad_upstream_response", 502, None),
        ),
        pytest.param(
            {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
            *(502, "bad_upstream_response", 200, None),
        ),
    ],
)


@FAULTS
def test_u16_an_error_in_the_middle_becomes_the_error_event(
    scripted, fault, status, code, upstream_status, retry_after
):
    service, upstream = scripted
    upstream.handler = stream(delta("one "), delta("two"), event(fault), DONE)

    response = post(service, STREAMING)

    assert broken_off(response) == ("one two", failure(code, upstream_status=upstream_status, retry_after=retry_after))
    assert recorded(service) == failed(code, "one two", (1, 2, True))


@FAULTS
def test_u16_an_error_before_the_first_word_is_a_plain_error(
    scripted, fault, status, code, upstream_status, retry_after
):
    service, upstream = scripted
    upstream.handler = stream(event(fault), DONE)

    response = post(service, STREAMING)

    told = seen(response)
    expected = refusal(status, code, upstream_status=upstream_status, retry_after=retry_after)
    assert {**told, "retry_after": expected["retry_after"]} == expected
    assert told["retry_after"] == retry_after
    assert recorded(service) == failed(code)


def test_u16_the_account_that_runs_empty_in_the_middle_is_told_as_such(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("one"), event({"error": {"code": 402, "message": "no"}}))

    response = post(service, STREAMING)

    assert broken_off(response) == ("one", failure("provider_quota", upstream_status=402))


# U27: too much. The limit is a million bytes here.


def flood(first: bytes, block: bytes, *, megabytes: int, sent: list[int]):
    async def handle(connection):
        sent.append(0)
        await connection.send(STREAM_HEAD)
        await connection.chunk(first)
        while sent[-1] < megabytes * MEGABYTE:
            await connection.chunk(block)
            sent[-1] += len(block)

    return handle


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b" " * 2**16, id="one endless line"),
        pytest.param(b"data: \n" * 2**13, id="one event of endless lines"),
        pytest.param(b": ping\n\n" * 2**13, id="endless comments"),
    ],
)
def test_u27_a_stream_is_cut_at_the_limit_and_costs_no_memory(scripted, block):
    service, upstream = scripted
    sent = []
    upstream.handler = flood(delta("one"), block, megabytes=50, sent=sent)
    before = memory(service, "VmRSS")

    response = post(service, STREAMING)

    assert broken_off(response) == ("one", failure("bad_upstream_response"))
    assert sent[0] < 10 * MEGABYTE
    assert memory(service, "VmHWM") - before < 16 * MEGABYTE
    assert recorded(service) == failed("bad_upstream_response", "one", (1, 1, True))


def test_u27_a_flood_of_tiny_events_is_passed_on_up_to_the_limit(scripted):
    service, upstream = scripted
    tiny = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    sent = []
    upstream.handler = flood(tiny, tiny * 1000, megabytes=50, sent=sent)
    before = memory(service, "VmRSS")

    response = post(service, STREAMING)

    text, error = broken_off(response)
    assert error == failure("bad_upstream_response")
    assert 15_000 < len(text) <= 1_000_000 // len(tiny)
    assert recorded(service)[2] == text
    assert memory(service, "VmHWM") - before < 32 * MEGABYTE


# U32: the provider's count of tokens.

NO_COUNTS = pytest.mark.parametrize(
    "count",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="empty"),
        pytest.param("many", id="text"),
        pytest.param([3, 4], id="a list"),
        pytest.param({"prompt_tokens": 3}, id="half"),
        pytest.param({"prompt_tokens": -3, "completion_tokens": 4}, id="negative"),
        pytest.param({"prompt_tokens": 3, "completion_tokens": -1}, id="negative output"),
        pytest.param({"prompt_tokens": 3.5, "completion_tokens": 4}, id="a fraction"),
        pytest.param({"prompt_tokens": "3", "completion_tokens": "4"}, id="numbers as text"),
        pytest.param({"prompt_tokens": True, "completion_tokens": 4}, id="a truth value"),
        pytest.param({"prompt_tokens": 2**63, "completion_tokens": 4}, id="more than a database can hold"),
        pytest.param({"prompt_tokens": 3, "completion_tokens": 10**30}, id="huge"),
    ],
)


@NO_COUNTS
def test_u32_an_answer_with_a_nonsensical_count_is_whole_and_its_tokens_are_estimated(scripted, count):
    service, upstream = scripted
    upstream.handler = completion("pong pong", usage=count)

    answer = post(service, ASK).json()

    assert answer["answer"] == "pong pong"
    assert answer["usage"] == {"input_tokens": 1, "output_tokens": 3, "estimated": True}
    assert recorded(service) == ("completed", None, "pong pong", (1, 3, True))


@NO_COUNTS
def test_u32_a_stream_with_a_nonsensical_count_is_whole_and_its_tokens_are_estimated(scripted, count):
    service, upstream = scripted
    upstream.handler = stream(delta("pong pong"), finish(), event({"choices": [], "usage": count}), DONE)

    text, done = streamed(post(service, STREAMING))

    assert text == "pong pong"
    assert done["usage"] == {"input_tokens": 1, "output_tokens": 3, "estimated": True}
    assert recorded(service) == ("completed", None, "pong pong", (1, 3, True))


def test_u32_an_answer_without_a_count_is_estimated(scripted):
    service, upstream = scripted
    body = json.dumps({"choices": [{"message": {"content": "pong"}}]}).encode()
    upstream.handler = raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    answer = post(service, ASK, question="12345").json()

    assert answer["usage"] == {"input_tokens": 2, "output_tokens": 1, "estimated": True}


@pytest.mark.parametrize(
    ("parts", "counted"),
    [
        pytest.param([delta("pong"), finish(), DONE], (1, 1, True), id="missing"),
        pytest.param([delta("pong"), finish(), usage(3, 1), usage(3, 4), DONE], (3, 4, False), id="twice"),
        pytest.param([delta("pong"), usage(3, 4), finish(), DONE], (3, 4, False), id="before the finish"),
        pytest.param([usage(3, 0), delta("pong"), usage(3, 4), finish(), DONE], (3, 4, False), id="with every chunk"),
        pytest.param([delta("pong"), finish(), usage(3, 4), usage(-1, -1), DONE], (3, 4, False), id="then nonsense"),
        pytest.param([delta("pong"), finish(), DONE, usage(3, 4)], (1, 1, True), id="after DONE"),
        pytest.param([delta("pong"), finish(), usage(0, 0), DONE], (0, 0, False), id="zero is a count"),
    ],
)
def test_u32_the_last_count_before_done_is_taken(scripted, parts, counted):
    service, upstream = scripted
    upstream.handler = stream(*parts)

    text, done = streamed(post(service, STREAMING))

    assert text == "pong"
    assert tuple(done["usage"].values()) == counted
    assert recorded(service) == ("completed", None, "pong", counted)


def test_u32_a_stream_is_asked_to_count_its_tokens(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("pong"), finish(), usage(), DONE)

    post(service, STREAMING)

    assert upstream.connections[0].json["stream_options"] == {"include_usage": True}
