"""POST /api/streaming, as a client sees it."""

import json
import socket
import time
from itertools import pairwise

import pytest

from tests.service import events, http_request, read_all
from tests.upstream import DONE, completion, delta, error, finish, silence, stream, usage, words


def ask(service, question="Count.", *, accept=None, **fields):
    headers = {} if accept is None else {"accept": accept}
    return service.client.post("/api/streaming", json={"question": question, **fields}, headers=headers)


@pytest.fixture
def listen(scripted):
    """Asks over a bare socket; gives what arrives, each time with the seconds since the question."""
    service, _ = scripted
    connections: list[socket.socket] = []

    def listen(*, headers=""):
        body = json.dumps({"question": "Count."}).encode()
        connection = service.raw(http_request(body, path="/api/streaming", headers=f"connection: close\r\n{headers}"))
        connections.append(connection)
        began = time.monotonic()
        while block := connection.recv(65_536):
            yield time.monotonic() - began, block

    yield listen
    for connection in connections:
        connection.close()


def arrivals(blocks, *parts: bytes) -> list[float]:
    """When each of these parts came."""
    found = {part: after for after, block in blocks for part in parts if part in block}
    return [found[part] for part in parts]


def test_says_how_it_starts_each_piece_and_how_it_ends(scripted):
    service, upstream = scripted
    upstream.handler = words("one ", "two ", "three")

    response = ask(service)

    kinds = [kind for kind, _ in events(response.text)]
    (_, head), *pieces, (_, tail) = events(response.text)
    assert kinds == ["start", "delta", "delta", "delta", "done"]
    assert head == {"id": head["id"], "model": "small", "provider": "openai", "mock": False}
    assert [data for _, data in pieces] == [{"text": "one "}, {"text": "two "}, {"text": "three"}]
    assert tail == {
        "finish_reason": "stop",
        "usage": {"input_tokens": 3, "output_tokens": 4, "estimated": False},
        "cost_usd": None,
        "duration_ms": tail["duration_ms"],
    }
    assert tail["duration_ms"] > 0


def test_the_events_are_numbered_from_zero(scripted):
    service, upstream = scripted
    upstream.handler = words("one ", "two ", "three")

    lines = ask(service).text.splitlines()

    assert [line for line in lines if line.startswith("id:")] == ["id: 0", "id: 1", "id: 2", "id: 3", "id: 4"]


def test_the_headers_keep_proxies_from_holding_it_back(mocked):
    response = ask(mocked)

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers
    assert response.headers["x-request-id"]


def test_it_is_in_the_history_under_the_id_of_its_start(scripted):
    service, upstream = scripted
    upstream.handler = words("one ", "two")

    (_, head), *_, (_, tail) = events(ask(service).text)

    item = service.history(limit=1)[0]
    assert item["id"] == head["id"]
    assert (item["answer"], item["status"]) == ("one two", "completed")
    assert (item["usage"], item["duration_ms"]) == (tail["usage"], tail["duration_ms"])


def test_who_takes_plain_text_gets_the_bare_answer(scripted):
    service, upstream = scripted
    upstream.handler = words("one ", "zwei\n\n", "três 🦆")

    response = ask(service, accept="text/plain")

    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == "one zwei\n\ntrês 🦆"


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/json"])
def test_everybody_else_gets_events(mocked, accept):
    response = ask(mocked, accept=accept)

    assert [kind for kind, _ in events(response.text)][:2] == ["start", "delta"]


def test_a_piece_is_passed_on_when_it_comes(scripted, listen):
    scripted[1].handler = words("first", "second", "third", gap=0.15)

    times = arrivals(listen(), b"first", b"second", b"third", b"event: done")

    assert all(later - earlier > 0.05 for earlier, later in pairwise(times))  # together, if they were held back


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/plain; charset=utf-8", "text/plain"),
        ("TEXT/PLAIN, */*", "text/plain"),
        ("application/json, text/plain, */*", "text/event-stream"),
        ("text/event-stream, text/plain", "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("", "text/event-stream"),
    ],
)
def test_bare_text_is_for_those_who_ask_for_it_first(mocked, accept, media_type):
    response = mocked.client.post("/api/streaming", json={"question": "ping"}, headers={"accept": accept})

    assert response.headers["content-type"].partition(";")[0] == media_type


def test_plain_text_is_passed_on_when_it_comes_too(scripted, listen):
    scripted[1].handler = words("first", "second", gap=0.15)

    times = arrivals(listen(headers="accept: text/plain\r\n"), b"first", b"second")

    assert times[1] - times[0] > 0.05


@pytest.mark.parametrize(
    ("handler", "status", "code"),
    [
        (error(429), 429, "upstream_rate_limited"),
        (error(500), 502, "bad_upstream_response"),
        (stream(), 502, "upstream_stream_truncated"),
        (stream(b'data: {"error": {"message": "no"}}\n\n'), 502, "bad_upstream_response"),
        (silence, 504, "upstream_timeout_first_byte"),
    ],
    ids=["429", "500", "nothing", "error event", "silence"],
)
@pytest.mark.parametrize("accept", ["text/event-stream", "text/plain"])
def test_what_fails_before_the_first_token_is_a_plain_response(scripted, handler, status, code, accept):
    service, upstream = scripted
    upstream.handler = handler

    response = ask(service, accept=accept)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["code"] == code


def test_what_fails_later_is_the_last_event(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("half "), delta("an answer"))

    response = ask(service)

    found = events(response.text)
    assert response.status_code == 200
    assert [kind for kind, _ in found] == ["start", "delta", "delta", "error"]
    failure = found[-1][1]["error"]
    assert (failure["code"], failure["source"], failure["provider"]) == (
        "upstream_stream_truncated",
        "provider",
        "openai",
    )
    assert failure["request_id"] == response.headers["x-request-id"]


def test_plain_text_that_fails_is_cut_off(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("half "), delta("an answer"))
    body = json.dumps({"question": "Count."}).encode()

    with service.raw(http_request(body, path="/api/streaming", headers="accept: text/plain\r\n")) as connection:
        received = read_all(connection)

    assert b"half " in received
    assert b"an answer" in received
    assert not received.endswith(b"0\r\n\r\n")


def test_plain_text_that_succeeds_is_not_cut_off(scripted):
    service, upstream = scripted
    upstream.handler = words("a whole ", "answer")
    body = json.dumps({"question": "Count."}).encode()
    headers = "accept: text/plain\r\nconnection: close\r\n"

    with service.raw(http_request(body, path="/api/streaming", headers=headers)) as connection:
        received = read_all(connection)

    assert received.endswith(b"0\r\n\r\n")


def test_a_silent_provider_is_bridged_with_comments(scripted_pair, start):
    _, upstream = scripted_pair
    upstream.handler = stream(delta("one"), 0.5, delta("two"), finish(), usage(), DONE)
    service = start(
        OPENAI_API_KEY="sk-upstream",
        OPENAI_BASE_URL=upstream.url,
        AI_PROXY_SERVER__PING_INTERVAL=0.1,
        MOCK_MODE="false",
    )

    with_comments = ask(service).text
    bare = ask(service, accept="text/plain").text

    before, between, after = with_comments.partition('event: delta\ndata: {"text":"one"}\n\n')[2].partition("id: 2")
    assert 2 <= before.count(": ping\n\n") <= 5
    assert "ping" not in between + after
    assert [kind for kind, _ in events(with_comments)] == ["start", "delta", "delta", "done"]
    assert bare == "onetwo"


def test_the_first_token_is_waited_for_without_comments(scripted, listen):
    scripted[1].handler = stream(0.3, delta("late"), finish(), DONE)

    after, block = next(listen())

    assert after > 0.25
    assert b"200 OK" in block


def test_a_piece_without_text_is_not_passed_on(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta(""), delta("one"), delta(""), finish("length"), usage(), DONE)

    found = events(ask(service).text)

    assert [kind for kind, _ in found] == ["start", "delta", "done"]
    assert found[-1][1]["finish_reason"] == "length"


def test_the_provider_is_asked_for_a_stream_with_its_usage(scripted):
    service, upstream = scripted
    upstream.handler = words("yes")

    ask(service, "Count.", temperature=0.5)

    sent = upstream.connections[-1].json
    assert (sent["stream"], sent["stream_options"], sent["temperature"]) == (True, {"include_usage": True}, 0.5)


def test_the_connection_can_be_used_again_after_a_stream(scripted):
    service, upstream = scripted
    upstream.handler = words("yes")
    body = json.dumps({"question": "Count."}).encode()

    with service.raw(http_request(body, path="/api/streaming")) as connection:
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65_536)
        upstream.handler = completion("again")
        connection.sendall(http_request(body, headers="connection: close\r\n"))
        second = read_all(connection)

    assert second.startswith(b"HTTP/1.1 200 OK")
    assert b'"again"' in second
