"""C5 to C7, C15, C25, C28: clients that send, or ask for, too much."""

import gzip
import http.client
import json
import re
import time
import zlib

import httpx2
import pytest

from tests.ledger import count
from tests.outcome import EITHER_WAY, memory
from tests.service import http_request, read_all
from tests.upstream import completion
from tests.wire import (
    AUTHORIZED,
    CHUNKED_PING,
    HOST,
    POST,
    answers,
    head,
    parse,
    refused,
    says_something,
)

ENDLESS = head(POST, HOST, AUTHORIZED, "transfer-encoding: chunked")
MEGABYTE = 2**20


def flood(service, beginning: bytes, block: bytes) -> bytes:
    """Send `block` again and again, until the server says something; all that it says."""
    give_up = time.monotonic() + 8
    with service.raw(beginning) as connection:
        while not says_something(connection):
            assert time.monotonic() < give_up, "it never had enough"
            connection.sendall(block)
        return read_all(connection)


def test_c5_a_body_that_is_declared_too_large_is_refused_before_it_comes(hasty):
    service, upstream = hasty
    before = count(service)

    (answer,) = answers(service, head(POST, HOST, AUTHORIZED, "content-length: 1000000000000"))

    assert refused(answer) == (413, "body_too_large", "client", None)
    assert answer.headers["connection"] == "close"
    assert (upstream.connections, count(service)) == ([], before)


def test_c5_a_client_that_sends_before_it_reads_learns_why_it_was_refused(hasty):
    service, _ = hasty
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)

    connection.request("POST", "/api/ask", b" " * 5_000_000, dict([AUTHORIZED.split(": ")]))
    response = connection.getresponse()

    assert (response.status, json.load(response)["error"]["code"]) == (413, "body_too_large")
    connection.close()


def test_c6_a_body_without_end_is_refused_at_the_limit(hasty):
    service, upstream = hasty
    before, peak = count(service), memory(service, "VmHWM")

    (answer,) = parse(flood(service, ENDLESS, b"10000\r\n" + b"a" * 65_536 + b"\r\n"))

    assert refused(answer) == (413, "body_too_large", "client", None)
    assert answer.headers["connection"] == "close"
    assert memory(service, "VmHWM") - peak < 20 * MEGABYTE
    assert (upstream.connections, count(service)) == ([], before)


@pytest.mark.parametrize(
    ("beginning", "block"),
    [
        pytest.param(b"1;", b"a" * 65_536, id="chunk extension"),
        pytest.param(b"1\r\na\r\n0\r\nx: ", b"a" * 65_536, id="trailer"),
        pytest.param(b"1\r\na\r\n0\r\n", b"x: y\r\n" * 10_000, id="trailers"),
        pytest.param(b"", b"1\r\na\r\n" * 10_000, id="tiny chunks"),
    ],
)
def test_c6_what_surrounds_a_body_is_limited_too(hasty, beginning, block):
    service, upstream = hasty
    peak = memory(service, "VmHWM")

    (answer,) = parse(flood(service, ENDLESS + beginning, block))

    assert refused(answer) == (413, "body_too_large", "client", None)
    assert memory(service, "VmHWM") - peak < 20 * MEGABYTE
    assert upstream.connections == []


@EITHER_WAY
@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", bytes), ("GZIP", bytes)]
)
def test_c7_compressed_bodies_are_not_taken(hasty, path, encoding, compress):
    service, upstream = hasty
    before, peak = count(service), memory(service, "VmHWM")
    bomb = compress(b'{"question": "%s"}' % (b"0" * 900_000))

    response = service.client.post(path, content=bomb, headers={"content-encoding": encoding})

    assert refused(response) == (415, "unsupported_media_type", "client", None)
    assert memory(service, "VmHWM") - peak < 10 * MEGABYTE
    assert (upstream.connections, count(service)) == ([], before)


@pytest.mark.parametrize(
    ("beginning", "block"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nx: ", b"a" * 65_536, id="one long header"),
        pytest.param(b"GET /livez HTTP/1.1\r\n", b"x: y\r\n" * 10_000, id="many headers"),
        pytest.param(b"GET /", b"a" * 65_536, id="a long path"),
    ],
)
def test_c15_a_flood_of_headers_is_refused(hasty, beginning, block):
    service, _ = hasty
    peak = memory(service, "VmHWM")

    (answer,) = parse(flood(service, beginning, block))

    assert refused(answer) == (431, "headers_too_large", "client", None)
    assert memory(service, "VmHWM") - peak < 10 * MEGABYTE


@pytest.mark.parametrize("packet", [1_000_000, 20_000])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param([f"x: {'a' * 65_000}"], 200, id="one that fits"),
        pytest.param([f"x: {'a' * 66_000}"], 431, id="one that does not"),
        pytest.param([f"x{number}: y" for number in range(1000)], 200, id="a thousand that fit"),
        pytest.param([f"x{number}: y" for number in range(8000)], 431, id="eight thousand that do not"),
    ],
)
def test_c15_the_limit_is_the_same_however_the_headers_are_cut(hasty, lines, status, packet):
    service, _ = hasty
    request = head("GET /livez HTTP/1.1", HOST, "connection: close", *lines)

    with service.raw() as connection:
        for start in range(0, len(request), packet):
            connection.sendall(request[start : start + packet])
            time.sleep(0.02)
        (answer,) = parse(read_all(connection))

    assert answer.status == status


def test_c15_a_body_in_the_packet_that_ends_the_headers_does_not_count_as_headers(hasty):
    service, upstream = hasty
    upstream.handler = completion("read")
    question = json.dumps({"question": "a" * 100_000}).encode()
    request = http_request(question, headers="connection: close\r\n")

    with service.raw(request[:20]) as connection:
        time.sleep(0.1)
        connection.sendall(request[20:])
        (answer,) = parse(read_all(connection))

    assert answer.json()["answer"] == "read"


def test_c15_trailers_are_no_headers(hasty):
    """What stands in front of us has seen the headers only, and has let the request pass because of them."""
    service, _ = hasty
    unauthorized = head(POST, HOST, "transfer-encoding: chunked", "connection: close")
    with_trailer = CHUNKED_PING.removesuffix(b"\r\n") + AUTHORIZED.encode() + b"\r\n\r\n"

    (answer,) = answers(service, unauthorized + with_trailer)

    assert refused(answer) == (401, "invalid_api_key", "client", None)


def test_c28_a_bomb_of_ranges_on_a_static_file_is_answered_at_once(mocked):
    path = re.search(r'src="(/[^"]+\.js)"', mocked.client.get("/docs").text)[1]
    size = len(mocked.client.get(path).content)
    bombs = [
        "0-," * 16_000,
        ",".join(f"{start}-{start}" for start in range(0, 10_000, 2)),
        ",".join(f"{start}-" for start in range(9000)),
        "0" * 30_000 + "-" + "1" * 30_000,
        "," * 60_000,
    ]

    for bomb in bombs:
        began = time.monotonic()
        response = mocked.client.get(path, headers={"range": f"bytes={bomb}"})
        assert response.status_code in {200, 206, 400, 416}
        assert len(response.content) <= 2 * size
        assert time.monotonic() - began < 1


def test_c25_more_connections_than_there_is_room_for_are_told_so_and_closed(start):
    service = start(AI_PROXY_SERVER__MAX_CONNECTIONS=10)
    service.client.close()
    held = [service.raw() for _ in range(10)]

    with service.raw() as one_too_many:
        (answer,) = parse(read_all(one_too_many))
    for connection in held:
        connection.close()

    assert refused(answer) == (503, "unavailable", "gateway", None)
    assert answer.headers["retry-after"] == "5"
    service.client = httpx2.Client(base_url=service.url, headers=service.client.headers)
    assert service.eventually(lambda: service.client.get("/livez").status_code == 200)
