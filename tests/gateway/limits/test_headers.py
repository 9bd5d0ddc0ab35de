"""What the headers say."""

import re

import pytest

from ai_proxy.core.types import Limit
from ai_proxy.gateway.limits.counters import Claim
from ai_proxy.gateway.limits.headers import duration, headers


def claim(requests=None, tokens=None, *, subject="key:1", **levels) -> Claim:
    limit = Limit(subject=subject, requests_per_minute=requests, tokens_per_minute=tokens)
    return Claim(limit=limit, tokens=0, **levels)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0ms"), (0.0115, "12ms"), (1, "1s"), (59.2, "1m0s"), (60.01, "1m1s"), (360, "6m0s")],
)
def test_durations_are_written_as_openai_does(seconds, written):
    assert duration(seconds) == written


def test_both_kinds_are_told():
    told = headers(
        [claim(100, 5000, requests_left=50, requests_reset=29.5, tokens_left=4000, tokens_reset=60.5)],
    )

    assert told == {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "50",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "5000",
        "x-ratelimit-remaining-tokens": "4000",
        "x-ratelimit-reset-tokens": "1m1s",
        "ratelimit-policy": '"requests";q=100;w=60, "tokens";q=5000;w=60',
        "ratelimit": '"requests";r=50;t=30',
    }


def test_the_limit_of_which_least_is_left_is_told():
    told = headers(
        [
            claim(100, subject="key:1", requests_left=80),
            claim(1000, subject="user:1", requests_left=20),
            claim(None, 1000, subject="service", tokens_left=10, tokens_reset=5),
        ]
    )

    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("1000", "20")
    assert told["ratelimit"] == '"tokens";r=10;t=5'


def test_without_limits_nothing_is_told():
    assert headers([]) == {}
    assert headers([claim()], anthropic=True) == {}


def test_only_tokens():
    told = headers([claim(None, 10, tokens_left=3, tokens_reset=2)])

    assert told["ratelimit-policy"] == '"tokens";q=10;w=60'
    assert told["ratelimit"] == '"tokens";r=3;t=2'
    assert not any("requests" in name for name in told)


def test_anthropic_s_clients_get_a_time():
    told = headers([claim(10, requests_left=3, requests_reset=2)], anthropic=True)

    assert (told["anthropic-ratelimit-requests-limit"], told["anthropic-ratelimit-requests-remaining"]) == ("10", "3")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["anthropic-ratelimit-requests-reset"])
