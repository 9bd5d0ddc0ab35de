"""U32: the provider's count of tokens, where it is missing, wrong, or comes more than once."""

import json

import pytest

from tests.outcome import ASK, CHAT, STREAMED, STREAMING, WHOLE, Way, post, recorded, said, sampled, streamed
from tests.upstream import DONE, completion, delta, event, finish, status, stream, usage

STREAMED_CHAT = Way(CHAT, stream=True)

NO_COUNTS = pytest.mark.parametrize(
    "count",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="empty"),
        pytest.param("many", id="text"),
        pytest.param([3, 4], id="a list"),
        pytest.param({"prompt_tokens": 3}, id="half"),
        pytest.param({"prompt_tokens": -3, "completion_tokens": 4}, id="negative"),
        pytest.param({"prompt_tokens": 3, "completion_tokens": -1}, id="negative output"),
        pytest.param({"prompt_tokens": 3.5, "completion_tokens": 4}, id="a fraction"),
        pytest.param({"prompt_tokens": "3", "completion_tokens": "4"}, id="numbers as text"),
        pytest.param({"prompt_tokens": True, "completion_tokens": 4}, id="a truth value"),
        pytest.param({"prompt_tokens": 2**63, "completion_tokens": 4}, id="more than a database can hold"),
        pytest.param({"prompt_tokens": 3, "completion_tokens": 10**30}, id="huge"),
    ],
)


@sampled(WHOLE, NO_COUNTS)
def test_u32_an_answer_with_a_nonsensical_count_is_whole_and_its_tokens_are_estimated(scripted, way, count):
    service, upstream = scripted
    upstream.handler = completion("pong pong", usage=count)

    response = post(service, way)

    assert said(response) == "pong pong"
    assert recorded(service) == ("completed", None, "pong pong", (1, 3, True))


@sampled(STREAMED, NO_COUNTS)
def test_u32_a_stream_with_a_nonsensical_count_is_whole_and_its_tokens_are_estimated(scripted, way, count):
    service, upstream = scripted
    upstream.handler = stream(delta("pong pong"), finish(), event({"choices": [], "usage": count}), DONE)

    response = post(service, way)

    assert said(response) == "pong pong"
    assert recorded(service) == ("completed", None, "pong pong", (1, 3, True))


@pytest.mark.parametrize("count", [None, {}, {"prompt_tokens": -3, "completion_tokens": 4}])
def test_u32_an_estimate_is_told_as_one(scripted, count):
    service, upstream = scripted
    estimate = {"input_tokens": 1, "output_tokens": 3, "estimated": True}

    upstream.handler = completion("pong pong", usage=count)
    whole = post(service, ASK).json()
    upstream.handler = stream(delta("pong pong"), finish(), event({"choices": [], "usage": count}), DONE)
    _, done = streamed(post(service, STREAMING))

    assert (whole["usage"], done["usage"]) == (estimate, estimate)


@WHOLE
def test_u32_an_answer_without_a_count_is_estimated(scripted, way):
    service, upstream = scripted
    upstream.handler = status(200, json.dumps({"choices": [{"message": {"content": "pong"}}]}).encode())

    response = post(service, way, "12345")

    assert said(response) == "pong"
    assert recorded(service) == ("completed", None, "pong", (2, 1, True))


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        ("parts", "counted"),
        [
            pytest.param([delta("pong"), finish(), DONE], (1, 1, True), id="missing"),
            pytest.param([delta("pong"), finish(), usage(3, 1), usage(3, 4), DONE], (3, 4, False), id="twice"),
            pytest.param([delta("pong"), usage(3, 4), finish(), DONE], (3, 4, False), id="before the finish"),
            pytest.param(
                [usage(3, 0), delta("pong"), usage(3, 4), finish(), DONE], (3, 4, False), id="with every chunk"
            ),
            pytest.param(
                [delta("pong"), finish(), usage(3, 4), usage(-1, -1), DONE], (3, 4, False), id="then nonsense"
            ),
            pytest.param([delta("pong"), finish(), DONE, usage(3, 4)], (1, 1, True), id="after DONE"),
            pytest.param([delta("pong"), finish(), usage(0, 0), DONE], (0, 0, False), id="zero is a count"),
        ],
    ),
)
def test_u32_the_last_count_before_done_is_taken(scripted, way, parts, counted):
    service, upstream = scripted
    upstream.handler = stream(*parts)

    response = post(service, way)

    assert said(response) == "pong"
    assert recorded(service) == ("completed", None, "pong", counted)


# Of a stream, the provider is asked for a count always; the client sees it only if it asked for it, too.

COUNT = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


@STREAMED
def test_u32_a_stream_is_asked_to_count_its_tokens(scripted, way):
    service, upstream = scripted
    upstream.handler = stream(delta("pong"), finish(), usage(), DONE)

    post(service, way)

    assert upstream.connections[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        pytest.param(None, {"include_usage": True}, id="null"),
        pytest.param({}, {"include_usage": True}, id="empty"),
        pytest.param({"include_usage": False}, {"include_usage": True}, id="false"),
        pytest.param({"x": 1}, {"x": 1, "include_usage": True}, id="another option"),
    ],
)
def test_u32_a_count_that_the_client_did_not_ask_for_is_kept_from_it(scripted, options, sent):
    service, upstream = scripted
    upstream.handler = stream(delta("pong"), finish(), event(COUNT), DONE)

    response = post(service, STREAMED_CHAT, stream_options=options)

    assert response.content == delta("pong") + finish() + DONE
    assert upstream.connections[0].json["stream_options"] == sent
    assert recorded(service) == ("completed", None, "pong", (3, 4, False))


def test_u32_a_count_that_the_client_asked_for_is_passed_on(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("pong"), finish(), event(COUNT), DONE)

    response = post(service, STREAMED_CHAT, stream_options={"include_usage": True})

    assert response.content == delta("pong") + finish() + event(COUNT) + DONE


def test_u32_a_count_beside_a_choice_is_passed_on_in_any_case(scripted):
    service, upstream = scripted
    last = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": COUNT["usage"]})
    upstream.handler = stream(delta("pong"), last, DONE)

    response = post(service, STREAMED_CHAT)

    assert response.content == delta("pong") + last + DONE
    assert recorded(service) == ("completed", None, "pong", (3, 4, False))
