"""U16: an error in the stream, under the status of a good answer."""

import json

import pytest

from tests.outcome import (
    MESSAGES,
    RESPONSES,
    STREAMED,
    Way,
    broken_off,
    failed,
    failure,
    post,
    recorded,
    refusal,
    said,
    sampled,
    seen,
    tried,
)
from tests.upstream import DONE, delta, event, in_turn, stream, words

BAD, LIMITED, OVERLOADED = "bad_upstream_response", "upstream_rate_limited", "upstream_overloaded"
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})


def told(code: str, upstream_status: int, retry_after: int | None = None) -> dict:
    return {"code": code, "upstream_status": upstream_status, "retry_after": retry_after}


FAULTS = pytest.mark.parametrize(
    ("fault", "status", "facts"),
    [
        pytest.param({"error": {"message": "no", "type": "server_error"}}, 502, told(BAD, 200), id="no code"),
        pytest.param({"error": "no"}, 502, told(BAD, 200), id="a string"),
        pytest.param({"error": {"code": 429, "message": "no"}}, 429, told(LIMITED, 429), id="429"),
        pytest.param({"error": {"code": 503, "message": "no"}}, 503, told(OVERLOADED, 503, 5), id="503"),
        pytest.param({"error": {"code": 400, "message": "no"}}, 400, told("upstream_rejected", 400), id="400"),
        pytest.param(
            {"error": {"code": 502, "message": "no"}, "choices": [{"delta": {}, "finish_reason": "error"}]},
            *(502, told(BAD, 502)),
            id="502 beside a choice",
        ),
        pytest.param(
            {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
            *(502, told(BAD, 200)),
            id="a finish reason",
        ),
    ],
)


@sampled(STREAMED, FAULTS)
def test_u16_an_error_in_the_middle_becomes_the_error_event(scripted, way, fault, status, facts):
    service, upstream = scripted
    upstream.handler = stream(delta("one "), delta("two"), event(fault), DONE)

    response = post(service, way)

    assert broken_off(response) == ("one two", failure(way=way, **facts))
    assert recorded(service) == failed(facts["code"], "one two", (1, 2, True))
    assert tried(service) == [("openai", facts["code"], facts["upstream_status"])]
    assert len(upstream.connections) == 1


@sampled(STREAMED, FAULTS)
def test_u16_an_error_before_the_first_word_is_a_plain_error(scripted, way, fault, status, facts):
    service, upstream = scripted
    upstream.handler = stream(ROLE, event(fault), DONE)

    response = post(service, way, model="once")

    assert seen(response) == refusal(status, way=way, **facts)
    assert recorded(service) == failed(facts["code"])
    assert tried(service) == [("openai", facts["code"], facts["upstream_status"])]


@sampled(STREAMED, pytest.mark.parametrize(("status", "code"), [(429, LIMITED), (502, BAD), (503, OVERLOADED)]))
def test_u16_an_error_before_the_first_word_that_will_pass_is_tried_again(scripted, way, status, code):
    service, upstream = scripted
    upstream.handler = in_turn(stream(ROLE, event({"error": {"code": status}}), DONE), words("pong"))

    response = post(service, way)

    assert said(response) == "pong"
    assert tried(service) == [("openai", code, status), ("openai", "completed", None)]


@sampled(STREAMED, FAULTS)
def test_u16_before_the_first_word_another_provider_takes_over(gateway, routed, way, fault, status, facts):
    upstreams = routed("a", "b")
    upstreams["a"].handler = stream(ROLE, event(fault), DONE)

    response = post(gateway, way)

    if facts["code"] == "upstream_rejected":  # but not from a mistake of the caller's
        assert seen(response) == refusal(status, way=way, provider="a", **facts)
        assert upstreams["b"].connections == []
    else:
        assert said(response) == "from b"
        tries = [("a", facts["code"], facts["upstream_status"]), ("b", "completed", None)]
        assert tried(gateway) == tries


@STREAMED
def test_u16_after_the_first_word_nobody_takes_over(gateway, routed, way):
    upstreams = routed("a", "b")
    upstreams["a"].handler = stream(delta("one"), event({"error": {"code": 503}}), DONE)

    response = post(gateway, way)

    facts = told(OVERLOADED, 503, 5)
    assert broken_off(response) == ("one", failure(way=way, provider="a", **facts))
    assert tried(gateway) == [("a", OVERLOADED, 503)]
    assert upstreams["b"].connections == []


@STREAMED
def test_u16_the_account_that_runs_empty_in_the_middle_is_told_as_such(scripted, way):
    service, upstream = scripted
    upstream.handler = stream(delta("one"), event({"error": {"code": 402, "message": "no"}}))

    response = post(service, way)

    assert broken_off(response) == ("one", failure("provider_quota", way=way, upstream_status=402))
    assert tried(service) == [("openai", "provider_quota", 402)]


# Formats that have events before there is content, passed on as they come.


def named(*events: dict) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (body["type"].encode(), json.dumps(body).encode()) for body in events)


def response_event(kind: str, status: str = "in_progress", **fields) -> dict:
    return {"type": kind, "response": {"id": "resp_1", "object": "response", "status": status, "output": [], **fields}}


QUOTA = {"code": "insufficient_quota", "message": "You exceeded your current quota."}
BUSY = {"type": "overloaded_error", "message": "Overloaded"}
START = {
    "type": "message_start",
    "message": {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}},
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
WORD = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}}

BEGINNINGS = {
    RESPONSES: named(response_event("response.created"), response_event("response.in_progress")),
    MESSAGES: named(START, {"type": "ping"}, BLOCK),
}
FIRST_WORDS = {
    RESPONSES: named({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "one"}),
    MESSAGES: named(WORD),
}
NATIVE = pytest.mark.parametrize(
    ("path", "fault", "code", "status"),
    [
        pytest.param(RESPONSES, {"type": "error", **QUOTA}, "provider_quota", 429, id="responses, error"),
        pytest.param(
            RESPONSES,
            response_event("response.failed", "failed", error=QUOTA),
            *("provider_quota", 429),
            id="responses, failed",
        ),
        pytest.param(MESSAGES, {"type": "error", "error": BUSY}, OVERLOADED, 529, id="messages"),
    ],
)


@pytest.fixture
def natives(routed):
    """Two providers that take responses and messages as they are; b takes chat completions alone."""
    return routed("a", "b", providers={"a": {"dialects": ["chat", "responses", "messages"]}})


@NATIVE
def test_u16_another_provider_takes_over_before_content_though_there_were_events(
    gateway, natives, path, fault, code, status
):
    way = Way(path, stream=True)
    natives["a"].handler = stream(BEGINNINGS[path], named(fault))

    response = post(gateway, way)

    assert said(response) == "from b"
    assert "_1" not in response.text  # nothing of a is in it
    assert natives["a"].connections[0].head.startswith(f"POST {path} ")
    assert tried(gateway) == [("a", code, status), ("b", "completed", None)]


@NATIVE
def test_u16_nobody_takes_over_after_content_and_the_events_are_passed_on(gateway, natives, path, fault, code, status):
    way = Way(path, stream=True)
    good = BEGINNINGS[path] + FIRST_WORDS[path]
    natives["a"].handler = stream(good, named(fault))

    response = post(gateway, way)

    facts = told(code, status, 5 if code == OVERLOADED else None)
    assert response.content.startswith(good)
    assert broken_off(response) == ("one", failure(way=way, provider="a", **facts))
    assert tried(gateway) == [("a", code, status)]
    assert natives["b"].connections == []
