"""U21 to U23: the provider fails, is overloaded, or does not like our key."""

import pytest

from tests.outcome import AS_CHAT, CHAT, EVERY_WAY, failed, post, recorded, refusal, said, sampled, seen, tried
from tests.upstream import answer, error, in_turn, status

BAD, OVERLOADED, BAD_KEY = "bad_upstream_response", "upstream_overloaded", "provider_auth"
PAGE = b"<html>try later</html>"


# U21: failures of the provider itself.


@sampled(
    EVERY_WAY, pytest.mark.parametrize(("code", "tries"), [(500, 2), (502, 2), (501, 1), (504, 1), (520, 1), (599, 1)])
)
def test_u21_a_failure_of_the_provider_is_tried_again_only_if_it_surely_did_nothing(scripted, way, code, tries):
    service, upstream = scripted
    upstream.handler = error(code, "Traceback: /srv/app.py", headers="retry-after: 3\r\n")

    response = post(service, way)

    assert seen(response) == refusal(502, BAD, way=way, upstream_status=code)
    assert "Traceback" not in response.text
    assert recorded(service) == failed(BAD)
    assert tried(service) == [("openai", BAD, code)] * tries
    assert len(upstream.connections) == tries


@EVERY_WAY
def test_u21_a_failure_that_passes_is_not_noticed(scripted, way):
    service, upstream = scripted
    upstream.handler = in_turn(error(500), answer("pong"))

    response = post(service, way)

    assert said(response) == "pong"
    assert response.headers["x-ai-proxy-attempts"] == "2"
    assert tried(service) == [("openai", BAD, 500), ("openai", "completed", None)]


@EVERY_WAY
def test_u21_another_provider_takes_over(gateway, routed, way):
    upstreams = routed("a", "b")
    upstreams["a"].handler = error(500)

    response = post(gateway, way)

    assert said(response) == "from b"
    assert response.headers["x-ai-proxy-provider"] == "b"
    assert response.headers["x-ai-proxy-attempts"] == "2"
    assert tried(gateway) == [("a", BAD, 500), ("b", "completed", None)]


@AS_CHAT
def test_u21_a_provider_that_is_down_is_passed_over_once_that_is_clear(gateway, routed, way):
    upstreams = routed("a", "b")
    upstreams["a"].handler = error(500)
    before = len(gateway.log())

    answers = [said(post(gateway, way)) for _ in range(15)]

    assert answers == ["from b"] * 15
    assert len(upstreams["a"].connections) == 5
    assert tried(gateway) == [("b", "completed", None)]
    opened = [line for line in gateway.log()[before:] if line["message"] == "routing: breaker opened"]
    assert [(line["target"], line["level"]) for line in opened] == [("a/model-of-a", "warning")]


def test_u21_a_provider_that_is_down_is_not_stormed_by_second_tries(scripted):
    service, upstream = scripted
    upstream.handler = error(500)

    statuses = {post(service, CHAT).status_code for _ in range(15)}

    assert statuses == {502}
    assert len(upstream.connections) == 2 + 2 + 13  # two calls with a second try each, until the breaker opens


# U22: overloaded, which has a status of its own at Anthropic.

CODES = pytest.mark.parametrize("code", [503, 529])


@sampled(EVERY_WAY, CODES)
def test_u22_an_overloaded_provider_says_when_to_come_back(scripted, way, code):
    service, upstream = scripted
    upstream.handler = status(code, PAGE, headers="retry-after: 4\r\n", content_type="text/html")

    response = post(service, way)

    assert seen(response) == refusal(503, OVERLOADED, way=way, upstream_status=code, retry_after=4)
    assert recorded(service) == failed(OVERLOADED)
    assert tried(service) == [("openai", OVERLOADED, code)]
    assert len(upstream.connections) == 1


@sampled(EVERY_WAY, CODES)
def test_u22_if_it_does_not_say_it_is_tried_again_and_then_the_client_is_told_something(scripted, way, code):
    service, upstream = scripted
    upstream.handler = status(code, PAGE, headers="retry-after: soon\r\n", content_type="text/html")

    response = post(service, way)

    assert seen(response) == refusal(503, OVERLOADED, way=way, upstream_status=code, retry_after=5)
    assert recorded(service) == failed(OVERLOADED)
    assert tried(service) == [("openai", OVERLOADED, code)] * 2


@AS_CHAT
def test_u22_a_wait_is_kept_to_by_later_calls(scripted, way):
    service, upstream = scripted
    upstream.handler = status(503, PAGE, headers="retry-after: 7\r\n", content_type="text/html")
    post(service, way)

    response = post(service, way)

    assert (response.status_code, response.json()["error"]["code"]) == (503, OVERLOADED)
    assert 5 <= int(response.headers["retry-after"]) <= 7
    assert tried(service) == []
    assert len(upstream.connections) == 1


@sampled(EVERY_WAY, CODES)
def test_u22_another_provider_takes_over(gateway, routed, way, code):
    upstreams = routed("a", "b")
    upstreams["a"].handler = status(code, PAGE, content_type="text/html")

    response = post(gateway, way)

    assert said(response) == "from b"
    assert tried(gateway) == [("a", OVERLOADED, code), ("b", "completed", None)]


# U23: the client's own key is fine, and must not look as if it were not.


@sampled(EVERY_WAY, pytest.mark.parametrize("code", [401, 403]))
def test_u23_a_refused_provider_key_does_not_look_like_a_refused_client(scripted, way, code):
    service, upstream = scripted
    upstream.handler = error(code, "Incorrect API key provided", headers='www-authenticate: Bearer realm="x"\r\n')

    response = post(service, way)

    assert seen(response) == refusal(502, BAD_KEY, way=way, upstream_status=code)
    assert "www-authenticate" not in response.headers
    assert "operator" in response.json()["error"]["message"]
    assert recorded(service) == failed(BAD_KEY)
    assert tried(service) == [("openai", BAD_KEY, code)]
    assert len(upstream.connections) == 1


@pytest.mark.parametrize(("code", "parked", "asked"), [(401, "key", 1), (403, "target", 2)])
def test_u23_a_refused_key_is_parked_and_its_operator_is_told(gateway, routed, code, parked, asked):
    upstreams = routed("a", "b", models={"other": {"targets": ["a/other", "b/other"]}})
    upstreams["a"].handler = error(code)
    before = len(gateway.log())

    answers = [said(post(gateway, CHAT, model=model)) for model in ("small", "small", "other", "other")]

    assert answers == ["from b"] * 4
    assert len(upstreams["a"].connections) == asked
    told = [line for line in gateway.log()[before:] if line["level"] == "error"]
    assert [(line["error"], line["parked"]) for line in told] == [(BAD_KEY, parked)] * asked


def test_u23_a_second_key_takes_over_from_a_refused_one(gateway, routed):
    upstream = routed("a", providers={"a": {"api_keys": ["first-key-0123", "second-key-0123"]}})["a"]
    upstream.handler = in_turn(error(401), answer("pong"))

    responses = [post(gateway, CHAT) for _ in range(3)]

    assert [said(response) for response in responses] == ["pong"] * 3
    refused, *others = [connection.header("authorization") for connection in upstream.connections]
    assert len(others) == 3
    assert refused not in others
