"""C16 to C18: requests that are not quite HTTP, or more of them than one."""

import json

import pytest

from tests.ledger import count, rows
from tests.outcome import recorded
from tests.service import KEY, http_request, read_all
from tests.upstream import completion, delta, silence, stream
from tests.wire import (
    AUTHORIZED,
    CHUNKED_PING,
    HOST,
    PING,
    PING_LENGTH,
    POST,
    answers,
    head,
    parse,
    read_until,
    refused,
)

NO_HTTP = (400, "invalid_request", "client", None)
NO_KEY = (401, "invalid_api_key", "client", None)
CHUNKED = "transfer-encoding: chunked"
HISTORY = "GET /api/history HTTP/1.1"
CLOSE = "connection: close"
SMUGGLED = http_request(b'{"question": "smuggled"}')


async def echo(connection):
    await completion(connection.json["messages"][0]["content"])(connection)


def asking(key: str, question: str, *headers: str) -> bytes:
    body = json.dumps({"question": question}).encode()
    return head(POST, HOST, f"x-api-key: {key}", f"content-length: {len(body)}", *headers, body=body)


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(head(POST, HOST, "x: a", " b", AUTHORIZED, PING_LENGTH, body=PING), id="a folded header"),
        pytest.param(
            head(POST, HOST, "authorization: Bearer", f" {KEY}", PING_LENGTH, body=PING), id="a folded authorization"
        ),
        pytest.param(
            head(POST, HOST, f"authorization : Bearer {KEY}", PING_LENGTH, body=PING), id="a blank before a colon"
        ),
        pytest.param(head(POST, HOST, AUTHORIZED, PING_LENGTH).replace(b"\r\n", b"\n") + PING, id="bare LF"),
        pytest.param(head(POST, "host: test\rx: y", AUTHORIZED, PING_LENGTH, body=PING), id="bare CR"),
        pytest.param(head(POST, HOST, "x: a\0b", AUTHORIZED, PING_LENGTH, body=PING), id="a NUL in a header"),
        pytest.param(head(POST, HOST, "x y: z", AUTHORIZED, PING_LENGTH, body=PING), id="a blank in a name"),
        pytest.param(head(POST, HOST, ": z", AUTHORIZED, PING_LENGTH, body=PING), id="a header without a name"),
        pytest.param(head("POST api/ask HTTP/1.1", HOST, AUTHORIZED, PING_LENGTH, body=PING), id="a path without /"),
        pytest.param(head("POST /api/äsk HTTP/1.1", HOST, AUTHORIZED, PING_LENGTH, body=PING), id="a path in Latin-1"),
        pytest.param(head("POST /api/ask HTTP/1.9", HOST, AUTHORIZED, PING_LENGTH, body=PING), id="no such version"),
        pytest.param(head("ASK /api/ask HTTP/1.1", HOST, AUTHORIZED, PING_LENGTH, body=PING), id="no such method"),
        pytest.param(head("CONNECT test:80 HTTP/1.1", HOST, AUTHORIZED), id="a tunnel"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500, id="TLS"),
        pytest.param(b"\x00" * 100, id="NULs"),
    ],
)
def test_c16_what_is_not_http_is_refused_and_the_connection_closed(hasty, request_bytes):
    service, upstream = hasty
    before = count(service)

    (answer,) = answers(service, request_bytes)

    assert refused(answer) == NO_HTTP
    assert answer.headers["connection"] == "close"
    assert (upstream.connections, count(service)) == ([], before)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("GET http://elsewhere/api/history HTTP/1.1", id="an absolute URI"),
        pytest.param("GET /api/%68istory HTTP/1.1", id="an encoded path"),
        pytest.param("GET /api/history?/../../livez HTTP/1.1", id="another path in the query"),
        pytest.param("GET /api/history?#/livez HTTP/1.1", id="another path in the fragment"),
        pytest.param("GET /livez/../api/history HTTP/1.1", id="a path through another"),
        pytest.param("GET //api/history HTTP/1.1", id="two slashes"),
        pytest.param("GET /api/history/ HTTP/1.1", id="a slash behind"),
        pytest.param("GET /api/history;x HTTP/1.1", id="a parameter"),
        pytest.param("GET /api/HISTORY HTTP/1.1", id="capitals"),
        pytest.param("GET /api/history%00 HTTP/1.1", id="a NUL behind"),
        pytest.param("GET /%ed%a0%80%ff HTTP/1.1", id="a path that is not UTF-8"),
    ],
)
def test_c16_no_way_to_write_a_path_leads_around_the_key(hasty, line):
    service, _ = hasty

    (without,) = answers(service, head(line, HOST, CLOSE))
    (with_key,) = answers(service, head(line, HOST, AUTHORIZED, CLOSE))

    assert (without.status, with_key.status) in {(401, 200), (401, 400), (404, 404)}


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param([], id="none"),
        pytest.param(["host: "], id="empty"),
        pytest.param(["host: a", "host: b"], id="two"),
        pytest.param(["host: a/livez?x="], id="with a path"),
        pytest.param(["host: a b"], id="with a blank"),
        pytest.param(["host: ["], id="half an address"),
        pytest.param(["host: \xff"], id="not ASCII"),
        pytest.param(["host: a@b:99999"], id="with a user"),
    ],
)
def test_c16_the_host_has_no_say(hasty, hosts):
    service, _ = hasty

    (without,) = answers(service, head(HISTORY, *hosts, CLOSE))
    (with_key,) = answers(service, head(HISTORY, *hosts, AUTHORIZED, CLOSE))
    (too_long,) = answers(service, head("GET /api/history/ HTTP/1.1", *hosts, AUTHORIZED, CLOSE))

    assert refused(without) == NO_KEY
    assert with_key.status == 200
    assert refused(too_long) == (404, "not_found", "client", None)  # a redirect would have to name the host
    assert "location" not in too_long.headers


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(["content-length: 5", CHUNKED], CHUNKED_PING, id="a length, then chunks"),
        pytest.param([CHUNKED, "content-length: 5"], CHUNKED_PING, id="chunks, then a length"),
        pytest.param([PING_LENGTH, "content-length: 0"], PING, id="two lengths"),
        pytest.param([PING_LENGTH, PING_LENGTH], PING, id="twice the same length"),
        pytest.param([f"{PING_LENGTH}, {len(PING)}"], PING, id="a list of lengths"),
        pytest.param(["content-length: +20"], PING, id="a length with a sign"),
        pytest.param(["content-length: -1"], PING, id="a negative length"),
        pytest.param(["content-length: 0x14"], PING, id="a hexadecimal length"),
        pytest.param(["content-length: 2 0"], PING, id="a length with a blank"),
        pytest.param(["content-length: 18446744073709551636"], PING, id="a length over 64 bits"),
        pytest.param(["transfer-encoding: xchunked"], CHUNKED_PING, id="xchunked"),
        pytest.param(["transfer-encoding: chunked, identity"], CHUNKED_PING, id="chunked, but not at last"),
        pytest.param([CHUNKED, "transfer-encoding: identity"], CHUNKED_PING, id="two encodings"),
        pytest.param(["transfer-encoding : chunked"], CHUNKED_PING, id="a blank before the colon"),
        pytest.param(["transfer-encoding: \x0bchunked"], CHUNKED_PING, id="a vertical tab before chunked"),
        pytest.param([CHUNKED], b"14\r\n" + PING + b"XX0\r\n\r\n", id="a chunk with another end"),
        pytest.param([CHUNKED], b"14\n" + PING + b"\n0\n\n", id="chunks with bare LF"),
        pytest.param([CHUNKED], b'14;a="\n"\r\n' + PING + b"\r\n0\r\n\r\n", id="a line break in an extension"),
        pytest.param([CHUNKED], b"-1\r\n" + PING + b"\r\n0\r\n\r\n", id="a negative chunk"),
        pytest.param([CHUNKED], b"0x14\r\n" + PING + b"\r\n0\r\n\r\n", id="a chunk with 0x"),
        pytest.param([CHUNKED], b"14 \r\n" + PING + b"\r\n0\r\n\r\n", id="a chunk with a blank"),
        pytest.param([CHUNKED], b"10000000000000014\r\n" + PING + b"\r\n0\r\n\r\n", id="a chunk over 64 bits"),
        pytest.param([CHUNKED], CHUNKED_PING[:-2] + b"content-length: 5\r\n\r\n", id="a length behind the chunks"),
    ],
)
def test_c17_no_second_request_hides_in_a_body(hasty, headers, body):
    service, upstream = hasty
    before = count(service)

    (answer,) = answers(service, head(POST, HOST, AUTHORIZED, *headers, body=body) + SMUGGLED)

    assert refused(answer) == NO_HTTP
    assert answer.headers["connection"] == "close"
    assert (upstream.connections, count(service)) == ([], before)


def test_c17_chunks_with_extensions_are_read(hasty):
    service, upstream = hasty
    body = b'14;a=b;c="d"\r\n' + PING + b"\r\n0;e\r\n\r\n"

    (answer,) = answers(service, head(POST, HOST, AUTHORIZED, CHUNKED, CLOSE, body=body))

    assert answer.status == 200
    assert upstream.connections[0].json["messages"] == [{"role": "user", "content": "ping"}]


def test_c18_a_hundred_requests_at_once_are_answered_in_order_each_to_its_own_key(hasty):
    service, upstream = hasty
    upstream.handler = echo
    keys = [service.new_key("first"), service.new_key("second")]
    questions = [f"question {number}" for number in range(100)]
    requests = [asking(keys[number % 2], question) for number, question in enumerate(questions[:-1])]

    found = answers(service, b"".join(requests) + asking(keys[1], questions[-1], CLOSE))

    assert [answer.json()["answer"] for answer in found] == questions
    for number, key in enumerate(keys):
        with service.client_with(key) as client:
            items = client.get("/api/history", params={"limit": 200}).json()["items"]
        assert [item["question"] for item in reversed(items)] == questions[number::2]


def test_c18_what_follows_the_last_request_is_not_served(hasty):
    service, upstream = hasty

    found = answers(service, http_request(PING, headers=f"{CLOSE}\r\n") + SMUGGLED)

    assert [answer.status for answer in found] == [200]
    assert rows(service, "smuggled") == []
    assert len(upstream.connections) == 1


@pytest.mark.parametrize("more", [b"garbage\r\n\r\n", b"GET /livez HTTP/1.1\r\nx: "], ids=["garbage", "half a request"])
def test_c18_what_follows_a_running_stream_may_end_it_but_never_lands_in_it(hasty, more):
    service, upstream = hasty
    upstream.handler = stream(delta("Hel"), silence)
    connection = service.raw(http_request(PING, path="/api/streaming"))

    received = read_until(connection, b"Hel")
    connection.sendall(more)
    received += read_all(connection)

    (answer,) = parse(received)
    assert answer.text().count("event: ") == 2
    assert "HTTP/1.1" not in answer.text()
    service.eventually(lambda: recorded(service)[:3] == ("cancelled", "client_gone", "Hel"))
    connection.close()
