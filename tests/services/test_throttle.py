"""How often a login may be tried, by a clock that the test moves."""

import pytest

from ai_proxy.core.exceptions import LoginThrottled
from ai_proxy.services.throttle import Throttle

HOUR = 3600


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttle(clock):
    return Throttle(clock)


def wait_of(throttle, account="alice", address="192.0.2.1", **where) -> float:
    """Try once. Returns the seconds to wait, 0 for a try that was let through."""
    try:
        throttle.admit(account, address, **where)
    except LoginThrottled as error:
        return error.retry_after
    return 0


def guesses(throttle, clock, seconds, **where) -> int:
    """How many tries get through in this time, for somebody who never waits longer than needed."""
    end, done = clock.now + seconds, 0
    while clock.now < end:
        wait = wait_of(throttle, **where)
        done += wait == 0
        clock.now += wait
    return done


def test_a_few_tries_are_free_and_then_each_wait_is_twice_the_one_before(throttle, clock):
    free = [wait_of(throttle) for _ in range(5)]
    waits = []
    for _ in range(12):
        waits.append(wait_of(throttle))
        clock.now += waits[-1]
        assert wait_of(throttle) == 0

    assert free == [0] * 5
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_a_thousand_guesses_at_once_are_five(throttle):
    assert sum(wait_of(throttle) == 0 for _ in range(1000)) == 5


def test_a_thousand_addresses_share_the_tries_of_an_account(throttle):
    assert sum(wait_of(throttle, address=f"198.51.{n // 250}.{n % 250}") == 0 for n in range(1000)) == 5


def test_a_patient_guesser_gets_a_hundred_guesses_a_day(throttle, clock):
    assert guesses(throttle, clock, 24 * HOUR) < 115


def test_one_address_cannot_go_through_many_accounts(throttle):
    assert sum(wait_of(throttle, f"user{n}") == 0 for n in range(1000)) == 20


def test_an_ipv6_subscriber_is_one_address(throttle):
    assert sum(wait_of(throttle, f"user{n}", f"2001:db8:1:2::{n:x}") == 0 for n in range(100)) == 20
    assert wait_of(throttle, "other", "2001:db8:1:3::1") == 0


def test_an_ipv4_address_in_ipv6_form_is_the_same_address(throttle):
    for n in range(20):
        throttle.admit(f"user{n}", "::ffff:192.0.2.1")

    assert wait_of(throttle, "another", "192.0.2.1") > 0


def test_a_wait_that_is_not_kept_does_not_grow(throttle):
    for _ in range(5):
        throttle.admit("alice", "192.0.2.1")

    assert [wait_of(throttle) for _ in range(100)] == [1] * 100


def test_nobody_elsewhere_locks_out_who_is_at_home(throttle, clock):
    guesses(throttle, clock, 12 * HOUR)
    throttle.admit("alice", "192.0.2.1")

    assert wait_of(throttle, address="203.0.113.7") == 900
    assert wait_of(throttle, address="203.0.113.7", at_home=True) == 0


def test_at_home_tries_are_counted_too(throttle):
    assert sum(wait_of(throttle, at_home=True) == 0 for _ in range(1000)) == 5


def test_a_success_lets_the_account_begin_anew(throttle):
    for _ in range(5):
        throttle.admit("alice", "192.0.2.1")
    throttle.succeeded("alice", "192.0.2.1")

    assert [wait_of(throttle) for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_a_guesser_with_an_account_does_not_clear_the_address_by_signing_in(throttle):
    done = 0
    for n in range(200):
        done += wait_of(throttle, f"victim{n}") == 0
        if wait_of(throttle, "mallory") == 0:
            throttle.succeeded("mallory", "192.0.2.1")

    assert done <= 21


def test_an_hour_after_the_last_wait_all_is_forgotten(throttle, clock):
    guesses(throttle, clock, HOUR)
    clock.now += 900 + HOUR + 1

    assert [wait_of(throttle) for _ in range(5)] == [0] * 5


def test_its_memory_is_bounded(clock):
    throttle = Throttle(clock, size=100)

    for n in range(1000):
        throttle.admit(f"user{n}", f"198.51.{n // 250}.{n % 250}")

    assert len(throttle) == 100


def test_tries_of_before_a_restart_count(throttle, clock):
    for _ in range(8):
        throttle.recall("alice", "192.0.2.1", clock.now - 1)

    assert wait_of(throttle) == 7  # of the 8 s after the eighth, one has passed


def test_tries_of_long_ago_do_not_count_after_a_restart(throttle, clock):
    for _ in range(50):
        throttle.recall("alice", "192.0.2.1", clock.now - HOUR - 1)

    assert wait_of(throttle) == 0


@pytest.mark.parametrize("address", ["", "testclient", "fe80::1%eth0"])
def test_an_address_of_any_kind_is_counted(throttle, address):
    assert sum(wait_of(throttle, f"user{n}", address) == 0 for n in range(30)) == 20
