"""U35, U36, and hedging: calls that have several ways to go."""

import socket

import pytest

from tests.outcome import AS_CHAT, CHAT, EVERY_WAY, post, refusal, said, seen, tried
from tests.upstream import error, silence

TOO_LONG = error(400, "This model's maximum context length is 10 tokens.", kind="context_length_exceeded")


# U35: a circle.


@EVERY_WAY
def test_u35_models_that_fall_back_to_each_other_are_asked_once_each(gateway, routed, way):
    other = {"targets": ["b/other"], "on_context_length": "small"}
    upstreams = routed("a", on_context_length="other", models={"other": other})
    upstreams["a"].handler = upstreams["b"].handler = TOO_LONG

    response = post(gateway, way)

    code = "context_length_exceeded"
    assert seen(response) == refusal(400, code, way=way, provider="b", upstream_status=400)
    assert tried(gateway) == [("a", code, 400), ("b", code, 400)]
    assert [len(upstreams[name].connections) for name in "ab"] == [1, 1]


@AS_CHAT
def test_u35_no_more_tries_are_made_than_the_model_allows(gateway, routed, way):
    upstreams = routed("a", "b", "c", "d", max_attempts=3)
    for upstream in upstreams.values():
        upstream.handler = error(500)

    response = post(gateway, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way, provider="c", upstream_status=500)
    assert [provider for provider, *_ in tried(gateway)] == ["a", "b", "c"]
    assert upstreams["d"].connections == []


@AS_CHAT
def test_u35_every_target_is_asked_before_one_is_asked_again(gateway, routed, way):
    upstreams = routed("a", "b")
    for upstream in upstreams.values():
        upstream.handler = error(500)

    post(gateway, way)

    assert [provider for provider, *_ in tried(gateway)][:2] == ["a", "b"]
    assert sorted(provider for provider, *_ in tried(gateway)) == ["a", "a", "b", "b"]


# U36: half of the replicas are dead.


@AS_CHAT
@pytest.mark.parametrize("strategy", ["order", "weighted", "least-latency"])
def test_u36_half_of_the_replicas_being_dead_is_no_matter(gateway, routed, way, strategy):
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        dead = {"base_url": f"http://127.0.0.1:{refusing.getsockname()[1]}/v1"}
        upstreams = routed("a", "b", "c", "d", strategy=strategy, providers={"a": dead, "b": dead})

        answers, tries = [], []
        for _ in range(30):
            answers.append(said(post(gateway, way)))
            tries.append(tried(gateway))

    assert set(answers) <= {"from c", "from d"}
    asked = [provider for call in tries for provider, *_ in call]
    assert asked.count("a") <= 5
    assert asked.count("b") <= 5
    assert len(upstreams["c"].connections) + len(upstreams["d"].connections) == 30


# A target that is slower than it mostly is.


@AS_CHAT
def test_the_loser_of_a_race_is_cancelled_and_its_connection_closed(gateway, routed, way):
    upstreams = routed("a", "b", hedge=True)
    for _ in range(20):
        post(gateway, way)
    upstreams["a"].handler = silence
    upstreams["a"].connections.clear()

    response = post(gateway, way)

    assert said(response) == "from b"
    assert response.headers["x-ai-proxy-attempts"] == "2"
    assert tried(gateway) == [("a", "cancelled", None), ("b", "completed", None)]
    (loser,) = upstreams["a"].connections
    gateway.eventually(lambda: loser.closed_after is not None)
    assert loser.closed_after < 1


def test_a_model_without_a_race_waits_for_the_slow_one(gateway, routed):
    upstreams = routed("a", "b", providers={"a": {"first_byte_timeout": 0.3}})
    for _ in range(20):
        post(gateway, CHAT)
    upstreams["a"].handler = silence

    response = post(gateway, CHAT)

    assert said(response) == "from b"
    assert tried(gateway) == [("a", "upstream_timeout_first_byte", None), ("b", "completed", None)]
