"""What is remembered of a target: breaker, cool-down, parking, latency."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ai_proxy.core.upstream_errors import (
    BadUpstreamResponse,
    ProviderAuth,
    ProviderQuota,
    StreamTruncated,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from ai_proxy.gateway.health import Account, Health, Latency

BROKEN = BadUpstreamResponse("openai", "answered with status 500", upstream_status=500)
REJECTED = UpstreamRejected("openai", "no", upstream_status=400)
BAD_KEY = ProviderAuth("openai", "bad key", upstream_status=401)
FORBIDDEN = ProviderAuth("openai", "not this model", upstream_status=403)
NO_QUOTA = ProviderQuota("openai", "no money", upstream_status=402)


@pytest.fixture
def health():
    return Health("openai/gpt-4o", Account())


def fail(health, *errors, at=0.0):
    for error in errors:
        health.failed(health.begin(at, stream=False), error, at)


def succeed(health, times=1, *, at=0.0):
    for _ in range(times):
        health.succeeded(health.begin(at, stream=False), at)


def limited(wait=None, kind=UpstreamRateLimited):
    return kind("openai", "slow down", upstream_status=429 if kind is UpstreamRateLimited else 503, retry_after=wait)


# Breaker


@pytest.mark.parametrize(
    "error",
    [
        BROKEN,
        UpstreamTimeout("openai", "slow", phase="first_byte"),
        UpstreamUnreachable("openai", "refused the connection", connected=False),
        StreamTruncated("openai", "broke off"),
        limited(0.0),
        limited(kind=UpstreamOverloaded),
    ],
    ids=lambda error: error.code,
)
def test_five_faults_in_a_row_open_the_breaker(health, error):
    fail(health, *[error] * 4)
    before = health.state(0.0)

    fail(health, error)

    assert (before, health.state(0.0)) == ("closed", "open")
    assert not health.ready(4.9)


def test_an_answer_between_them_does_not_let_it_come_to_that(health):
    for _ in range(4):
        fail(health, *[BROKEN] * 2)
        succeed(health, 3)

    assert health.state(0.0) == "closed"


def test_half_of_the_last_answers_being_faults_opens_it(health):
    for _ in range(9):
        fail(health, BROKEN)
        succeed(health)
    before = health.state(0.0)

    fail(health, BROKEN)

    assert (before, health.state(0.0)) == ("closed", "open")


@pytest.mark.parametrize("error", [REJECTED, UpstreamRejected("openai", "gone", upstream_status=404)])
def test_what_the_caller_sent_does_not_count(health, error):
    fail(health, *[error] * 100)

    assert health.ready(0.0)


def test_clients_that_go_away_do_not_count(health):
    for _ in range(100):
        health.released(health.begin(0.0, stream=True))

    assert health.ready(0.0)
    assert health.running == 0


def test_one_call_probes_when_its_time_has_come(health):
    fail(health, *[BROKEN] * 5)

    ready = health.ready(5.0)
    probe = health.begin(5.0, stream=False)

    assert (ready, probe.probe, health.state(5.0)) == (True, True, "half-open")
    assert not health.ready(5.0)
    assert not health.begin(5.0, stream=False).probe


def test_a_probe_that_is_answered_closes_the_breaker(health):
    fail(health, *[BROKEN] * 5)

    succeed(health, at=5.0)

    assert (health.ready(5.0), health.state(5.0)) == (True, "closed")
    fail(health, *[BROKEN] * 4, at=5.0)
    assert health.ready(5.0)


def test_a_probe_that_is_refused_for_what_the_caller_sent_closes_it_too(health):
    fail(health, *[BROKEN] * 5)

    fail(health, REJECTED, at=5.0)

    assert health.ready(5.0)


def test_a_probe_that_is_cancelled_leaves_its_place_to_another(health):
    fail(health, *[BROKEN] * 5)

    health.released(health.begin(5.0, stream=False))

    assert health.ready(5.0)
    assert health.begin(5.0, stream=False).probe


def test_each_probe_that_fails_doubles_the_time_up_to_a_minute(health):
    fail(health, *[BROKEN] * 5)
    now, waits = 0.0, []
    for _ in range(6):
        waits.append(health.due() - now)
        now = health.due()
        fail(health, BROKEN, at=now)

    assert waits == [5, 10, 20, 40, 60, 60]


def test_failures_that_were_under_way_do_not_prolong_it(health):
    tries = [health.begin(0.0, stream=False) for _ in range(20)]

    for number, this in enumerate(tries):
        health.failed(this, BROKEN, 0.1 * number)

    assert health.due() == pytest.approx(5.4)


def test_a_stream_that_breaks_after_its_first_content_counts(health):
    for _ in range(10):
        succeed(health)
        health.broke(BROKEN, 0.0)

    assert health.state(0.0) == "open"


def test_a_request_refused_in_the_middle_of_a_stream_does_not(health):
    for _ in range(10):
        succeed(health)
        health.broke(REJECTED, 0.0)

    assert health.state(0.0) == "closed"


def test_the_log_tells_when_the_breaker_opens_and_closes(health):
    with capture_logs() as lines:
        fail(health, *[BROKEN] * 7)
        succeed(health, 2, at=5.0)

    assert [(line["log_level"], line["event"], line["target"]) for line in lines] == [
        ("warning", "routing: breaker opened", "openai/gpt-4o"),
        ("info", "routing: breaker closed", "openai/gpt-4o"),
    ]


# Cool-down


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (limited(7), 7),
        (limited(0), 0),
        (limited(), 1),
        (limited(86_400), 300),
        (limited(7, UpstreamOverloaded), 7),
        (limited(None, UpstreamOverloaded), 0),
    ],
)
def test_a_target_is_left_alone_for_as_long_as_it_asks_but_not_for_days(health, error, seconds):
    fail(health, error, at=100.0)

    assert health.ready(100.0 + seconds)
    assert seconds == 0 or not health.ready(99.99 + seconds)


def test_a_cool_down_is_the_target_s_own():
    account = Account()
    one, other = Health("openai/a", account), Health("openai/b", account)

    fail(one, limited(60))

    assert (one.ready(0.0), other.ready(0.0)) == (False, True)


def test_who_may_not_wait_is_told_the_rest_of_the_time(health):
    fail(health, limited(86_400))

    refusal = health.refusal("openai", 400.0)

    assert type(refusal) is UpstreamRateLimited
    assert (refusal.status, refusal.upstream_status, refusal.retry_after) == (429, 429, 86_000)


def test_the_same_after_an_overload(health):
    fail(health, limited(60, UpstreamOverloaded))

    refusal = health.refusal("openai", 10.0)

    assert (refusal.status, refusal.upstream_status, refusal.retry_after) == (503, 503, 50)


def test_only_a_time_that_the_provider_named_is_one(health):
    fail(health, limited())
    unnamed = health.told_until(0.0)

    fail(health, limited(7))

    assert (unnamed, health.told_until(0.0), health.told_until(8.0)) == (0.0, 7.0, 8.0)


def test_a_provider_that_said_tomorrow_is_believed_when_it_answers_today(health):
    fail(health, *[limited(86_400)] * 5)

    succeed(health, at=300.0)

    assert (health.ready(300.0), health.told_until(300.0)) == (True, 300.0)


def test_an_answer_does_not_end_a_cool_down(health):
    before = health.begin(0.0, stream=False)
    fail(health, *[limited(100)] * 5)

    health.succeeded(before, 1.0)

    assert (health.state(1.0), health.due()) == ("closed", 100.0)


# Parking


@pytest.mark.parametrize("error", [BAD_KEY, NO_QUOTA], ids=lambda error: error.code)
def test_a_bad_key_parks_all_targets_behind_it(error):
    account = Account()
    one, other, elsewhere = Health("openai/a", account), Health("openai/b", account), Health("openai/a#2", Account())

    fail(one, error)

    assert [health.ready(59.0) for health in (one, other, elsewhere)] == [False, False, True]
    assert one.ready(60.0)
    assert one.state(0.0) == "closed"


def test_a_403_parks_one_target_alone():
    account = Account()
    one, other = Health("openai/a", account), Health("openai/b", account)

    fail(one, FORBIDDEN)

    assert (one.ready(59.0), other.ready(59.0)) == (False, True)


def test_a_bad_key_is_an_alert_once(health):
    with capture_logs() as lines:
        fail(health, *[BAD_KEY] * 10)
        fail(health, BAD_KEY, at=60.0)

    assert [(line["log_level"], line["target"], line["error"]) for line in lines] == [
        ("error", "openai/gpt-4o", "provider_auth")
    ] * 2


# Latency


def test_a_peak_counts_at_once_and_is_forgotten_slowly():
    latency = Latency()
    latency.note(1.0, now=0.0)
    latency.note(9.0, now=1.0)
    peak = latency.peak(1.0)

    latency.note(1.0, now=2.0)
    soon = latency.peak(2.0)
    latency.note(1.0, now=300.0)

    assert peak == 9.0
    assert 8.5 < soon < 9.0
    assert latency.peak(300.0) == pytest.approx(1.0, abs=0.01)


def test_the_latency_of_a_target_that_nobody_asks_fades():
    latency = Latency()
    latency.note(8.0, now=0.0)

    assert latency.peak(0.0) > latency.peak(30.0) > latency.peak(300.0) > 0


@pytest.mark.parametrize(("count", "expected"), [(0, None), (19, None), (20, 19), (40, 38), (64, 61), (1000, 997)])
def test_the_95th_percentile_is_of_the_last_64(count, expected):
    latency = Latency()
    for number in range(1, count + 1):
        latency.note(float(number), now=0.0)

    assert latency.p95() == expected


def test_a_timeout_counts_as_a_latency(health):
    this = health.begin(0.0, stream=True)

    health.failed(this, UpstreamTimeout("openai", "slow", phase="first_byte"), 120.0)

    assert health.latency(stream=True).peak(120.0) == 120.0
    assert health.latency(stream=False).peak(120.0) == 0.0


ENDS = st.sampled_from(
    [None, "released", BROKEN, REJECTED, BAD_KEY, limited(), limited(3), limited(3, UpstreamOverloaded)]
)


@given(st.lists(st.tuples(st.floats(0, 30), ENDS)))
def test_nothing_keeps_a_target_out_for_ever(happenings):
    health = Health("openai/gpt-4o", Account())
    now = 0.0
    for seconds, end in happenings:
        now += seconds
        this = health.begin(now, stream=False)
        if end is None:
            health.succeeded(this, now)
        elif end == "released":
            health.released(this)
        else:
            health.failed(this, end, now)

    assert health.running == 0
    assert health.ready(now + 300)
    assert health.due() <= now + 300
