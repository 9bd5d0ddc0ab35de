"""What the server writes to STDOUT while it works."""

import json
import re
import uuid

import pytest

from tests.service import KEY, Service, http_request, read_all
from tests.upstream import completion, delta, error, finish, stream, words


def get(service: Service, target: bytes, *, headers: bytes = b"") -> bytes:
    """A request whose target goes out as it is."""
    with service.raw(
        b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + headers + b"\r\n"
    ) as connection:
        return read_all(connection)


def identified(service: Service, request_id: str) -> dict:
    """The request's line with this id."""
    return service.eventually(
        lambda: [line for line in service.log() if line["message"] == "request" and line["request_id"] == request_id]
    )[0]


def written_until(service: Service, response) -> None:
    """Wait until the line for this response is there, and with it those of all requests before it."""
    identified(service, response.headers["x-request-id"])


def test_every_line_has_what_all_lines_have(mocked):
    written_until(mocked, mocked.ask())

    log = mocked.log()

    assert len(log) > 3
    for line in log:
        assert list(line)[:4] == ["timestamp", "level", "message", "request_id"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
        assert line["level"] in {"debug", "info", "warning", "error"}


def test_the_lines_of_the_web_server_are_among_them(mocked):
    messages = {line["message"]: line for line in mocked.log() if line.get("logger") == "uvicorn.error"}

    assert "Application startup complete." in messages
    assert messages["Application startup complete."]["level"] == "info"


def test_a_call_has_one_line_with_its_numbers(scripted):
    service, upstream = scripted
    upstream.handler = completion()

    response = service.ask("ping")

    line = identified(service, response.headers["x-request-id"])
    assert (
        line.items()
        >= {
            "level": "info",
            "method": "POST",
            "path": "/api/ask",
            "status": 200,
            "exchange_id": response.json()["id"],
            "model": "small",
            "provider": "openai",
            "input_tokens": 3,
            "output_tokens": 4,
        }.items()
    )
    assert uuid.UUID(line["key_id"]).version == 7
    assert 0 < line["duration_ms"] < 5000
    assert "error" not in line


def test_a_stream_has_one_line_when_it_has_ended(scripted):
    service, upstream = scripted
    upstream.handler = words("one", "two", gap=0.1)

    response = service.client.post("/api/streaming", json={"question": "Count."})

    line = identified(service, response.headers["x-request-id"])
    assert line["status"] == 200
    assert line["duration_ms"] > 190
    assert (line["input_tokens"], line["output_tokens"]) == (3, 4)


@pytest.mark.parametrize(
    ("handler", "path", "status", "code", "level"),
    [
        (error(500), "/api/ask", 502, "bad_upstream_response", "error"),
        (error(429), "/api/ask", 429, "upstream_rate_limited", "warning"),
        (stream(delta("half")), "/api/streaming", 502, "upstream_stream_truncated", "error"),
    ],
)
def test_a_failed_call_has_its_code_and_its_own_status(scripted, handler, path, status, code, level):
    service, upstream = scripted
    upstream.handler = handler

    response = service.client.post(path, json={"question": "ping"})

    line = identified(service, response.headers["x-request-id"])
    assert (line["status"], line["error"], line["level"]) == (status, code, level)
    assert line["error_message"].startswith("openai: ")
    assert line["provider"] == "openai"


def test_a_refused_request_has_a_line_without_a_key(mocked):
    with mocked.client_with("wrong") as client:
        response = client.get("/api/history")

    line = identified(mocked, response.headers["x-request-id"])
    assert (line["level"], line["status"], line["error"]) == ("warning", 401, "invalid_api_key")
    assert "key_id" not in line
    assert "exchange_id" not in line


def test_probes_are_not_worth_a_line(mocked):
    for path in ("/livez", "/readyz", "/metrics"):
        assert mocked.client.get(path).status_code == 200
    written_until(mocked, mocked.ask())

    good = {line["path"] for line in mocked.log() if line.get("status") == 200}
    assert good.isdisjoint({"/livez", "/readyz", "/metrics"})


# The request's id


@pytest.mark.parametrize("request_id", ["a", "my-request.1", "2026/11:x@y=z+_", "x" * 128])
def test_a_sane_id_of_the_client_is_taken_over(mocked, request_id):
    response = mocked.client.get("/nowhere", headers={"x-request-id": request_id})

    assert response.headers["x-request-id"] == request_id
    assert response.json()["error"]["request_id"] == request_id
    assert identified(mocked, request_id)["path"] == "/nowhere"


@pytest.mark.parametrize(
    "request_id",
    [
        b"",
        b" ",
        b"x" * 129,
        b"two words",
        b"\x1b[31mred",
        b"tab\tbed",
        b'quote"',
        b"\xd0\xba\xd0\xbb",
        b"<script>",
        b"%0a",
    ],
)
def test_any_other_id_is_replaced(mocked, request_id):
    received = get(mocked, b"/nowhere", headers=b"x-request-id: " + request_id + b"\r\n")

    [found] = re.findall(rb"(?i)^x-request-id: (.*)\r$", received, re.MULTILINE)
    assert uuid.UUID(found.decode()).version == 7


def test_every_kind_of_answer_tells_its_id(mocked):
    responses = [
        mocked.ask(),
        mocked.client.post("/api/streaming", json={"question": "ping"}),
        mocked.client.get("/livez"),
        mocked.client.get("/docs"),
        mocked.client.get("/nowhere"),
        mocked.client.post("/api/ask", content=b"{"),
    ]

    found = [response.headers["x-request-id"] for response in responses]
    assert len(set(found)) == len(responses)
    assert [uuid.UUID(request_id).version for request_id in found] == [7] * len(responses)


# What must not be in it


def test_neither_questions_nor_answers_are_in_it(scripted):
    service, upstream = scripted
    fields = {"question": "canary-question", "system": "canary-system"}
    quoting = error(400, "Your prompt 'canary-question' is not allowed")
    for handler in (completion("canary-answer"), error(500, "canary-question"), quoting):
        upstream.handler = handler
        service.client.post("/api/ask", json=fields)
    for handler in (stream(delta("canary-answer"), finish()), stream(delta("canary-answer")), quoting):
        upstream.handler = handler
        service.client.post("/api/streaming", json=fields)
    service.client.post("/api/ask", json={**fields, "temperature": "canary-question"})
    service.client.post("/api/ask", content=b'{"question": "canary-question"')
    service.client.get("/api/history?cursor=canary-question")

    written_until(service, service.client.get("/nowhere"))

    assert "canary" not in (service.directory / "stdout").read_text()
    assert "canary" not in service.stderr()


def test_no_key_is_in_it(scripted):
    service, upstream = scripted
    for handler in (completion(), error(401, "Incorrect API key provided: sk-upstream-canary-key")):
        upstream.handler = handler
        service.ask()
    for headers in ({"authorization": "Bearer canary-of-a-client"}, {"x-api-key": "canary-of-a-client"}):
        service.client.post("/api/ask", json={"question": "x"}, headers=headers)
    written_until(service, service.client.get("/nowhere?key=canary-of-a-client"))

    text = (service.directory / "stdout").read_text() + service.stderr()

    assert "canary" not in text
    assert KEY not in text


def test_nothing_that_a_client_sends_can_move_the_cursor_or_begin_a_new_line(mocked):
    targets = [b"/a%0ab", b"/%1b%5b2J", b"/%00", b"/%7f", b"/%c2%9b31m", b"/%e2%80%a8", b"/%0d%0a{%22level%22:1}"]

    for target in targets:
        get(mocked, target, headers=b"user-agent: \x9b31m\r\nreferer: \t\x85\r\n")
        get(mocked, target, headers=b"user-agent: \x1b[31m\r\n")
    body = json.dumps({"question": "x", "model": "mock\x1b[2J\n\x9b"}).encode()
    with mocked.raw(http_request(body, headers="connection: close\r\n")) as connection:
        read_all(connection)
    written_until(mocked, mocked.client.get("/nowhere"))

    text = (mocked.directory / "stdout").read_bytes().decode()
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", text) is None
    assert {"/a\nb", "/\x1b[2J", "/\x00", "/\x7f", "/\x9b31m", "/\u2028"} <= {line.get("path") for line in mocked.log()}


def test_a_person_may_have_it_in_colours_and_with_the_probes(start):
    service = start(AI_PROXY_LOG_FORMAT="console", AI_PROXY_LOG_LEVEL="debug")

    get(service, b"/%1b%5b2J")
    service.client.get("/metrics")
    service.ask().raise_for_status()
    text = service.eventually(lambda: "/api/ask" in (text := (service.directory / "stdout").read_text()) and text)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain != text
    assert "\x1b" not in plain
    assert r"/\x1b[2J" in plain
    assert "/metrics" in plain
    assert "Application startup complete." in plain
