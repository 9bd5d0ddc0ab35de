"""U9, U14, U15: an answer that is cut short, is something else, or is an error under the status of a good one."""

import json

import pytest

from tests.outcome import EVERY_WAY, STREAMED, WHOLE, failed, post, recorded, refusal, said, sampled, seen, tried
from tests.upstream import answer, completion, in_turn, raw, status

MEGABYTE = 2**20
GOOD = json.dumps({"choices": [{"message": {"content": "pong"}, "finish_reason": "stop"}]}).encode()
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


def sized_head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length


def good(body: bytes, **options):
    """An answer with status 200, whatever its body is."""
    return status(200, body, **options)


# U9: the connection ends in the middle of the answer.


@sampled(
    WHOLE,
    pytest.mark.parametrize(
        "answer",
        [
            pytest.param(sized_head(500) + GOOD, id="shorter than announced"),
            pytest.param(CHUNKED_HEAD + b"fff\r\n" + GOOD, id="in the middle of a chunk"),
            pytest.param(CHUNKED_HEAD + b"%x\r\n%s\r\n" % (len(GOOD), GOOD), id="without the last chunk"),
            pytest.param(CHUNKED_HEAD + b"zz\r\n" + GOOD, id="chunk size is no number"),
        ],
    ),
)
def test_u9_an_answer_cut_short_is_a_bad_answer(scripted, way, answer):
    service, upstream = scripted
    upstream.handler = raw(answer)

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way)
    assert recorded(service) == failed("bad_upstream_response")
    assert tried(service) == [("openai", "bad_upstream_response", None)]
    assert len(upstream.connections) == 1


@sampled(
    EVERY_WAY,
    pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
            pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="status is no number"),
            pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="header without a colon"),
            pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"x" * MEGABYTE + b"\r\n\r\n", id="header of a megabyte"),
            pytest.param(b"\x00" * 1000, id="zeros"),
        ],
    ),
)
def test_u9_what_is_not_http_is_a_bad_answer(scripted, way, answer):
    service, upstream = scripted
    upstream.handler = raw(answer)

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way)
    assert recorded(service) == failed("bad_upstream_response")
    assert tried(service) == [("openai", "bad_upstream_response", None)]
    assert len(upstream.connections) == 1


# U14: status 200, and a body that is not an answer.


@sampled(
    WHOLE,
    pytest.mark.parametrize(
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
    ),
)
def test_u14_a_body_that_is_not_an_answer_is_a_bad_answer(scripted, way, body):
    service, upstream = scripted
    upstream.handler = good(body)

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=200, way=way)
    assert recorded(service) == failed("bad_upstream_response")
    assert tried(service) == [("openai", "bad_upstream_response", 200)]


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        "handler",
        [
            pytest.param(good(b"<html>It works!</html>", content_type="text/html"), id="a page"),
            pytest.param(completion(), id="a whole answer"),
            pytest.param(good(b"", content_type="application/json"), id="nothing"),
            pytest.param(good(b"[" * 100_000), id="deep nesting"),
        ],
    ),
)
def test_u14_what_is_not_a_stream_is_a_bad_answer_when_a_stream_was_asked_for(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=200, way=way)
    assert recorded(service) == failed("bad_upstream_response")
    assert tried(service) == [("openai", "bad_upstream_response", 200)]


@WHOLE
def test_u14_an_answer_may_hold_any_character(scripted, way):
    service, upstream = scripted
    text = "a\x00b \u2028 \ufeff 😀 \r\n \x1b[31m"
    upstream.handler = completion(text)

    answer = said(post(service, way))

    assert answer == text
    assert recorded(service)[2] == text


@EVERY_WAY
def test_u9_u14_another_provider_takes_over_from_one_that_sends_rubbish(gateway, routed, way):
    upstreams = routed("a", "b", "c")
    upstreams["a"].handler = raw(b"SSH-2.0-OpenSSH_9.2\r\n")
    upstreams["b"].handler = good(b"<html>It works!</html>", content_type="text/html")

    response = post(gateway, way)

    assert said(response) == "from c"
    bad = "bad_upstream_response"
    assert tried(gateway) == [("a", bad, None), ("b", bad, 200), ("c", "completed", None)]


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


@sampled(EVERY_WAY, pytest.mark.parametrize(("body", "expected"), FAULTS))
def test_u15_an_error_that_came_with_status_200_is_an_error(scripted, way, body, expected):
    service, upstream = scripted
    upstream.handler = good(json.dumps(body).encode())
    code, name, upstream_status = expected

    response = post(service, way, model="once")

    assert seen(response) == refusal(code, name, upstream_status=upstream_status, way=way)
    assert recorded(service) == failed(name)
    assert tried(service) == [("openai", name, upstream_status)]


@EVERY_WAY
def test_u15_an_error_that_will_pass_is_tried_again_though_it_came_with_status_200(scripted, way):
    service, upstream = scripted
    overloaded = good(json.dumps({"error": {"code": 503}}).encode())
    upstream.handler = in_turn(overloaded, answer("pong"))

    response = post(service, way)

    assert said(response) == "pong"
    assert tried(service) == [("openai", "upstream_overloaded", 503), ("openai", "completed", None)]


@WHOLE
def test_u15_an_error_beside_an_answer_is_an_error(scripted, way):
    service, upstream = scripted
    choice = {"message": {"content": "half an"}, "finish_reason": "error", "error": {"code": 502, "message": "no"}}
    upstream.handler = good(json.dumps({"choices": [choice]}).encode())

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", upstream_status=200, way=way)


@WHOLE
def test_u15_an_error_of_null_is_no_error(scripted, way):
    service, upstream = scripted
    upstream.handler = completion("pong", error=None)

    response = post(service, way)

    assert said(response) == "pong"
