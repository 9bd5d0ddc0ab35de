"""The older OpenAI formats: what is read from text completions, embeddings and moderations."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.types import Usage
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.completions import read_completion, read_event, read_result
from tests.dialects.distortions import OBJECTS

BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
READERS = [read_completion, read_event, read_result]


def body(**fields) -> bytes:
    choice = {"index": 0, "text": "pong", "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    return json.dumps({"id": "cmpl-1", "choices": [choice], "usage": usage, **fields}).encode()


# Text completions.


def test_a_text_completion_is_read():
    data = body()

    read = read_completion(data)

    assert (read.body, read.text, read.finish_reason, read.usage) == (data, "pong", "stop", Usage(3, 4))


@pytest.mark.parametrize(
    ("choice", "text", "finish_reason"),
    [
        ({"text": "pong"}, "pong", "stop"),
        ({"text": None, "finish_reason": None}, "", "stop"),
        ({"text": "pong", "finish_reason": "length"}, "pong", "length"),
        ({}, "", "stop"),
    ],
)
def test_a_text_completion_may_lack_almost_everything(choice, text, finish_reason):
    read = read_completion(body(choices=[choice]))

    assert (read.text, read.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize("data", [body(choices=[]), b'{"id": "x"}', b"[]", b"", b"{oops", body(choices=[{"text": 5}])])
def test_what_is_no_text_completion_is_not_read(data):
    with pytest.raises(BROKEN):
        read_completion(data)


# Their events.


@pytest.mark.parametrize(
    ("choice", "text", "finish_reason", "content"),
    [
        ({"text": "pong"}, "pong", None, True),
        ({"text": ""}, "", None, False),
        ({"text": "", "finish_reason": ""}, "", None, False),
        ({"text": "", "finish_reason": "length"}, "", "length", True),
        ({"index": 1, "text": "pong"}, "pong", None, True),
    ],
)
def test_an_event_is_read(choice, text, finish_reason, content):
    data = body(choices=[choice], usage=None)

    read = read_event(data)

    assert (read.data, read.text, read.finish_reason, read.content) == (data, text, finish_reason, content)
    assert (read.usage, read.event, read.usage_only) == (None, "", False)


def test_the_last_event_has_the_count_and_no_choice():
    read = read_event(body(choices=[]))

    assert (read.usage, read.usage_only, read.content) == (Usage(3, 4), True, False)


# Embeddings and moderations.


def test_what_is_in_a_result_is_the_callers_alone():
    data = b'{"object": "list", "data": [{"embedding": [1E-3]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}'

    read = read_result(data)

    assert (read.body, read.text, read.finish_reason, read.usage) == (data, "", "stop", Usage(8, 0))


def test_a_moderation_counts_nothing():
    assert read_result(b'{"id": "modr-1", "results": [{"flagged": false}]}').usage is None


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": -8}, {"prompt_tokens": "8"}, {"total_tokens": 8}, "many", {"prompt_tokens": 2**60}]
)
def test_a_nonsensical_count_of_a_result_is_no_count(usage):
    assert read_result(json.dumps({"data": [], "usage": usage}).encode()).usage is None


# All of them.


@pytest.mark.parametrize("read", READERS)
def test_an_error_in_the_place_of_an_answer_is_the_providers_fault(read):
    with pytest.raises(ProviderFault) as caught:
        read(body(error={"message": "no such thing", "code": 429}))

    assert (caught.value.message, caught.value.status) == ("no such thing", 429)


@pytest.mark.parametrize("read", READERS)
def test_an_error_of_null_is_none(read):
    assert read(body(error=None)).text in {"pong", ""}


@given(st.binary() | OBJECTS.map(lambda fields: json.dumps(fields).encode()))
def test_noise_never_fails_in_another_way(data):
    for read in READERS:
        try:
            read(data)
        except (*BROKEN, ProviderFault):
            continue
