"""U24, U25, C14: the provider refuses the request itself, or sends us elsewhere."""

import json

import pytest

from tests.outcome import (
    AS_CHAT,
    CHAT,
    EVERY_WAY,
    RESPONSES,
    Way,
    failed,
    post,
    recorded,
    refusal,
    said,
    sampled,
    seen,
    tried,
)
from tests.upstream import Upstream, error, raw, status

REJECTED, TOO_LONG, FILTERED = "upstream_rejected", "context_length_exceeded", "content_filter"
TOO_LONG_WORDS = "This model's maximum context length is 10 tokens."


# U24: what the caller sent.


@sampled(EVERY_WAY, pytest.mark.parametrize("code", [400, 404, 413, 422]))
def test_u24_a_refused_request_keeps_its_status_and_its_words(scripted, way, code):
    service, upstream = scripted
    upstream.handler = error(code, "The model cannot do that.", kind="invalid_request_error")

    response = post(service, way)

    assert seen(response) == refusal(code, REJECTED, way=way, upstream_status=code)
    assert response.json()["error"]["message"] == "openai: The model cannot do that."
    assert recorded(service) == failed(REJECTED)
    assert tried(service) == [("openai", REJECTED, code)]
    assert len(upstream.connections) == 1


@sampled(EVERY_WAY, pytest.mark.parametrize("code", [400, 413, 422]))
def test_u24_a_request_that_is_too_long_is_told_by_a_code_of_its_own(scripted, way, code):
    service, upstream = scripted
    upstream.handler = error(code, TOO_LONG_WORDS, kind="invalid_request_error")

    response = post(service, way)

    assert seen(response) == refusal(400, TOO_LONG, way=way, upstream_status=code)
    assert response.json()["error"]["message"] == f"openai: {TOO_LONG_WORDS}"
    assert recorded(service) == failed(TOO_LONG)
    assert tried(service) == [("openai", TOO_LONG, code)]


@EVERY_WAY
def test_u24_a_request_that_was_filtered_is_told_by_a_code_of_its_own(scripted, way):
    service, upstream = scripted
    upstream.handler = error(400, "The prompt triggered our policy.", kind="content_filter")

    response = post(service, way)

    assert seen(response) == refusal(400, FILTERED, way=way, upstream_status=400)
    assert recorded(service) == failed(FILTERED)
    assert tried(service) == [("openai", FILTERED, 400)]


@sampled(EVERY_WAY, pytest.mark.parametrize("code", [400, 413, 422]))
def test_u24_what_the_caller_did_wrong_no_other_provider_is_asked(gateway, routed, way, code):
    upstreams = routed("a", "b")
    upstreams["a"].handler = error(code)

    response = post(gateway, way)

    assert seen(response) == refusal(code, REJECTED, way=way, provider="a", upstream_status=code)
    assert tried(gateway) == [("a", REJECTED, code)]
    assert upstreams["b"].connections == []


@EVERY_WAY
def test_u24_a_model_that_is_gone_is_looked_for_at_another_provider(gateway, routed, way):
    upstreams = routed("a", "b")
    upstreams["a"].handler = error(404, "The model does not exist.", kind="model_not_found")

    response = post(gateway, way)

    assert said(response) == "from b"
    assert tried(gateway) == [("a", REJECTED, 404), ("b", "completed", None)]


@sampled(
    EVERY_WAY,
    pytest.mark.parametrize(("option", "kind"), [("on_context_length", TOO_LONG), ("on_content_filter", FILTERED)]),
)
def test_u24_what_one_model_refuses_goes_to_the_model_named_for_that(gateway, routed, way, option, kind):
    upstreams = routed("a", "b", models={"other": {"targets": ["c/other"]}}, **{option: "other"})
    upstreams["a"].handler = error(400, kind=kind)

    response = post(gateway, way)

    assert said(response) == "from c"
    assert response.headers["x-ai-proxy-model"] == "other"
    assert tried(gateway) == [("a", kind, 400), ("c", "completed", None)]
    assert upstreams["b"].connections == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "openai: refused the request with status 400", id="empty"),
        pytest.param(b"<html>no</html>", "openai: refused the request with status 400", id="a page"),
        pytest.param(b"[" * 100_000, "openai: refused the request with status 400", id="deep nesting"),
        pytest.param(b'{"error": {"message": "\xff"}}', "openai: refused the request with status 400", id="not UTF-8"),
        pytest.param(b'{"error": {"message": 5}}', "openai: refused the request with status 400", id="no text"),
        pytest.param(b'{"error": "no such model"}', "openai: no such model", id="a string"),
        pytest.param(b'{"object": "error", "message": "no way", "code": 400}', "openai: no way", id="vLLM"),
        pytest.param(b'{"error": {"message": "a\\nb\\u001b[31m"}}', "openai: a b [31m", id="control characters"),
        pytest.param(json.dumps({"error": "x" * 10_000}).encode(), "openai: " + "x" * 500, id="a long text"),
    ],
)
def test_u24_the_words_of_a_refusal_are_read_with_care(scripted, body, message):
    service, upstream = scripted
    upstream.handler = status(400, body)

    response = post(service, CHAT)

    assert seen(response) == refusal(400, REJECTED, upstream_status=400)
    assert response.json()["error"]["message"] == message


@AS_CHAT
@pytest.mark.parametrize("code", [405, 409, 410, 415, 418, 424, 431, 451])
def test_u24_other_refusals_keep_their_status_too(scripted, way, code):
    service, upstream = scripted
    upstream.handler = error(code)

    response = post(service, way)

    assert seen(response) == refusal(code, REJECTED, upstream_status=code)
    assert tried(service) == [("openai", REJECTED, code)]


@AS_CHAT
@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("content-length: 100\r\n\r\n{", id="cut short"),
        pytest.param("content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc", id="compressed"),
    ],
)
def test_u24_a_refusal_whose_body_cannot_be_read_keeps_its_status(scripted, way, rest):
    service, upstream = scripted
    upstream.handler = raw(f"HTTP/1.1 429 X\r\nretry-after: 9\r\n{rest}".encode())

    response = post(service, way)

    assert seen(response) == refusal(429, "upstream_rate_limited", upstream_status=429, retry_after=9)


# C14: arguments that a model made up, sent back in the history of a conversation.

HISTORY = {
    CHAT: {
        "messages": [
            {"role": "user", "content": "ping"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{oops"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ]
    },
    RESPONSES: {
        "input": [
            {"role": "user", "content": "ping"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{oops"},
            {"type": "function_call_output", "call_id": "1", "output": "done"},
        ]
    },
}
WITH_HISTORY = pytest.mark.parametrize(
    "way", [Way(path, stream) for path in HISTORY for stream in (False, True)], ids=str
)


@WITH_HISTORY
def test_c14_malformed_arguments_are_the_providers_to_judge(gateway, routed, way):
    upstreams = routed("a", "b")

    response = post(gateway, way, **HISTORY[way.path])

    assert said(response) == "from a"
    (call,) = upstreams["a"].connections[0].json["messages"][1]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": "{oops"}


@WITH_HISTORY
def test_c14_malformed_arguments_that_are_refused_are_neither_tried_again_nor_elsewhere(gateway, routed, way):
    upstreams = routed("a", "b", on_context_length="other", models={"other": {"targets": ["c/other"]}})
    upstreams["a"].handler = error(400, "Invalid tool call arguments: not JSON.")

    response = post(gateway, way, **HISTORY[way.path])

    assert seen(response) == refusal(400, REJECTED, way=way, provider="a", upstream_status=400)
    assert tried(gateway) == [("a", REJECTED, 400)]
    assert [len(upstreams[name].connections) for name in "abc"] == [1, 0, 0]


# U25: a redirect would carry our key to somebody else.


@sampled(EVERY_WAY, pytest.mark.parametrize("code", [301, 302, 303, 307, 308]))
def test_u25_a_redirect_is_not_followed(scripted, upstreams, way, code):
    service, upstream = scripted
    elsewhere: Upstream = upstreams["d"]
    accepted = elsewhere.accepted
    upstream.handler = status(code, headers=f"location: {elsewhere.url}/chat/completions\r\n")

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way, upstream_status=code)
    assert "location" not in response.headers
    assert str(elsewhere.port) not in response.text
    assert elsewhere.accepted == accepted
    assert len(upstream.connections) == 1
    assert recorded(service) == failed("bad_upstream_response")
    assert tried(service) == [("openai", "bad_upstream_response", code)]
