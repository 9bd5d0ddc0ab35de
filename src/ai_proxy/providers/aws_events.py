"""Amazon's event streams, as they come in: bytes cut anywhere become whole messages, checked against their CRCs.

Our own, so that a Bedrock API key needs no package of Amazon's.
Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
from binascii import crc32
from typing import NamedTuple

_PRELUDE = struct.Struct(">III")  # length of the message, length of its headers, CRC of those two
_CRC = struct.Struct(">I")
_LEAST = _PRELUDE.size + _CRC.size
_LARGEST = 24 * 2**20
_MOST_HEADERS = 128 * 2**10

_STRING = 7
_LENGTH = struct.Struct(">H")
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # of values by type; 6 (bytes) and 7 tell theirs


class BrokenStream(ValueError):
    """What came in is no such stream, or was damaged on its way."""


class Message(NamedTuple):
    """Headers that are no texts are left out."""

    headers: dict[str, str]
    payload: bytes


class MessageSplitter:
    """Feed it blocks of bytes; it gives back the messages that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, block: bytes) -> list[Message]:
        """Raises `BrokenStream`."""
        self._buffer += block
        messages = []
        while (length := self._length()) and len(self._buffer) >= length:
            messages.append(_message(bytes(self._buffer[:length])))
            del self._buffer[:length]
        return messages

    def _length(self) -> int:
        """Of the message at the beginning; 0 while too little of it is there. Checked before anything is kept of it."""
        if len(self._buffer) < _PRELUDE.size:
            return 0
        length, headers, checksum = _PRELUDE.unpack_from(self._buffer)
        if crc32(self._buffer[: _PRELUDE.size - _CRC.size]) != checksum:
            raise BrokenStream
        if not (_LEAST + headers <= length <= _LARGEST and headers <= _MOST_HEADERS):
            raise BrokenStream
        return int(length)


def _message(data: bytes) -> Message:
    end = len(data) - _CRC.size
    if crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise BrokenStream
    body = _PRELUDE.size + _PRELUDE.unpack_from(data)[1]
    return Message(_headers(data[_PRELUDE.size : body]), data[body:end])


def _headers(data: bytes) -> dict[str, str]:
    headers = {}
    at = 0
    try:
        while at < len(data):
            name, kind, at = _name(data, at)
            size = _SIZES.get(kind)
            if size is None:
                (size,) = _LENGTH.unpack_from(data, at)
                at += _LENGTH.size
            value, at = data[at : at + size], at + size
            if kind == _STRING:
                headers[name] = value.decode()
    except (struct.error, IndexError, UnicodeDecodeError):
        raise BrokenStream from None
    if at != len(data):
        raise BrokenStream
    return headers


def _name(data: bytes, at: int) -> tuple[str, int, int]:
    """A header's name, the type of its value, and where that begins."""
    end = at + 1 + data[at]
    return data[at + 1 : end].decode(), data[end], end + 1
