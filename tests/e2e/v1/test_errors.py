"""The SDKs' endpoints under /v1: what goes wrong, told in the form of each."""

import json

import pytest

from tests.service import events, frames
from tests.upstream import delta, error, event, stream
from tests.v1 import (
    ASKED,
    CHAT,
    COUNT_TOKENS,
    EACH_STREAM,
    MESSAGE_EVENTS,
    MESSAGES,
    PING,
    RESPONSE_EVENTS,
    RESPONSES,
    anthropic_error,
    asked_of,
    kept,
    post,
    sse,
)
from tests.wire import refused

TOO_LARGE = json.dumps({**ASKED[MESSAGES], "x": "a" * 30_000}).encode()
WRONG = {
    "no JSON": ({"content": b"{oops"}, 400, "invalid_request", "invalid_request_error"),
    "no object": ({"content": b"[]"}, 400, "invalid_request", "invalid_request_error"),
    "a wrong model": ({"json": {"model": 5}}, 400, "invalid_request", "invalid_request_error"),
    "too large": ({"content": TOO_LARGE}, 413, "body_too_large", "request_too_large"),
    "no JSON by its name": (
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
        *(415, "unsupported_media_type", "invalid_request_error"),
    ),
    "a model that is not served": (
        {"json": {"model": "nobody", "messages": PING, "input": "ping", "prompt": "ping", "max_tokens": 9}},
        *(404, "model_not_found", "not_found_error"),
    ),
}


@pytest.mark.parametrize("path", [path for path in ASKED if not path.startswith(MESSAGES)])
@pytest.mark.parametrize(("request_", "status_", "code", "_"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_as_openai_does(native, path, request_, status_, code, _):
    service, upstream = native

    response = service.client.post(path, **{"headers": {"content-type": "application/json"}, **request_})

    assert refused(response)[:3] == (status_, code, "client")
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert asked_of(upstream) == []


@pytest.mark.parametrize("path", [MESSAGES, COUNT_TOKENS])
@pytest.mark.parametrize(("request_", "status_", "code", "kind"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_as_anthropic_does(native, path, request_, status_, code, kind):
    service, upstream = native

    response = service.client.post(path, **{"headers": {"content-type": "application/json"}, **request_})

    assert anthropic_error(response) == (status_, kind, code)
    assert asked_of(upstream) == []


@pytest.mark.parametrize("streams", [False, True])
@EACH_STREAM
def test_a_model_that_is_not_served_is_named(native, path, streams):
    service, _ = native

    response = post(service, path, model="no/body", stream=streams)

    assert response.status_code == 404
    assert response.json()["error"]["message"].startswith("The model 'no/body' does not exist")
    assert (kept(service).status, kept(service).error) == ("failed", "model_not_found")
    assert kept(service).model == "no/body"


@pytest.mark.parametrize("path", [MESSAGES, COUNT_TOKENS])
def test_other_ways_to_go_wrong_have_anthropics_form_as_well(native, path):
    service, _ = native

    wrong_method = service.client.get(path)
    unknown = service.client.post("/v1/messages/batches", json={})
    with service.client_with("nobody's key") as stranger:
        not_let_in = stranger.post(path, json=ASKED[path])

    assert anthropic_error(wrong_method) == (405, "invalid_request_error", "method_not_allowed")
    assert wrong_method.headers["allow"] == "POST"
    assert anthropic_error(unknown) == (404, "not_found_error", "not_found")
    assert anthropic_error(not_let_in) == (401, "authentication_error", "invalid_api_key")


@pytest.mark.parametrize("path", [path for path in ASKED if not path.startswith(MESSAGES)])
def test_other_ways_to_go_wrong_have_openais_form(native, path):
    service, _ = native

    wrong_method = service.client.put(path)
    with service.client_with("nobody's key") as stranger:
        not_let_in = stranger.post(path, json=ASKED[path])

    assert refused(wrong_method)[:2] == (405, "method_not_allowed")
    assert refused(not_let_in)[:2] == (401, "invalid_api_key")
    assert not_let_in.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("failure", "as_openai", "as_anthropic"),
    [
        (error(529), (503, "upstream_overloaded"), (529, "overloaded_error", "upstream_overloaded")),
        (error(503), (503, "upstream_overloaded"), (529, "overloaded_error", "upstream_overloaded")),
        (error(429), (429, "upstream_rate_limited"), (429, "rate_limit_error", "upstream_rate_limited")),
        (error(422), (422, "upstream_rejected"), (422, "invalid_request_error", "upstream_rejected")),
        (error(401), (502, "provider_auth"), (502, "api_error", "provider_auth")),
    ],
)
def test_a_providers_failure_is_told_in_the_callers_form(native, failure, as_openai, as_anthropic, streams):
    service, upstream = native
    upstream.handler = failure

    of_chat = post(service, CHAT, model="once", stream=streams)
    of_responses = post(service, RESPONSES, model="once", stream=streams)
    of_messages = post(service, MESSAGES, model="once", stream=streams)

    assert refused(of_chat)[:3] == refused(of_responses)[:3] == (*as_openai, "provider")
    assert anthropic_error(of_messages) == as_anthropic


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_how_long_to_wait_is_told_in_both_headers(native, path):
    service, upstream = native
    upstream.handler = error(429, headers="retry-after: 70\r\n")

    response = post(service, path, model="once")

    assert response.status_code == 429
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("70", "70000")


def test_a_chat_stream_that_fails_ends_with_an_error_and_done(native):
    service, upstream = native
    upstream.handler = stream(delta("po"), event({"error": {"message": "broken", "code": 502}}))

    response = post(service, CHAT, stream=True)

    first, (_, told), done = frames(response.text)
    assert json.loads(first[1])["choices"][0]["delta"]["content"] == "po"
    assert json.loads(told)["error"]["request_id"] == response.headers["x-request-id"]
    assert done == ("", "[DONE]")
    assert (kept(service).status, kept(service).answer) == ("failed", "po")


def test_a_message_stream_that_fails_ends_with_an_error(native):
    service, upstream = native
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    upstream.handler = stream(sse(MESSAGE_EVENTS[:4]), b"event: error\n" + event(told))

    response = post(service, MESSAGES, stream=True)

    *before, (name, last) = events(response.text)
    assert [one for one, _ in before] == [one for one, _ in MESSAGE_EVENTS[:4]]
    assert (name, last["error"]["type"]) == ("error", "overloaded_error")
    assert last["request_id"] == response.headers["request-id"]
    assert (kept(service).status, kept(service).error, kept(service).answer) == ("failed", "upstream_overloaded", "pö")


def test_a_response_stream_that_fails_ends_with_the_failed_response(native):
    service, upstream = native
    upstream.handler = stream(sse(RESPONSE_EVENTS[:2]))

    response = post(service, RESPONSES, stream=True)

    *before, (name, last) = events(response.text)
    assert [one for one, _ in before] == [one for one, _ in RESPONSE_EVENTS[:2]]
    assert (name, last["sequence_number"]) == ("response.failed", 2)
    assert (last["response"]["id"], last["response"]["status"]) == ("resp_theirs", "failed")
    assert kept(service).response_id is None
    assert json.loads(kept(service).response)["output"][0]["content"][0]["text"] == "pö"


def test_a_response_stream_that_began_with_nonsense_fails_in_order(native):
    service, upstream = native
    upstream.handler = stream(b'data: {"type":"response.created","response":[]}\n\n', sse(RESPONSE_EVENTS[1:2]))

    response = post(service, RESPONSES, stream=True)

    assert events(response.text)[-1][0] == "response.failed"


def test_nobody_is_sent_to_another_address(native):
    """A redirect would name this one as we see it: without TLS, though the client may have come by it."""
    service, upstream = native

    response = service.client.post(f"{CHAT}/", json=ASKED[CHAT])

    assert refused(response)[:2] == (404, "not_found")
    assert asked_of(upstream) == []
