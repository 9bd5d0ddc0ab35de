"""What is refused before the application sees it: in the form that the path's clients know, if the path has come."""

import pytest

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
