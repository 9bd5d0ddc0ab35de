"""Counts as providers tell them, which may be anything."""

import json

import msgspec
import pytest

from ai_proxy.core.types import Usage
from ai_proxy.dialects.chat import read_usage
from ai_proxy.dialects.messages_readers import read_answer
from ai_proxy.dialects.usage import joined


def of_chat(**usage):
    return read_usage(msgspec.Raw(json.dumps({"prompt_tokens": 10, "completion_tokens": 5, **usage}).encode()))


@pytest.mark.parametrize("count", [None, True, -1, 1.5, "3", 2**53 + 1, [], {}])
def test_a_part_that_is_no_count_is_none_at_all(count):
    details = {"cached_tokens": count, "cache_write_tokens": count, "audio_tokens": count}

    assert of_chat(prompt_tokens_details=details, completion_tokens_details={"reasoning_tokens": count}) == Usage(10, 5)


@pytest.mark.parametrize("details", [None, [], "many", 5, True])
def test_parts_that_are_no_object_leave_the_count_as_it_is(details):
    assert of_chat(prompt_tokens_details=details, completion_tokens_details=details) == Usage(10, 5)


def test_parts_are_no_more_than_the_whole():
    usage = of_chat(
        prompt_tokens_details={"cached_tokens": 8, "cache_write_tokens": 8, "audio_tokens": 8},
        completion_tokens_details={"audio_tokens": 4, "reasoning_tokens": 4},
    )

    assert usage == Usage(10, 5, cache_read_tokens=8, cache_write_tokens=2, output_audio_tokens=4, reasoning_tokens=1)


@pytest.mark.parametrize(
    "cost", [None, True, -0.1, "0.95", [], {}, {"total_cost": "1"}, 1e300, 2e6, {"total_cost": -1}]
)
def test_a_cost_that_cannot_be_true_is_not_believed(cost):
    assert of_chat(cost=cost) == Usage(10, 5)


@pytest.mark.parametrize("ticks", [-1, 1.5, "7", True, 10**30])
def test_ticks_that_cannot_be_true_are_not_believed(ticks):
    assert of_chat(cost_in_usd_ticks=ticks) == Usage(10, 5)


def test_a_call_may_cost_nothing_by_its_providers_word():
    assert of_chat(cost=0).cost == 0


@pytest.mark.parametrize("total", [0, 15, -1, 2**60, None, "20"])
def test_a_total_that_says_nothing_new_changes_nothing(total):
    assert of_chat(total_tokens=total) == Usage(10, 5)


def test_what_only_the_total_counts_was_written():
    assert of_chat(total_tokens=40) == Usage(10, 30)


def test_two_counts_of_one_stream_lose_nothing():
    begun = Usage(30, 1, estimated=True, cache_read_tokens=20, cache_write_tokens=5)
    ended = Usage(30, 9, reasoning_tokens=4, cost=7)

    assert joined(begun, ended) == Usage(30, 9, cache_read_tokens=20, cache_write_tokens=5, reasoning_tokens=4, cost=7)


def test_a_message_of_openrouter_says_what_it_costs():
    usage = {"input_tokens": 3, "output_tokens": 4, "cost": 0.002, "output_tokens_details": {"thinking_tokens": 2}}

    answer = read_answer(json.dumps({"type": "message", "content": [], "usage": usage}).encode())

    assert answer.usage == Usage(3, 4, reasoning_tokens=2, cost=2_000_000)


@pytest.mark.parametrize("raw", [b"{", b'"\xff"', b"[" * 2000, b"[]", b"5"])
def test_what_is_no_json_or_no_object_counts_nothing(raw):
    assert read_usage(msgspec.Raw(raw)) is None
