"""The chat completions wire format: what is read from it, and what is written."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.types import Usage
from ai_proxy.dialects.chat import ProviderFault, estimate, read_chunk, read_completion, read_fault

BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def answer(**fields) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice], **fields}).encode()


def chunk(**fields) -> bytes:
    choice = {"index": 0, "delta": {"content": "pong"}, "finish_reason": None}
    return json.dumps({"id": "x", "choices": [choice], **fields}).encode()


def fault_of(read, body: bytes) -> ProviderFault:
    with pytest.raises(ProviderFault) as caught:
        read(body)
    return caught.value


# Answers.


def test_an_answer_is_read():
    body = answer(usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "details": {"x": 1}})

    completion = read_completion(body)

    assert completion.body == body
    assert (completion.text, completion.finish_reason) == ("pong", "stop")
    assert completion.usage == Usage(3, 4)


@pytest.mark.parametrize(
    ("choice", "text", "finish_reason"),
    [
        ({"message": {"content": "pong"}}, "pong", "stop"),
        ({"message": {"content": "pong"}, "finish_reason": None}, "pong", "stop"),
        ({"message": {"content": "pong"}, "finish_reason": ""}, "pong", "stop"),
        ({"message": {"content": "pong"}, "finish_reason": "length"}, "pong", "length"),
        ({"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}, "", "tool_calls"),
        ({"message": {}, "finish_reason": "content_filter"}, "", "content_filter"),
        ({"message": {"content": "", "reasoning": "hm", "refusal": None}}, "", "stop"),
    ],
)
def test_an_answer_may_lack_almost_everything(choice, text, finish_reason):
    completion = read_completion(answer(choices=[choice]))

    assert (completion.text, completion.finish_reason, completion.usage) == (text, finish_reason, None)


def test_the_first_choice_is_the_answer():
    choices = [{"message": {"content": text}} for text in ("one", "two")]

    assert read_completion(answer(choices=choices)).text == "one"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"{}", b"5", b'"pong"', b"<html>", answer()[:-1], answer() + b"x", b"[" * 100_000),
        *(answer(choices=choices) for choices in (None, [], {}, [None], [{}], [{"message": None}], "x")),
        *(answer(choices=[{"message": {"content": content}}]) for content in (5, [5], {"x": 1}, True)),
        answer(choices=[{"message": {"content": "x"}, "finish_reason": 5}]),
        b'{"choices": [{"message": {"content": "\xff"}}]}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b'{"error": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_not_read(body):
    with pytest.raises(BROKEN):
        read_completion(body)


# Chunks.


def test_a_chunk_is_read():
    data = chunk()

    read = read_chunk(data)

    assert (read.data, read.text, read.finish_reason, read.usage) == (data, "pong", None, None)
    assert read.content


@pytest.mark.parametrize(
    ("choices", "text", "finish_reason", "content"),
    [
        ([], "", None, False),
        ([{"delta": {}}], "", None, False),
        ([{}], "", None, False),
        ([{"delta": {"role": "assistant", "content": ""}}], "", None, False),
        ([{"delta": {"content": None}, "finish_reason": None}], "", None, False),
        ([{"delta": {"content": "pong"}, "finish_reason": ""}], "pong", None, True),
        ([{"delta": {"content": "pong"}, "finish_reason": "stop"}], "pong", "stop", True),
        ([{"delta": {}, "finish_reason": "length"}], "", "length", True),
        ([{"delta": {"tool_calls": [{"index": 0}]}}], "", None, True),
        ([{"delta": {"reasoning_content": "hm"}}], "", None, True),
        ([{"delta": {"reasoning": "hm"}}], "", None, True),
        ([{"delta": {"refusal": "no"}}], "", None, True),
        ([{"delta": {"content": "", "tool_calls": [], "refusal": None, "reasoning": ""}}], "", None, False),
        ([{"delta": {"content": [{"type": "text", "text": "pong"}, {"type": "thinking"}]}}], "pong", None, True),
        ([{"delta": None}], "", None, False),
        ([{"index": 0, "delta": {"content": "pong"}, "logprobs": {}}], "pong", None, True),
        ([{"index": 1, "delta": {"content": "pong"}}], "pong", None, True),
    ],
)
def test_a_chunk_may_lack_almost_everything(choices, text, finish_reason, content):
    read = read_chunk(chunk(choices=choices))

    assert (read.text, read.finish_reason, read.content) == (text, finish_reason, content)


def test_the_last_chunk_has_the_count_and_no_choice():
    read = read_chunk(chunk(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 4}))

    assert read.usage == Usage(3, 4)
    assert read.usage_only
    assert not read.content


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"null", b"[]", b"5", b"[DONE]", b"{oops", chunk()[:-1], b"[" * 100_000),
        *(chunk(choices=choices) for choices in (None, {}, [None], [{"delta": 5}], [{"delta": {"content": 5}}])),
        b'{"choices": [{"delta": {"content": "\xff"}}]}',
    ],
)
def test_what_is_no_chunk_is_not_read(data):
    with pytest.raises(BROKEN):
        read_chunk(data)


@given(st.binary())
def test_noise_never_fails_in_another_way(noise):
    for read in (read_completion, read_chunk):
        try:
            read(noise)
        except (*BROKEN, ProviderFault):
            continue


WORDS = ["choices", "delta", "message", "content", "finish_reason", "usage", "error", "code", "type", "prompt_tokens"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(WORDS), JSON))
def test_odd_json_never_fails_in_another_way(body):
    for read in (read_completion, read_chunk):
        try:
            read(json.dumps(body).encode())
        except (*BROKEN, ProviderFault):
            continue


# Counts.


@pytest.mark.parametrize(
    "usage",
    [
        *(None, {}, [], "many", 7, True),
        {"prompt_tokens": 3},
        {"completion_tokens": 4},
        {"prompt_tokens": None, "completion_tokens": 4},
        {"prompt_tokens": -3, "completion_tokens": 4},
        {"prompt_tokens": 3, "completion_tokens": -4},
        {"prompt_tokens": 3.5, "completion_tokens": 4},
        {"prompt_tokens": "3", "completion_tokens": "4"},
        {"prompt_tokens": True, "completion_tokens": 4},
        {"prompt_tokens": [3], "completion_tokens": 4},
        {"prompt_tokens": 2**63, "completion_tokens": 4},
        {"prompt_tokens": 3, "completion_tokens": 10**30},
    ],
)
def test_a_nonsensical_count_is_no_count(usage):
    assert read_completion(answer(usage=usage)).usage is None
    assert read_chunk(chunk(usage=usage)).usage is None


@given(st.integers(), st.integers())
def test_a_count_that_is_taken_can_be_kept(prompt, completion):
    usage = read_chunk(chunk(usage={"prompt_tokens": prompt, "completion_tokens": completion})).usage

    assert usage is None or usage == Usage(prompt, completion)
    assert usage is None or max(prompt, completion) < 2**63
    assert usage is None or min(prompt, completion) >= 0


@pytest.mark.parametrize(
    ("characters", "tokens"),
    [((0, 0), (0, 0)), ((1, 4), (1, 1)), ((5, 8), (2, 2)), ((100_000, 9), (25_000, 3))],
)
def test_four_characters_are_a_token_and_what_is_begun_counts(characters, tokens):
    read, written = characters

    assert estimate(input_characters=read, output_characters=written) == Usage(*tokens, estimated=True)


# Errors.

ERRORS = [
    ({"message": "no"}, ("no", None, None)),
    ({"message": "no", "type": "server_error"}, ("no", None, "server_error")),
    ({"message": "no", "type": "server_error", "code": "busy"}, ("no", None, "busy")),
    ({"message": "no", "type": "insufficient_quota", "code": None}, ("no", None, "insufficient_quota")),
    ({"message": "no", "type": "x", "code": "insufficient_quota"}, ("no", None, "insufficient_quota")),
    ({"message": "no", "type": "insufficient_quota", "code": "a"}, ("no", None, "insufficient_quota")),
    ({"message": "no", "code": 429}, ("no", 429, None)),
    ({"message": "no", "code": 400, "metadata": {"raw": "x"}}, ("no", 400, None)),
    ({"message": "no", "code": 599, "type": "x"}, ("no", 599, "x")),
    ({"message": "no", "code": 200}, ("no", None, None)),
    ({"message": "no", "code": 600}, ("no", None, None)),
    ({"message": "no", "code": 1}, ("no", None, None)),
    ({"message": "no", "code": -429}, ("no", None, None)),
    ({"message": "no", "code": 429.0}, ("no", None, None)),
    ({"message": "no", "code": True}, ("no", None, None)),
    ({"message": "no", "code": "429"}, ("no", None, "429")),
    ({"message": 5, "code": [1], "type": {}}, ("", None, None)),
    ({"message": None}, ("", None, None)),
    ({}, ("", None, None)),
    ("no", ("no", None, None)),
    ("", ("", None, None)),
    ([], ("", None, None)),
    ([{"error": {"message": "no", "code": 429, "status": "X"}}], ("no", 429, None)),
    (
        {"message": "no", "code": 400, "details": [{"x": 1}, 5, {"reason": "API_KEY_INVALID"}]},
        ("no", 400, "API_KEY_INVALID"),
    ),
    ({"message": "no", "code": 400, "details": {"reason": "X"}}, ("no", 400, None)),
    (5, ("", None, None)),
    (True, ("", None, None)),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_an_error_is_read_in_all_its_shapes(error, expected):
    fault = read_fault(json.dumps({"error": error}).encode())

    if isinstance(error, dict | str):
        assert (fault.message, fault.status, fault.code) == expected
    else:
        assert fault.message == ""


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_an_error_in_place_of_an_answer_is_raised(error, expected):
    fault = fault_of(read_completion, answer(error=error))

    assert (fault.message, fault.status, fault.code) == expected


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_an_error_in_place_of_a_chunk_is_raised(error, expected):
    fault = fault_of(read_chunk, chunk(choices=[], error=error))

    assert (fault.message, fault.status, fault.code) == expected


@pytest.mark.parametrize("read", [read_completion, read_chunk])
def test_an_error_of_null_is_none(read):
    body = answer(error=None) if read is read_completion else chunk(error=None)

    assert read(body).text == "pong"


def test_a_finish_that_is_an_error_is_one():
    message = {"message": {"content": "half an"}, "finish_reason": "error"}
    delta = {"delta": {"content": "half an"}, "finish_reason": "error"}

    assert fault_of(read_completion, answer(choices=[message])).status is None
    assert fault_of(read_chunk, chunk(choices=[delta])).status is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"object": "error", "message": "too long", "code": 400}', "too long"),
        (b'"no"', "no"),
        (b"", ""),
        (b"<html>", ""),
        (b"[]", ""),
        (b"\xff", ""),
        (b'{"error": {"message": "\xff"}}', ""),
        (b'{"error": {"message": "\\ud800"}}', ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_body_of_a_refusal_may_be_anything(body, message):
    assert read_fault(body).message == message


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_reading_a_fault_never_fails(body):
    fault = read_fault(body)

    assert isinstance(fault.message, str)
    assert fault.status is None or 400 <= fault.status <= 599
