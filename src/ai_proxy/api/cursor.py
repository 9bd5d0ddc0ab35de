"""Where the next page of a list begins, as a client is given it: after an identifier, or after so many."""

import base64
import binascii
import struct
import zlib
from uuid import UUID

from ai_proxy.core.exceptions import BadRequest


def encode(identifier: UUID) -> str:
    return base64.urlsafe_b64encode(identifier.bytes).decode().rstrip("=")


def encode_text(identifier: str) -> str:
    return encode(UUID(identifier))


def decode(cursor: str) -> str:
    """The identifier. Raises `BadRequest` for what is no cursor."""
    try:
        return str(UUID(bytes=base64.b64decode(cursor.encode() + b"==", altchars=b"-_", validate=True)))
    except (ValueError, binascii.Error):
        raise _no_cursor() from None


def encode_offset(offset: int, query: object) -> str:
    """Of a list that is in no order of identifiers: how many there were before. It is good for this query only."""
    packed = _OFFSET.pack(offset, _digest(query))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_offset(cursor: str, query: object) -> int:
    """Raises `BadRequest` for what is no cursor, or one of another query."""
    try:
        offset, digest = _OFFSET.unpack(base64.b64decode(cursor.encode() + b"=", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, struct.error):
        raise _no_cursor() from None
    if digest != _digest(query):
        raise _no_cursor()
    return int(offset)


_OFFSET = struct.Struct(">II")


def _digest(query: object) -> int:
    return zlib.crc32(repr(query).encode())


def _no_cursor() -> BadRequest:
    message = "cursor: pass the next_cursor of another page of the same query, as it is."
    return BadRequest(message, param="cursor")
