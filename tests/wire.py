"""HTTP on bare sockets: what a client can send, and what it sees, byte by byte."""

import json
import select
import socket
import struct
from typing import NamedTuple

from tests.service import KEY, read_all

HOST = "host: test"
AUTHORIZED = f"authorization: Bearer {KEY}"
POST = "POST /api/ask HTTP/1.1"
PING = b'{"question": "ping"}'
PING_LENGTH = f"content-length: {len(PING)}"
CHUNKED_PING = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PING), PING)

_ERROR_FIELDS = {
    "message",
    "type",
    "code",
    "param",
    "request_id",
    "source",
    "provider",
    "upstream_status",
    "retry_after",
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)

    def text(self) -> str:
        """The body of a chunked answer without the sizes of its chunks, as far as it came."""
        return _without_sizes(self.body).decode()


def head(*lines: str, body: bytes = b"") -> bytes:
    """A request line and headers as they are, and a body."""
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def answers(service, data: bytes, *, timeout: float = 10) -> list[Answer]:
    """Send bytes on a new connection; everything that the server says until it closes."""
    with service.raw(data, timeout=timeout) as connection:
        return parse(read_all(connection))


def parse(data: bytes) -> list[Answer]:
    """The answers that these bytes are; the last may be cut off."""
    found = []
    while data:
        lines, _, data = data.partition(b"\r\n\r\n")
        first, *fields = lines.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        status = int(first.split(" ")[1])
        size = _chunked_size(data) if "transfer-encoding" in headers else int(headers.get("content-length", 0))
        found.append(Answer(status, headers, data[:size]))
        data = data[size:]
    return found


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What comes, up to and with the packet in which `mark` is complete."""
    received = b""
    while mark not in received:
        block = connection.recv(65_536)
        assert block, f"closed after {received!r}"
        received += block
    return received


def refused(answer) -> tuple[int, str, str, str | None]:
    """Of an error in our envelope: status, code, source, param. Takes an `Answer`, or a response of an HTTP client."""
    status = answer.status if isinstance(answer, Answer) else answer.status_code
    error = answer.json()["error"]
    assert set(error) == _ERROR_FIELDS
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    return status, error["code"], error["source"], error["param"]


def says_something(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def unread(service, data: bytes) -> socket.socket:
    """A connection with a tiny window, on which a request was sent and nothing is read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", service.port))
    connection.sendall(data)
    return connection


def _chunked_size(data: bytes) -> int:
    """How long a chunked body is, with its sizes; as far as it came."""
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        at = end + 2 + size + 2
        if size == 0:
            return at
    return len(data)


def _without_sizes(data: bytes) -> bytes:
    text, at = b"", 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        text += data[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return text
