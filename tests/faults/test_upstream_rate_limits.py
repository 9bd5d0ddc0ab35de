"""U17 to U20: the provider limits the rate of our calls, or our account has no money left."""

import time
from email.utils import formatdate

import pytest

from tests.outcome import AS_CHAT, CHAT, EVERY_WAY, failed, post, recorded, refusal, said, sampled, seen, tried
from tests.upstream import answer, error, in_turn

LIMITED = "upstream_rate_limited"


def limited(wait: object = None):
    """A 429, and how long to wait in the words of the header."""
    header = "" if wait is None else f"retry-after: {wait}\r\n"
    return error(429, kind="rate_limit_exceeded", headers=header)


@EVERY_WAY
def test_u17_a_wait_that_fits_into_the_call_is_waited_for(scripted, way):
    service, upstream = scripted
    upstream.handler = in_turn(limited(0.2), answer("pong"))
    began = time.monotonic()

    response = post(service, way)

    assert time.monotonic() - began > 0.2
    assert said(response) == "pong"
    assert tried(service) == [("openai", LIMITED, 429), ("openai", "completed", None)]
    assert len(upstream.connections) == 2


@EVERY_WAY
def test_u17_a_wait_that_does_not_fit_is_passed_on_at_once_and_kept_to(scripted, way):
    service, upstream = scripted
    upstream.handler = limited(7)
    began = time.monotonic()

    first = post(service, way)
    tries = tried(service)
    second = post(service, way)

    assert time.monotonic() - began < 2
    assert seen(first) == refusal(429, LIMITED, way=way, upstream_status=429, retry_after=7)
    assert tries == [("openai", LIMITED, 429)]
    assert (second.status_code, second.json()["error"]["code"]) == (429, LIMITED)
    assert 5 <= int(second.headers["retry-after"]) <= 7
    assert recorded(service) == failed(LIMITED)
    assert tried(service) == []
    assert len(upstream.connections) == 1


@EVERY_WAY
def test_u17_another_provider_takes_over_and_the_first_is_left_alone(gateway, routed, way):
    upstreams = routed("a", "b")
    upstreams["a"].handler = limited(7)

    first = post(gateway, way)
    tries = tried(gateway)
    second = post(gateway, way)

    assert (said(first), said(second)) == ("from b", "from b")
    assert tries == [("a", LIMITED, 429), ("b", "completed", None)]
    assert tried(gateway) == [("b", "completed", None)]
    assert len(upstreams["a"].connections) == 1


@AS_CHAT
def test_u17_of_several_waits_the_client_is_told_the_shortest(gateway, routed, way):
    upstreams = routed("a", "b", total_timeout=3)
    upstreams["a"].handler, upstreams["b"].handler = limited(9), limited(5)

    response = post(gateway, way)

    assert seen(response) == refusal(429, LIMITED, way=way, provider="b", upstream_status=429, retry_after=5)
    assert tried(gateway) == [("a", LIMITED, 429), ("b", LIMITED, 429)]


def test_u17_another_model_of_the_provider_is_not_cooled_down(gateway, routed):
    upstreams = routed("a", models={"other": {"targets": ["a/other"]}}, total_timeout=3)
    upstreams["a"].handler = in_turn(limited(7), answer("pong"))
    post(gateway, CHAT)

    response = post(gateway, CHAT, model="other")

    assert said(response) == "pong"


def test_u17_another_key_of_the_provider_takes_over(gateway, routed):
    upstreams = routed("a", providers={"a": {"api_keys": ["first-key-0123", "second-key-0123"]}})
    upstreams["a"].handler = in_turn(limited(7), answer("pong"))

    responses = [post(gateway, CHAT) for _ in range(3)]

    assert [said(response) for response in responses] == ["pong"] * 3
    first, *others = [connection.header("authorization") for connection in upstreams["a"].connections]
    assert len(others) == 3
    assert first not in others


@AS_CHAT
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param("0", 0.0, id="at once"),
        pytest.param("999999999", 86_400.0, id="31 years"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 0.0, id="a date in the past"),
        pytest.param("-3", None, id="negative"),
        pytest.param("inf", None, id="for ever"),
        pytest.param("nan", None, id="not a number"),
        pytest.param("soon", None, id="a word"),
        pytest.param("Wed, 99 Oct 2099 07:28:00 GMT", None, id="no date"),
    ],
)
def test_u18_a_wait_is_read_with_care(scripted, way, header, seconds):
    service, upstream = scripted
    upstream.handler = limited(header)

    response = post(service, way, model="once")

    assert seen(response) == refusal(429, LIMITED, way=way, upstream_status=429, retry_after=seconds)
    assert tried(service) == [("openai", LIMITED, 429)]
    assert len(upstream.connections) == 1


@pytest.mark.parametrize("seconds", [100, 365 * 86_400], ids=["soon", "in a year"])
def test_u18_a_date_to_come_is_told_in_seconds(scripted, seconds):
    service, upstream = scripted
    upstream.handler = limited(formatdate(time.time() + seconds, usegmt=True))
    expected = min(seconds, 86_400)

    response = post(service, CHAT)

    assert expected - 3 < response.json()["error"]["retry_after"] <= expected
    assert expected - 2 <= int(response.headers["retry-after"]) <= expected
    assert tried(service) == [("openai", LIMITED, 429)]


@EVERY_WAY
def test_u19_without_a_wait_it_is_tried_once_more_after_a_moment(scripted, way):
    service, upstream = scripted
    upstream.handler = limited()

    response = post(service, way)

    assert seen(response) == refusal(429, LIMITED, way=way, upstream_status=429)
    assert recorded(service) == failed(LIMITED)
    assert tried(service) == [("openai", LIMITED, 429)] * 2
    assert len(upstream.connections) == 2


def test_u19_without_a_wait_the_target_is_left_alone_for_a_second(gateway, routed):
    upstreams = routed("a", "b")
    upstreams["a"].handler = in_turn(limited(), answer("from a"))

    answers = [said(post(gateway, CHAT)) for _ in range(2)]
    time.sleep(1.1)
    answers.append(said(post(gateway, CHAT)))

    assert answers == ["from b", "from b", "from a"]


# U20: that is not the client's fault, and waiting does not help.

EMPTY = pytest.mark.parametrize(
    ("handler", "status"),
    [
        pytest.param(error(429, kind="insufficient_quota", headers="retry-after: 9\r\n"), 429, id="OpenAI's way"),
        pytest.param(error(402, headers="retry-after: 9\r\n"), 402, id="OpenRouter's way"),
    ],
)


@sampled(EVERY_WAY, EMPTY)
def test_u20_an_empty_account_is_not_worth_another_try(scripted, way, handler, status):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert seen(response) == refusal(502, "provider_quota", way=way, upstream_status=status)
    assert recorded(service) == failed("provider_quota")
    assert tried(service) == [("openai", "provider_quota", status)]
    assert len(upstream.connections) == 1


@EMPTY
def test_u20_the_whole_account_is_parked_and_its_operator_is_told(gateway, routed, handler, status):
    upstreams = routed("a", "b", models={"other": {"targets": ["a/other", "b/other"]}})
    upstreams["a"].handler = handler
    before = len(gateway.log())

    answers = [said(post(gateway, CHAT, model=model)) for model in ("small", "small", "other")]

    assert answers == ["from b"] * 3
    assert len(upstreams["a"].connections) == 1
    told = [line for line in gateway.log()[before:] if line["level"] == "error"]
    assert [(line["target"], line["error"], line["parked"]) for line in told] == [
        ("a/model-of-a", "provider_quota", "key")
    ]
