"""Server-sent events, against a decoder written from the standard's text."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ai_proxy.providers.sse import EventSplitter


def split(*blocks: bytes) -> list[bytes]:
    """All that the splitter gives back for a stream in these blocks."""
    splitter = EventSplitter()
    return [data for block in blocks for data in splitter.feed(block)] + splitter.close()


def reference(stream: bytes) -> list[str]:
    """The data of the events of a stream, line by line as section 9.2.6 of the standard has it.

    But for its end: an event that is cut off before its blank line counts too.
    """
    text = stream.decode(errors="replace").removeprefix("\ufeff")
    events, data, found = [], "", False
    for line in [*re.split("\r\n|\r|\n", text), ""]:
        field, _, value = line.partition(":")
        if not line:
            if found:
                events.append(data.removesuffix("\n"))
            data, found = "", False
        elif field == "data":
            data += value.removeprefix(" ") + "\n"
            found = True
    return events


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in blocks that begin at these places, wrapped around its length."""
    ends = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(ends)]


# Streams that come close to the format: its own lines with ends of all kinds, and anything between.
LINES = (
    "data",
    "data:",
    "data: 1",
    "data:  2",
    "data : x",
    "event: x",
    "id: 5",
    ": comment",
    ":",
    " ",
    "",
    "",
    "data: 世界 😀",
)
ENDS = ("\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\n\r", "")
PIECES = st.tuples(st.sampled_from(LINES) | st.text(max_size=3), st.sampled_from(ENDS)).map("".join)
STREAMS = (
    st.tuples(st.sampled_from(["", "\ufeff"]), st.lists(PIECES, max_size=20).map("".join)).map("".join).map(str.encode)
)
CUTS = st.lists(st.integers(0, 1000), max_size=10)


@given(STREAMS)
def test_gives_what_the_standard_says(stream):
    assert [data.decode() for data in split(stream)] == reference(stream)


@given(STREAMS, CUTS)
@example(b"data: 1\r\n\r\ndata: 2\r\n\r\n", [8, 9, 10])
@example(b"data: 1\r\rdata: 2\r\r", [8, 9])
@example("data: 😀\n\n".encode(), [7, 8, 9])
@example(b"\xef\xbb\xbfdata: 1\n\n", [1, 2])
def test_the_way_a_stream_is_cut_makes_no_difference(stream, places):
    assert split(*cut(stream, places)) == split(stream)


@given(st.binary(max_size=100), CUTS)
def test_bytes_that_are_no_text_are_passed_on(noise, places):
    stream = b"data: 1\n\ndata: " + noise + b"\n\ndata: 2\n\n"

    events = split(*cut(stream, places))

    assert [data.decode(errors="replace") for data in events] == reference(stream)


@given(STREAMS)
@example(b"data: 1\r\ndata: 2\r\n\r\n")
@example(b"data: 1\r\n\ndata: 2\n\n")
def test_byte_by_byte_is_the_same(stream):
    assert split(*(stream[place : place + 1] for place in range(len(stream)))) == split(stream)


@given(st.lists(st.text(), min_size=1, max_size=5), st.sampled_from(["\n", "\r", "\r\n"]))
def test_what_was_written_is_read(texts, line_end):
    texts = [re.sub("\r\n|\r", "\n", text) for text in texts]
    stream = "".join(
        "".join(f"data: {line}{line_end}" for line in text.split("\n")) + line_end for text in texts
    ).encode()

    assert [data.decode() for data in split(stream)] == texts


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"data: 1\n\n", [b"1"], id="one event"),
        pytest.param(b"data: 1\n\ndata: 2\n\n", [b"1", b"2"], id="two events"),
        pytest.param(b"data:1\n\n", [b"1"], id="no space"),
        pytest.param(b"data:  1\n\n", [b" 1"], id="only the first space goes"),
        pytest.param(b"data: 1\ndata: 2\n\n", [b"1\n2"], id="two lines"),
        pytest.param(b"data\n\n", [b""], id="no colon"),
        pytest.param(b"data:\n\n", [b""], id="no value"),
        pytest.param(b"data\ndata\n\n", [b"\n"], id="two lines without a value"),
        pytest.param(b": hi\n\n", [], id="a comment"),
        pytest.param(b": hi\ndata: 1\n: ho\n\n", [b"1"], id="comments around"),
        pytest.param(b"id: 1\nevent: x\nretry: 5\n\n", [], id="no data"),
        pytest.param(b"event: x\ndata: 1\nid: 1\n\n", [b"1"], id="other fields"),
        pytest.param(b"database: 1\n\n", [], id="a field that only begins with data"),
        pytest.param(b" data: 1\n\n", [], id="a space before"),
        pytest.param(b"\n\n\ndata: 1\n\n\n\n", [b"1"], id="blank lines around"),
        pytest.param(b"data: a: b\n\n", [b"a: b"], id="a colon in the value"),
        pytest.param(b"\xef\xbb\xbfdata: 1\n\n", [b"1"], id="a mark at the beginning"),
        pytest.param(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [b"1"], id="a mark elsewhere"),
        pytest.param(b"\xef\xbb", [], id="half a mark"),
        pytest.param(b"data: 1", [b"1"], id="cut off in its line"),
        pytest.param(b"data: 1\n", [b"1"], id="cut off before its blank line"),
        pytest.param(b"data: 1\r", [b"1"], id="cut off in a line end"),
    ],
)
def test_cases_from_the_standard_and_from_life(stream, events):
    assert split(stream) == events


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_given_as_soon_as_its_blank_line_is_there(line_end):
    splitter = EventSplitter()

    before = splitter.feed(b"data: 1" + line_end)
    after = splitter.feed(line_end)

    assert (before, after) == ([], [b"1"])


def test_nothing_is_given_twice():
    splitter = EventSplitter()
    splitter.feed(b"data: 1\n\ndata: 2")

    assert splitter.close() == [b"2"]
    assert splitter.close() == []
