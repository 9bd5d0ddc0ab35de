"""Amazon's event streams, taken apart: the packing of the specification, damage, and any split."""

import struct
from binascii import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.providers.aws_events import BrokenStream, Message, MessageSplitter
from tests.eventstream import packed, with_headers

EMPTY = bytes.fromhex("00000010 00000000 05c248eb 7d98c8ff")
BARE = bytes.fromhex("0000001d 00000000 fd528c5a") + b"{'foo':'bar'}" + bytes.fromhex("c3653936")
TYPED = (
    bytes.fromhex("0000003d 00000020 07fd8396")
    + b"\x0ccontent-type\x07\x00\x10application/json{'foo':'bar'}"
    + bytes.fromhex("8d9c08b1")
)
MESSAGES = st.builds(
    Message, st.dictionaries(st.text(max_size=9), st.text(max_size=20), max_size=3), st.binary(max_size=50)
)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (EMPTY, Message({}, b"")),
        (BARE, Message({}, b"{'foo':'bar'}")),
        (TYPED, Message({"content-type": "application/json"}, b"{'foo':'bar'}")),
    ],
)
def test_messages_are_unpacked(data, message):
    assert MessageSplitter().feed(data) == [message]


def test_headers_that_are_no_texts_are_passed_over():
    headers = b"".join(
        (
            b"\x01a\x00",
            b"\x01b\x01",
            b"\x01c\x02" + b"x",
            b"\x01d\x03" + b"xx",
            b"\x01e\x04" + b"xxxx",
            b"\x01f\x05" + b"xxxxxxxx",
            b"\x01g\x06\x00\x03" + b"xxx",
            b"\x01h\x07\x00\x02" + b"hi",
            b"\x01i\x08" + b"xxxxxxxx",
            b"\x01j\x09" + b"xxxxxxxxxxxxxxxx",
        )
    )

    assert MessageSplitter().feed(with_headers(headers)) == [Message({"h": "hi"}, b"")]


@given(st.lists(MESSAGES, max_size=4), st.integers(1, 40))
def test_any_split_of_a_stream_gives_the_same_messages(messages, size):
    splitter = MessageSplitter()
    stream = b"".join(packed(message.headers, message.payload) for message in messages)

    read = [message for block in split(stream, size) for message in splitter.feed(block)]

    assert read == messages


def test_a_message_that_was_cut_off_is_not_given_back():
    assert MessageSplitter().feed(TYPED + BARE[:-1]) == [
        Message({"content-type": "application/json"}, b"{'foo':'bar'}")
    ]


@pytest.mark.parametrize("at", range(len(TYPED)))
def test_damage_is_noticed_wherever_it_is(at):
    damaged = bytearray(TYPED)
    damaged[at] ^= 1

    with pytest.raises(BrokenStream):
        MessageSplitter().feed(bytes(damaged))


def test_a_length_beyond_all_measure_is_refused_at_once():
    prelude = struct.pack(">II", 2**31, 0)

    with pytest.raises(BrokenStream):
        MessageSplitter().feed(prelude + struct.pack(">I", crc32(prelude)))


@pytest.mark.parametrize(
    "headers", [b"\x05a", b"\x01a\x07\x00\x09x", b"\x01a\x07\x00\x01\xff", b"\x01a\x63", b"\x01a\x07"]
)
def test_headers_that_make_no_sense_are_refused(headers):
    with pytest.raises(BrokenStream):
        MessageSplitter().feed(with_headers(headers))


@given(st.binary(max_size=60))
def test_any_bytes_are_messages_or_refused(data):
    try:
        messages = MessageSplitter().feed(data)
    except BrokenStream:
        return
    assert all(isinstance(message, Message) for message in messages)


@pytest.fixture(scope="module")
def amazons():
    return pytest.importorskip("botocore.eventstream", reason="comes with the extra bedrock")


@given(messages=st.lists(MESSAGES, max_size=4))
def test_the_packing_is_what_amazons_own_library_reads(amazons, messages):
    buffer = amazons.EventStreamBuffer()

    buffer.add_data(b"".join(packed(message.headers, message.payload) for message in messages))

    assert [Message(read.headers, read.payload) for read in buffer] == messages
