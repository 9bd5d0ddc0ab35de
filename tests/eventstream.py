"""Packs messages as Amazon's event streams have them: https://smithy.io/2.0/aws/amazon-eventstream.html"""

import json
import struct
from binascii import crc32


def packed(headers: dict[str, str], payload: bytes) -> bytes:
    block = b"".join(
        bytes([len(name.encode())]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    return with_headers(block, payload)


def with_headers(block: bytes, payload: bytes = b"") -> bytes:
    """A message whose headers are packed already."""
    prelude = struct.pack(">II", len(block) + len(payload) + 16, len(block))
    message = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    return message + struct.pack(">I", crc32(message))


def event(body: dict) -> bytes:
    """One event of a ConverseStream, or an exception in place of one: `{name: body}`."""
    ((name, inner),) = body.items()
    kind = "exception" if name.endswith("Exception") else "event"
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    return packed(headers, json.dumps(inner).encode())
