"""U12, U13: streams that are written in an odd way, and events that are no part of an answer."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.outcome import (
    CHAT,
    STREAMED,
    Way,
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
from tests.upstream import DONE, END, STREAM_HEAD, Connection, delta, finish, stream, usage

TEXT = "Grüße, 世界 😀"
STREAMED_CHAT = Way(CHAT, stream=True)
COUNTED = {"stream_options": {"include_usage": True}}


# U12: odd, but good streams.


def plain(text: str) -> bytes:
    """A delta in UTF-8, where `delta` escapes what is not ASCII."""
    return b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % text.encode()


HELLO = plain(TEXT[:7]) + plain(TEXT[7:]) + finish() + usage() + DONE


async def byte_by_byte(connection):
    await connection.send(STREAM_HEAD)
    for position in range(len(HELLO)):
        await connection.chunk(HELLO[position : position + 1])
    await connection.send(END)


def multi_line(data: bytes) -> bytes:
    """The same events, their JSON spread over `data` lines."""
    return data.replace(b'"choices": ', b'\ndata: "choices":\ndata:')


@sampled(
    STREAMED,
    pytest.mark.parametrize(
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
    ),
)
def test_u12_a_stream_is_read_however_it_is_written(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert said(response) == TEXT
    assert recorded(service) == ("completed", None, TEXT, (3, 4, False))


@STREAMED
def test_u12_nothing_is_waited_for_after_done(scripted, way):
    service, upstream = scripted
    upstream.handler = stream(HELLO, Connection.until_closed, end=b"")

    response = post(service, way)

    assert said(response) == TEXT
    service.eventually(lambda: upstream.connections[0].closed_after is not None)
    assert upstream.connections[0].closed_after < 1


@STREAMED
def test_u12_a_stream_that_was_read_to_its_end_leaves_a_connection_to_use_again(scripted, way):
    service, upstream = scripted
    upstream.handler = stream(HELLO)
    post(service, way)
    accepted = upstream.accepted

    post(service, way)

    assert upstream.accepted == accepted


async def cut_as_asked(connection: Connection) -> None:
    """Sends the stream in two packets. The question says where it is cut, and which bytes end its lines."""
    position, line_end = connection.json["messages"][-1]["content"].split()
    data = HELLO.replace(b"\n", LINE_ENDS[line_end])
    await connection.send(STREAM_HEAD)
    await connection.chunk(data[: int(position)])
    await asyncio.sleep(0.02)
    await connection.chunk(data[int(position) :])
    await connection.send(END)


LINE_ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_u12_wherever_a_stream_is_cut_the_same_bytes_are_passed_on(scripted, line_end):
    service, upstream = scripted
    upstream.handler = cut_as_asked
    positions = range(1, len(HELLO.replace(b"\n", LINE_ENDS[line_end])))

    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(post, service, STREAMED_CHAT, f"{at} {line_end}", **COUNTED) for at in positions]

    assert {call.result().content for call in calls} == {HELLO}


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


@sampled(STREAMED, NO_CHUNKS)
def test_u13_a_broken_chunk_ends_the_stream_in_an_error_event(scripted, way, data):
    service, upstream = scripted
    upstream.handler = stream(delta("one"), data, delta("two"), finish(), DONE)

    response = post(service, way)

    assert broken_off(response) == ("one", failure("bad_upstream_response", way=way, upstream_status=200))
    assert recorded(service) == failed("bad_upstream_response", "one", (1, 1, True))
    assert tried(service) == [("openai", "bad_upstream_response", 200)]


@sampled(STREAMED, NO_CHUNKS)
def test_u13_a_broken_first_chunk_is_refused_with_a_plain_error(scripted, way, data):
    service, upstream = scripted
    upstream.handler = stream(data, delta("two"), finish(), DONE)

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way, upstream_status=200)
    assert recorded(service) == failed("bad_upstream_response")
