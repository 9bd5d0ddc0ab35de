"""U9, U14, U15, U17 to U26, U28, U29, U34: a provider that refuses, or answers with something that is no answer."""

import asyncio
import gzip
import json
import time
from email.utils import formatdate

import pytest

from tests.outcome import (
    ASK,
    EITHER_WAY,
    STREAMING,
    broken_off,
    failed,
    failure,
    memory,
    post,
    recorded,
    refusal,
    seen,
    streamed,
)
from tests.upstream import (
    Upstream,
    completion,
    delta,
    error,
    finish,
    raw,
    status,
    stream,
    words,
)

MEGABYTE = 2**20
GOOD = json.dumps({"choices": [{"message": {"content": "pong"}, "finish_reason": "stop"}]}).encode()
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


def sized_head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length


def good(body: bytes, **options):
    """An answer with status 200, whatever its body is."""
    return status(200, body, **options)


def flood(head: bytes, block: bytes, *, megabytes: int, sent: list[int]):
    """So many megabytes of the same block, as fast as they are taken. `sent` gets the number of those that were."""

    async def handle(connection):
        sent.append(0)
        await connection.send(head)
        while sent[-1] < megabytes * MEGABYTE:
            await connection.send(block)
            sent[-1] += len(block)

    return handle


# U9: the connection ends in the middle of the answer.


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(sized_head(500) + GOOD, id="shorter than announced"),
        pytest.param(CHUNKED_HEAD + b"fff\r\n" + GOOD, id="in the middle of a chunk"),
        pytest.param(CHUNKED_HEAD + b"%x\r\n%s\r\n" % (len(GOOD), GOOD), id="without the last chunk"),
        pytest.param(CHUNKED_HEAD + b"zz\r\n" + GOOD, id="chunk size is no number"),
    ],
)
def test_u9_an_answer_cut_short_is_a_bad_answer(scripted, answer):
    service, upstream = scripted
    upstream.handler = raw(answer)

    response = post(service, ASK)

    assert seen(response) == refusal(502, "bad_upstream_response")
    assert recorded(service) == failed("bad_upstream_response")
    assert len(upstream.connections) == 1


@EITHER_WAY
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="status is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="header without a colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"x" * MEGABYTE + b"\r\n\r\n", id="header of a megabyte"),
        pytest.param(b"\x00" * 1000, id="zeros"),
    ],
)
def test_u9_what_is_not_http_is_a_bad_answer(scripted, path, answer):
    service, upstream = scripted
    upstream.handler = raw(answer)

    response = post(service, path)

    assert seen(response) == refusal(502, "bad_upstream_response")
    assert recorded(service) == failed("bad_upstream_response")
    assert len(upstream.connections) == 1


# U14: status 200, and a body that is not an answer.


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>It works!</html>", id="a page"),
        pytest.param(GOOD[:-3], id="half of it"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"choices": []}', id="no choices"),
        pytest.param(b'{"choices": null}', id="null for choices"),
        pytest.param(b'{"choices": [{}]}', id="a choice without a message"),
        pytest.param(b'{"choices": [{"message": {"content": 5}}]}', id="a number for text"),
        pytest.param(b'{"choices": [{"message": {"content": "\xff"}}]}', id="not UTF-8"),
        pytest.param(b'{"choices": [{"message": {"content": "\\ud800"}}]}', id="half a surrogate pair"),
        pytest.param(b'{"choices": ' + b"[" * 100_000, id="deep nesting"),
    ],
)
def test_u14_a_body_that_is_not_an_answer_is_a_bad_answer(scripted, body):
    service, upstream = scripted
    upstream.handler = good(body)

    response = post(service, ASK)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=200)
    assert recorded(service) == failed("bad_upstream_response")


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(good(b"<html>It works!</html>", content_type="text/html"), id="a page"),
        pytest.param(completion(), id="a whole answer"),
        pytest.param(good(b"", content_type="application/json"), id="nothing"),
        pytest.param(good(b"[" * 100_000), id="deep nesting"),
    ],
)
def test_u14_what_is_not_a_stream_is_a_bad_answer_when_a_stream_was_asked_for(scripted, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, STREAMING)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=200)
    assert recorded(service) == failed("bad_upstream_response")


def test_u14_an_answer_may_hold_any_character(scripted):
    service, upstream = scripted
    text = "a\x00b \u2028 \ufeff 😀 \r\n \x1b[31m"
    upstream.handler = completion(text)

    answer = post(service, ASK).json()["answer"]

    assert answer == text
    assert recorded(service)[2] == text


# U15: status 200, and an error in the body. A number in it is the status that the provider means.

FAULTS = [
    pytest.param({"error": {"message": "no", "code": None}}, (502, "bad_upstream_response", 200), id="no code"),
    pytest.param({"error": {"message": "no", "code": "busy"}}, (502, "bad_upstream_response", 200), id="a word"),
    pytest.param({"error": "no"}, (502, "bad_upstream_response", 200), id="a string"),
    pytest.param({"error": {}}, (502, "bad_upstream_response", 200), id="an empty object"),
    pytest.param({"error": {"code": True}}, (502, "bad_upstream_response", 200), id="a truth value"),
    pytest.param({"error": {"code": 1003}}, (502, "bad_upstream_response", 200), id="a number that is no status"),
    pytest.param({"error": {"code": 2**64 - 1}}, (502, "bad_upstream_response", 200), id="a huge number"),
    pytest.param({"error": {"code": 502}, "choices": []}, (502, "bad_upstream_response", 502), id="502"),
    pytest.param({"error": {"code": 400, "message": "too long"}}, (400, "upstream_rejected", 400), id="400"),
    pytest.param({"error": {"code": 429}}, (429, "upstream_rate_limited", 429), id="429"),
    pytest.param({"error": {"code": 408}}, (504, "upstream_timeout", 408), id="408"),
]


@pytest.mark.parametrize(("body", "expected"), FAULTS)
def test_u15_an_error_that_came_with_status_200_is_an_error(scripted, body, expected):
    service, upstream = scripted
    upstream.handler = good(json.dumps(body).encode())
    code, name, upstream_status = expected

    response = post(service, ASK)

    assert seen(response) == refusal(code, name, upstream_status=upstream_status)
    assert recorded(service) == failed(name)


@pytest.mark.parametrize(("body", "expected"), FAULTS)
def test_u15_the_same_holds_when_a_stream_was_asked_for(scripted, body, expected):
    service, upstream = scripted
    upstream.handler = good(json.dumps(body).encode())
    code, name, upstream_status = expected

    response = post(service, STREAMING)

    assert seen(response) == refusal(code, name, upstream_status=upstream_status)
    assert recorded(service) == failed(name)


def test_u15_an_error_beside_an_answer_is_an_error(scripted):
    service, upstream = scripted
    choice = {"message": {"content": "half an"}, "finish_reason": "error", "error": {"code": 502, "message": "no"}}
    upstream.handler = good(json.dumps({"choices": [choice]}).encode())

    response = post(service, ASK)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=200)


def test_u15_an_error_of_null_is_no_error(scripted):
    service, upstream = scripted
    upstream.handler = completion("pong", error=None)

    response = post(service, ASK)

    assert response.json()["answer"] == "pong"


# U17 to U19: the rate limit of our account.


@EITHER_WAY
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param("retry-after: 7\r\n", 7.0, id="seconds"),
        pytest.param("Retry-After:0\r\n", 0.0, id="at once"),
        pytest.param("retry-after: 999999999\r\n", 86_400.0, id="31 years"),
        pytest.param("retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 0.0, id="a date in the past"),
        pytest.param("retry-after: -3\r\n", None, id="negative"),
        pytest.param("retry-after: soon\r\n", None, id="a word"),
        pytest.param("", None, id="none"),
    ],
)
def test_u17_u18_u19_a_rate_limit_is_passed_on_with_its_wait(scripted, path, header, seconds):
    service, upstream = scripted
    upstream.handler = error(429, kind="rate_limit_exceeded", headers=header)

    response = post(service, path)

    told = seen(response)
    wait = told.pop("retry-after")
    expected = refusal(429, "upstream_rate_limited", upstream_status=429, retry_after=seconds)
    expected.pop("retry-after")
    assert told == expected
    assert wait == (None if seconds is None else f"{seconds:.0f}")
    assert recorded(service) == failed("upstream_rate_limited")
    assert len(upstream.connections) == 1


def test_u18_a_date_to_come_is_told_in_seconds(scripted):
    service, upstream = scripted
    upstream.handler = error(429, headers=f"retry-after: {formatdate(time.time() + 100, usegmt=True)}\r\n")

    response = post(service, ASK)

    assert 97 < response.json()["error"]["retry_after"] <= 100
    assert 98 <= int(response.headers["retry-after"]) <= 100


# U20: our account has no money left. That is not the client's fault, and waiting does not help.


@EITHER_WAY
@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(error(429, kind="insufficient_quota", headers="retry-after: 9\r\n"), id="OpenAI's way"),
        pytest.param(error(402, headers="retry-after: 9\r\n"), id="OpenRouter's way"),
    ],
)
def test_u20_an_empty_account_is_not_worth_another_try(scripted, path, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, path)

    told = seen(response)
    expected = refusal(502, "provider_quota", upstream_status=told["upstream_status"], should_retry=False)
    assert told == expected
    assert told["upstream_status"] in {402, 429}
    assert recorded(service) == failed("provider_quota")
    assert len(upstream.connections) == 1


# U21, U22: failures of the provider itself.


@EITHER_WAY
@pytest.mark.parametrize("code", [500, 501, 502, 504, 520, 599])
def test_u21_a_failure_of_the_provider_is_502_after_one_try(scripted, path, code):
    service, upstream = scripted
    upstream.handler = error(code, "Traceback: /srv/app.py", headers="retry-after: 3\r\n")

    response = post(service, path)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=code)
    assert "Traceback" not in response.text
    assert recorded(service) == failed("bad_upstream_response")
    assert len(upstream.connections) == 1


@EITHER_WAY
@pytest.mark.parametrize("code", [503, 529])
@pytest.mark.parametrize(("header", "seconds"), [("retry-after: 3\r\n", 3), ("", 5), ("retry-after: soon\r\n", 5)])
def test_u22_an_overloaded_provider_is_503_and_says_when_to_come_back(scripted, path, code, header, seconds):
    service, upstream = scripted
    upstream.handler = status(code, b"<html>try later</html>", headers=header, content_type="text/html")

    response = post(service, path)

    told = seen(response)
    assert told.pop("retry-after") == str(seconds)
    expected = refusal(503, "upstream_overloaded", upstream_status=code, retry_after=seconds)
    expected.pop("retry-after")
    assert told == expected
    assert recorded(service) == failed("upstream_overloaded")


# U23: the provider does not like our key. The client's own is fine, and must not look as if it were not.


@EITHER_WAY
@pytest.mark.parametrize("code", [401, 403])
def test_u23_a_refused_provider_key_does_not_look_like_a_refused_client(scripted, path, code):
    service, upstream = scripted
    upstream.handler = error(code, "Incorrect API key provided", headers='www-authenticate: Bearer realm="x"\r\n')

    response = post(service, path)

    assert seen(response) == refusal(502, "provider_auth", upstream_status=code, should_retry=False)
    assert "www-authenticate" not in response.headers
    assert "operator" in response.json()["error"]["message"]
    assert recorded(service) == failed("provider_auth")


# U24: the provider refuses the request itself.


@EITHER_WAY
@pytest.mark.parametrize("code", [400, 404, 413, 422])
def test_u24_a_refused_request_keeps_its_status_and_its_words(scripted, path, code):
    service, upstream = scripted
    upstream.handler = error(code, "This model's maximum context length is 10 tokens.", kind="context_length_exceeded")

    response = post(service, path)

    assert seen(response) == refusal(code, "upstream_rejected", upstream_status=code)
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["message"] == "openai: This model's maximum context length is 10 tokens."
    assert recorded(service) == failed("upstream_rejected")
    assert len(upstream.connections) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "openai: refused the request with status 400", id="empty"),
        pytest.param(b"<html>no</html>", "openai: refused the request with status 400", id="a page"),
        pytest.param(b"[" * 100_000, "openai: refused the request with status 400", id="deep nesting"),
        pytest.param(b'{"error": {"message": "\xff"}}', "openai: refused the request with status 400", id="not UTF-8"),
        pytest.param(b'{"error": {"message": 5}}', "openai: refused the request with status 400", id="no text"),
        pytest.param(b'{"error": "no such model"}', "openai: no such model", id="a string"),
        pytest.param(b'{"object": "error", "message": "too long", "code": 400}', "openai: too long", id="vLLM"),
        pytest.param(b'{"error": {"message": "a\\nb\\u001b[31m"}}', "openai: a b [31m", id="control characters"),
        pytest.param(json.dumps({"error": "x" * 10_000}).encode(), "openai: " + "x" * 500, id="a long text"),
    ],
)
def test_u24_the_words_of_a_refusal_are_read_with_care(scripted, body, message):
    service, upstream = scripted
    upstream.handler = status(400, body)

    response = post(service, ASK)

    assert seen(response) == refusal(400, "upstream_rejected", upstream_status=400)
    assert response.json()["error"]["message"] == message


@pytest.mark.parametrize("code", [405, 409, 410, 415, 418, 451])
def test_u24_other_refusals_are_not_the_clients_doing(scripted, code):
    service, upstream = scripted
    upstream.handler = error(code)

    response = post(service, ASK)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=code)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("content-length: 100\r\n\r\n{", id="cut short"),
        pytest.param("content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc", id="compressed"),
    ],
)
def test_u24_a_refusal_whose_body_cannot_be_read_keeps_its_status(scripted, rest):
    service, upstream = scripted
    upstream.handler = raw(f"HTTP/1.1 429 X\r\nretry-after: 9\r\n{rest}".encode())

    response = post(service, ASK)

    assert response.headers["retry-after"] == "9"
    assert response.json()["error"]["code"] == "upstream_rate_limited"


# U25: a redirect would carry our key to somebody else.


@EITHER_WAY
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_u25_a_redirect_is_not_followed(scripted, path, code):
    service, upstream = scripted
    with Upstream() as elsewhere:
        upstream.handler = status(code, headers=f"location: {elsewhere.url}/chat/completions\r\n")

        response = post(service, path)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=code)
    assert "location" not in response.headers
    assert str(elsewhere.port) not in response.text
    assert elsewhere.accepted == 0
    assert len(upstream.connections) == 1
    assert recorded(service) == failed("bad_upstream_response")


# U26, U28: too much of it. The limit is a million bytes here.


@EITHER_WAY
@pytest.mark.parametrize("status_line", ["200 OK", "500 X"])
@pytest.mark.parametrize(
    "framing", ["content-length: 1000000000000", "transfer-encoding: chunked", "connection: close"]
)
def test_u26_a_huge_answer_is_cut_at_the_limit_and_costs_no_memory(scripted, path, status_line, framing):
    service, upstream = scripted
    sent = []
    head = f"HTTP/1.1 {status_line}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n".encode()
    block = b" " * MEGABYTE
    if "chunked" in framing:
        block = b"%x\r\n%s\r\n" % (len(block), block)
    upstream.handler = flood(head, block, megabytes=200, sent=sent)
    before = memory(service, "VmRSS")

    response = post(service, path)

    upstream_status = 500 if status_line == "500 X" else None
    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=upstream_status)
    assert sent[0] < 20 * MEGABYTE
    assert memory(service, "VmHWM") - before < 16 * MEGABYTE
    assert recorded(service) == failed("bad_upstream_response")


def test_u26_an_answer_just_below_the_limit_is_taken(scripted):
    service, upstream = scripted
    upstream.handler = completion("x" * 999_000)

    response = post(service, ASK)

    assert len(response.json()["answer"]) == 999_000


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "GZIP", "identity, gzip"])
def test_u28_a_compressed_answer_is_not_unpacked(scripted, coding):
    service, upstream = scripted
    bomb = gzip.compress(b" " * 20 * MEGABYTE, 1)
    upstream.handler = good(bomb, headers=f"content-encoding: {coding}\r\n")
    before = memory(service, "VmRSS")

    response = post(service, ASK)

    assert upstream.connections[0].header("accept-encoding") == "identity"
    assert seen(response) == refusal(502, "bad_upstream_response")
    assert memory(service, "VmHWM") - before < 10 * MEGABYTE


def test_u28_a_compressed_stream_is_not_unpacked(scripted):
    service, upstream = scripted
    bomb = gzip.compress(b": ping\n\n" * MEGABYTE)
    upstream.handler = good(bomb, headers="content-encoding: gzip\r\n", content_type="text/event-stream")

    response = post(service, STREAMING)

    assert seen(response) == refusal(502, "bad_upstream_response")


# U29: headers of an answer are the provider's business with us.

ODD = (
    "set-cookie: session=1\r\nserver: evil\r\nx-request-id: theirs\r\naccess-control-allow-origin: *\r\n"
    "strict-transport-security: max-age=1\r\nx-ratelimit-remaining: 0\r\nlocation: /x\r\n"
)


@pytest.mark.parametrize(
    ("path", "handler", "code"),
    [
        pytest.param(ASK, good(GOOD, headers=ODD), 200, id="answer"),
        pytest.param(
            STREAMING,
            good(delta("pong") + finish(), headers=ODD, content_type="text/event-stream"),
            200,
            id="stream",
        ),
        pytest.param(ASK, error(500, headers=ODD), 502, id="error"),
    ],
)
def test_u29_headers_of_the_provider_are_not_passed_on(scripted, path, handler, code):
    service, upstream = scripted
    ours = {"date", "content-length", "content-type", "x-request-id", "cache-control", "x-accel-buffering"}
    upstream.handler = handler

    response = post(service, path)

    assert response.status_code == code
    assert set(response.headers) - {"transfer-encoding", "connection"} <= ours
    assert response.headers["x-request-id"] != "theirs"


def test_u29_a_second_answer_to_one_request_is_not_given_to_the_next_caller(scripted):
    service, upstream = scripted

    async def twice(connection):
        body = json.dumps({"choices": [{"message": {"content": "not for you"}}]}).encode()
        await connection.send(sized_head(len(GOOD)) + GOOD + sized_head(len(body)) + body)

    upstream.handler = twice
    first = post(service, ASK)
    upstream.handler = completion("for you")

    second = post(service, ASK)

    assert (first.json()["answer"], second.json()["answer"]) == ("pong", "for you")


# U33, U34: odd, but an answer.


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(
            stream(
                b'data: {"id": 5, "model": "another", "choices": [{"index": 7, "delta": {"content": "po"}}]}\n\n',
                b'data: {"choices": [{"delta": {"tool_calls": [{"index": 3}], "content": null}}]}\n\n',
                b'data: {"choices": [{"delta": {"content": "ng", "x": 1}, "logprobs": null}]}\n\n',
                finish(),
            ),
            id="odd fields",
        ),
        pytest.param(stream(b'data: {"choices": []}\n\n', b"data: {}\n\n", delta("pong"), finish()), id="no choices"),
        pytest.param(
            stream(b'data: {"choices": [{"delta": {"content": "pong"}, "finish_reason": ""}]}\n\n', finish()),
            id="an empty finish reason",
        ),
        pytest.param(words("po", "ng"), id="plain"),
    ],
)
def test_u33_odd_chunks_are_still_an_answer(scripted, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, STREAMING)

    text, done = streamed(response)
    assert (text, done["finish_reason"]) == ("pong", "stop")
    assert recorded(service)[:3] == ("completed", None, "pong")


def test_u33_an_empty_finish_reason_does_not_finish_an_answer(scripted):
    service, upstream = scripted
    upstream.handler = stream(b'data: {"choices": [{"delta": {"content": "po"}, "finish_reason": ""}]}\n\n')

    response = post(service, STREAMING)

    assert broken_off(response) == ("po", failure("upstream_stream_truncated"))


def test_u33_the_model_is_the_one_that_was_asked_for(scripted):
    service, upstream = scripted
    upstream.handler = completion("pong", model="another", id=7)

    answer = post(service, ASK, model="mine").json()

    assert answer["model"] == "mine"


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_u34_an_interim_answer_is_skipped(scripted, interim):
    service, upstream = scripted
    upstream.handler = raw(interim + sized_head(len(GOOD)) + GOOD)

    response = post(service, ASK)

    assert response.json()["answer"] == "pong"


def test_u34_trailers_are_skipped(scripted):
    service, upstream = scripted
    upstream.handler = raw(CHUNKED_HEAD + b"%x\r\n%s\r\n0\r\nx-trailer: 1\r\n\r\n" % (len(GOOD), GOOD))

    response = post(service, ASK)

    assert response.json()["answer"] == "pong"


@EITHER_WAY
@pytest.mark.parametrize(
    ("answer", "upstream_status"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 101),
    ],
)
def test_u34_no_content_is_no_answer(scripted, path, answer, upstream_status):
    service, upstream = scripted

    async def handle(connection):
        await connection.send(answer)
        await asyncio.sleep(0)
        connection.writer.close()

    upstream.handler = handle

    response = post(service, path)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=upstream_status)
