"""What is refused before the application sees it: in the form that the path's clients know, if the path has come.

And how the heads of answers are written.
"""

import asyncio

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from ai_proxy.api.protocol import Cycle
from tests.service import Service, read_all
from tests.wire import AUTHORIZED, HOST, answers, head, parse, read_until, refused

HUGE = f"x: {'a' * 70_000}"
MESSAGES = "POST /v1/messages HTTP/1.1"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A server that waits a second for headers."""
    service = Service(tmp_path_factory.mktemp("hasty"), AI_PROXY_SERVER__HEADER_TIMEOUT=1).start()
    yield service
    assert service.stop() == 0
    service.client.close()


def anthropics(answer) -> tuple[int, str, str]:
    """Of an error in Anthropic's envelope: status, type, code."""
    body = answer.json()
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert answer.headers["connection"] == "close"
    return answer.status, body["error"]["type"], body["error"]["code"]


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages?beta=true", "/v1/messages/count_tokens"])
def test_headers_that_are_too_large_are_refused_as_anthropic_does(mocked, target):
    (answer,) = answers(mocked, head(f"POST {target} HTTP/1.1", HOST, AUTHORIZED, HUGE))

    assert anthropics(answer) == (431, "invalid_request_error", "headers_too_large")


def test_what_is_not_http_after_the_path_is_refused_as_anthropic_does(mocked):
    (answer,) = answers(mocked, head(MESSAGES, HOST, AUTHORIZED, "x y: z"))

    assert anthropics(answer) == (400, "invalid_request_error", "invalid_request")


def test_headers_that_come_too_late_are_refused_as_anthropic_does(hasty):
    with hasty.raw(f"{MESSAGES}\r\n{HOST}\r\n".encode()) as connection:
        (answer,) = parse(read_all(connection))

    assert anthropics(answer) == (408, "timeout_error", "request_timeout")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/api/ask", "/"])
def test_elsewhere_the_form_is_our_own(mocked, path):
    (answer,) = answers(mocked, head(f"POST {path} HTTP/1.1", HOST, AUTHORIZED, HUGE))

    assert refused(answer) == (431, "headers_too_large", "client", None)
    assert answer.headers.get("request-id") == (answer.headers["x-request-id"] if path.startswith("/v1/") else None)


def test_without_a_path_the_form_is_our_own(hasty):
    with hasty.raw(b"POST ") as connection:
        (answer,) = parse(read_all(connection))

    assert refused(answer) == (408, "request_timeout", "client", None)


def test_the_path_of_an_earlier_request_is_not_taken_for_the_next(mocked):
    with mocked.raw(head("GET /v1/messages HTTP/1.1", HOST, AUTHORIZED)) as connection:
        read_until(connection, b"}")
        connection.sendall(head("GET /livez HTTP/1.1", HOST, HUGE))
        *_, answer = parse(read_all(connection))

    assert refused(answer)[0] == 431


ASK = b'{"question": "ping"}'


@pytest.mark.parametrize(
    ("version", "connection", "closes"),
    [("1.1", "keep-alive", False), ("1.1", "close", True), ("1.0", "close", True)],
)
def test_an_answer_says_whether_its_connection_closes(mocked, version, connection, closes):
    fields = [HOST, AUTHORIZED, "content-type: application/json", f"content-length: {len(ASK)}"]
    asked = head(f"POST /api/ask HTTP/{version}", *fields, f"connection: {connection}") + ASK
    with mocked.raw(asked) as socket:
        said = b""
        if not closes:
            said = read_until(socket, b'"stop"}')
            socket.sendall(head("GET /livez HTTP/1.1", HOST, "connection: close"))
        first, *others = parse(said + read_all(socket))

    assert first.status == 200
    assert first.json()["finish_reason"] == "stop"
    assert first.headers.get("connection") == ("close" if closes else None)
    assert len(others) == (0 if closes else 1)


class Written(list):
    """A transport that keeps what is written."""

    write = list.append


def cycle() -> tuple[Cycle, Written]:
    written = Written()
    flow = FlowControl(written)
    scope = {"type": "http", "method": "POST"}
    options = {"access_log": False, "default_headers": [(b"date", b"today")], "message_event": asyncio.Event()}
    quiet = {"logger": None, "access_logger": None, "expect_100_continue": False, "keep_alive": True}
    return Cycle(scope, written, flow, **options, **quiet, on_response=lambda: None), written


async def answer(of: Cycle, body: bytes, *, length: int, value: bytes = b"b") -> None:
    headers = [(b"x-a", value), (b"content-length", b"%d" % length)]
    await of.send({"type": "http.response.start", "status": 200, "headers": headers, "length": length})
    await of.send({"type": "http.response.body", "body": body})


@pytest.mark.anyio
async def test_a_head_is_written_as_it_is_and_with_its_body():
    of, written = cycle()

    await answer(of, b"12345", length=5)

    assert written == [b"HTTP/1.1 200 OK\r\ndate: today\r\nx-a: b\r\ncontent-length: 5\r\n\r\n12345"]
    assert of.response_complete


@pytest.mark.anyio
async def test_pieces_of_a_stream_are_chunks_and_an_empty_one_does_not_end_it():
    of, written = cycle()

    await of.send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"a" * 26, b"", b"b"):
        await of.send({"type": "http.response.body", "body": piece, "more_body": True})
    assert not of.response_complete
    await of.send({"type": "http.response.body", "body": b"c"})

    assert written[0].endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert written[1:] == [b"1a\r\n" + b"a" * 26 + b"\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n0\r\n\r\n"]
    assert of.response_complete


@pytest.mark.anyio
@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
async def test_no_header_of_an_answer_becomes_two(value):
    of, written = cycle()

    with pytest.raises(RuntimeError, match="line break"):
        await answer(of, b"12345", length=5, value=value)

    assert written == []


@pytest.mark.anyio
@pytest.mark.parametrize("length", [4, 6])
async def test_a_body_of_another_length_than_was_told_is_a_bug(length):
    of, _ = cycle()

    with pytest.raises(RuntimeError, match="Content-Length"):
        await answer(of, b"12345", length=length)
