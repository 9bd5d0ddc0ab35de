"""C26, C27: requests for another protocol, and methods that there are not."""

import base64

import pytest

from tests.ledger import rows
from tests.outcome import EITHER_WAY
from tests.service import http_request, read_all
from tests.wire import (
    AUTHORIZED,
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
HISTORY = "GET /api/history HTTP/1.1"
CLOSE = "connection: close"
SMUGGLED = http_request(b'{"question": "smuggled"}')


@EITHER_WAY
def test_c26_a_request_to_speak_another_protocol_is_no_way_in(hasty, path):
    service, upstream = hasty
    websocket = head(
        f"GET {path} HTTP/1.1",
        HOST,
        AUTHORIZED,
        "connection: upgrade",
        "upgrade: websocket",
        f"sec-websocket-key: {base64.b64encode(b'0123456789abcdef').decode()}",
        "sec-websocket-version: 13",
    )

    (answer,) = answers(service, websocket + b"\x81\x85junkjunk" + SMUGGLED)

    assert refused(answer) == (405, "method_not_allowed", "client", None)
    assert answer.headers["connection"] == "close"
    assert (upstream.connections, rows(service, "smuggled")) == ([], [])


def test_c26_a_client_that_would_rather_speak_http2_is_answered_in_http1(hasty):
    service, _ = hasty
    upgrade = ["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"]

    (answer,) = answers(service, head(HISTORY, HOST, AUTHORIZED, *upgrade))

    assert answer.status == 200
    assert answer.headers["connection"] == "close"


def test_c26_with_a_body_it_is_told_what_to_change(hasty):
    service, upstream = hasty
    upgrade = ["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"]

    (answer,) = answers(service, head(POST, HOST, AUTHORIZED, *upgrade, PING_LENGTH, body=PING))

    assert refused(answer) == NO_HTTP
    assert "without the header Upgrade" in answer.json()["error"]["message"]
    assert upstream.connections == []


def test_c27_a_client_that_asks_first_is_told_to_go_on(hasty):
    service, _ = hasty
    connection = service.raw(head(POST, HOST, AUTHORIZED, "expect: 100-continue", PING_LENGTH))

    go_on = read_until(connection, b"\r\n\r\n")
    connection.sendall(PING)
    (answer,) = parse(read_all(connection))

    assert go_on == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.json()["answer"] == "pong"
    connection.close()


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ([AUTHORIZED, "content-length: 5000000"], (413, "body_too_large", "client", None)),
        ([AUTHORIZED, "content-type: text/plain", PING_LENGTH], (415, "unsupported_media_type", "client", None)),
        ([PING_LENGTH], NO_KEY),
    ],
)
def test_c27_a_client_that_asks_first_is_refused_without_sending(hasty, headers, refusal):
    service, _ = hasty

    (answer,) = answers(service, head(POST, HOST, "expect: 100-continue", *headers))

    assert refused(answer) == refusal
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/ask", "POST"),
        ("/api/streaming", "POST"),
        ("/api/history", "GET"),
        ("/livez", "GET"),
        ("/readyz", "GET"),
        ("/metrics", "GET"),
        ("/v1/chat/completions", "POST"),
        ("/", "GET"),
    ],
)
def test_c27_another_method_is_refused_with_those_that_work(mocked, method, path, allow):
    response = mocked.client.request(method, path)

    assert refused(response) == (405, "method_not_allowed", "client", None)
    assert response.headers["allow"] == allow
    assert response.json()["error"]["message"] == f"This path does not take {method}, only {allow}."


def test_c27_a_path_with_two_methods_names_both(mocked):
    response = mocked.client.put("/v1/responses/resp_1")

    assert refused(response) == (405, "method_not_allowed", "client", None)
    assert response.headers["allow"] == "DELETE, GET"
    assert response.json()["error"]["message"] == "This path does not take PUT, only DELETE, GET."


@pytest.mark.parametrize("path", ["/api/ask", "/api/history", "/no/such/path"])
def test_c27_an_answer_to_head_has_no_body(hasty, path):
    service, _ = hasty

    with service.raw(head(f"HEAD {path} HTTP/1.1", HOST, CLOSE)) as connection:
        received = read_all(connection)

    lines, _, body = received.partition(b"\r\n\r\n")
    assert lines.split(b" ")[1] in {b"404", b"405"}
    assert body == b""


def test_c27_a_path_that_does_not_exist_is_404_in_the_envelope(mocked):
    response = mocked.client.get("/v2/ask")

    assert refused(response) == (404, "not_found", "client", None)
    assert response.json()["error"]["message"] == "There is nothing at this path: /docs lists what there is."


@pytest.mark.parametrize(
    "path",
    ["/chat/completions", "/completions", "/responses", "/models", "/messages", "/embeddings", "/moderations"],
)
def test_c27_a_base_url_that_lacks_its_v1_is_told(mocked, path):
    response = mocked.client.post(path, json={})

    assert refused(response) == (404, "not_found", "client", None)
    assert response.json()["error"]["message"] == "There is nothing at this path: the base URL needs /v1."


@pytest.mark.parametrize(
    ("path", "outer", "inner"),
    [
        ("/v1/v1/messages", "error", "not_found_error"),
        ("/v1/v1/chat/completions", None, "invalid_request_error"),
    ],
)
def test_c27_a_base_url_with_a_v1_too_many_is_told_in_the_clients_own_shape(mocked, path, outer, inner):
    response = mocked.client.post(path, json={})

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "not_found")
    assert (response.json().get("type"), error["type"]) == (outer, inner)
    assert "the base URL of Anthropic's clients has no /v1" in error["message"]
