"""C1 to C4: clients that are slow, or that do not read."""

import json
import socket
import statistics
import time
from pathlib import Path

from tests.ledger import count, rows
from tests.outcome import STREAMING, memory, recorded
from tests.service import http_request, read_all
from tests.upstream import DONE, delta, finish, stream, usage
from tests.wire import (
    AUTHORIZED,
    HOST,
    PING,
    PING_LENGTH,
    POST,
    head,
    parse,
    read_until,
    refused,
    says_something,
    unread,
)

MEGABYTE = 2**20


def drip(connection: socket.socket, *, seconds: float) -> bytes:
    """Send a byte every tenth of a second, until the server says something; all that it says."""
    give_up = time.monotonic() + seconds
    while not says_something(connection):
        assert time.monotonic() < give_up, "it had patience"
        connection.send(b"a")
        time.sleep(0.1)
    return read_all(connection)


def established(service) -> int:
    """Connections that the server has not closed."""
    lines = Path(f"/proc/{service.process.pid}/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{service.port:04X}") and line.split()[3] == "01" for line in lines)


def test_c1_slow_headers_end_with_408_and_nobody_else_notices(hasty):
    service, _ = hasty
    slow = [service.raw(b"GET /livez HTTP/1.1\r\nx: ") for _ in range(200)]

    latencies = []
    for _ in range(10):
        for connection in slow:
            connection.send(b"a")
        began = time.monotonic()
        assert service.ask().status_code == 200
        latencies.append(time.monotonic() - began)
    received = [read_all(connection) for connection in slow]

    assert {refused(parse(data)[0]) for data in received} == {(408, "request_timeout", "client", None)}
    assert statistics.median(latencies) < 0.1
    for connection in slow:
        connection.close()


def test_c1_headers_that_drip_on_a_used_connection_end_with_408(hasty):
    service, _ = hasty
    connection = service.raw(head("GET /livez HTTP/1.1", HOST))
    read_until(connection, b'{"status":"ok"}')

    began = time.monotonic()
    connection.send(b"GET /livez HTTP/1.1\r\nx: ")
    received = drip(connection, seconds=5)

    assert refused(parse(received)[0]) == (408, "request_timeout", "client", None)
    assert time.monotonic() - began < 4
    connection.close()


def test_c2_a_connection_without_a_request_is_closed(hasty):
    service, _ = hasty
    connection = service.raw()

    began = time.monotonic()
    received = read_all(connection)

    assert received == b""
    assert time.monotonic() - began < 4
    connection.close()


def test_c2_empty_lines_do_not_keep_a_connection_open(hasty):
    service, _ = hasty
    connection = service.raw(head("GET /livez HTTP/1.1", HOST))
    read_until(connection, b'{"status":"ok"}')

    began = time.monotonic()
    connection.send(b"\r\n")
    received = read_all(connection)

    assert received == b""
    assert time.monotonic() - began < 4
    connection.close()


def test_c3_a_slow_body_ends_with_408(hasty):
    service, upstream = hasty
    before = count(service)
    connection = service.raw(head(POST, HOST, AUTHORIZED, "content-length: 1000"))

    (answer,) = parse(drip(connection, seconds=5))

    assert refused(answer) == (408, "request_timeout", "client", None)
    assert answer.headers["connection"] == "close"
    assert (upstream.connections, count(service)) == ([], before)
    connection.close()


def test_c3_a_slow_body_after_its_answer_does_not_keep_the_connection_open(hasty):
    service, _ = hasty
    connection = service.raw(head(POST, HOST, "authorization: Bearer wrong", "content-length: 1000"))

    received = read_until(connection, b'"retry_after":null}}')
    rest = drip(connection, seconds=6)

    assert refused(parse(received)[0]) == (401, "invalid_api_key", "client", None)
    assert rest == b""
    connection.close()


def test_c3_a_body_that_comes_after_its_answer_spoils_nothing(hasty):
    service, _ = hasty
    connection = service.raw(head(POST, HOST, "authorization: Bearer wrong", PING_LENGTH))

    first = read_until(connection, b'"retry_after":null}}')
    connection.sendall(PING + http_request(PING, headers="connection: close\r\n"))
    second = read_all(connection)

    assert refused(parse(first)[0]) == (401, "invalid_api_key", "client", None)
    assert [answer.status for answer in parse(second)] == [200]
    connection.close()


def test_c4_a_stream_that_is_not_read_stops_the_provider_and_is_cut(hasty):
    service, upstream = hasty
    sent = []

    async def endless(connection):
        await stream(end=b"")(connection)
        for _ in range(2000):
            await connection.chunk(delta("x" * 50_000))
            sent.append(50_000)

    upstream.handler = endless
    before = memory(service, "VmRSS")
    connection = unread(service, http_request(b'{"question": "unread"}', path=STREAMING))

    service.eventually(lambda: rows(service, "unread"), seconds=8)

    status, error, answer, usage = recorded(service)
    assert (status, error) == ("cancelled", "client_gone")
    assert set(answer) == {"x"}
    assert usage == (2, len(answer) / 4, True)
    assert sum(sent) < 20 * MEGABYTE
    assert memory(service, "VmRSS") - before < 30 * MEGABYTE
    service.eventually(lambda: upstream.open == 0)
    connection.close()


def test_c4_the_end_of_an_answer_that_is_not_read_is_thrown_away(hasty, start):
    """However much of it the kernel takes: what is left may be too little to count as back-pressure."""
    _, upstream = hasty
    service = start(
        OPENAI_API_KEY="sk-key",
        OPENAI_BASE_URL=upstream.url,
        AI_PROXY_SERVER__WRITE_TIMEOUT=1,
        AI_PROXY_LOG_LEVEL="warning",
    )

    async def answer(connection):
        length = int(connection.json["messages"][0]["content"])
        await stream(*[delta("x" * 20_000)] * (length // 20_000), finish(), usage(), DONE)(connection)

    upstream.handler = answer
    questions = [json.dumps({"question": str(length)}).encode() for length in range(800_000, 2_800_000, 40_000)]
    connections = [
        unread(service, http_request(question, path=STREAMING, headers="connection: close\r\n"))
        for question in questions
    ]

    service.eventually(lambda: established(service) == 0, seconds=10)

    for connection in connections:
        connection.close()
