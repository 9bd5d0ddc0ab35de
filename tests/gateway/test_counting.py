"""How the tokens of a call are counted where its provider did not."""

import json

import msgspec
import pytest

from ai_proxy.core.types import Usage
from ai_proxy.dialects.call import parse
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway.counting import Count

CALL = parse("chat", b'{"model": "m", "messages": [{"role": "user", "content": "12345678"}]}')  # 2 tokens
TOOL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "the sea"}'},
}  # 21 letters


def completion(body, *, text="", usage=None):
    return Completion(json.dumps(body).encode(), text, "stop", usage)


def of(*parts, call=CALL, answered=True):
    count = Count()
    for part in parts:
        (count.take_whole if isinstance(part, Completion) else count.take)(part)
    return count.usage(call, answered=answered)


def test_the_providers_count_is_taken_as_it_is():
    assert of(completion({}, text="a" * 400, usage=Usage(3, 4, cost=5))) == Usage(3, 4, cost=5)


def test_two_counts_of_a_stream_are_put_together():
    begun = Chunk(b"{}", usage=Usage(30, 1, estimated=True, cache_read_tokens=20))

    assert of(begun, Chunk(b"{}", usage=Usage(0, 9, reasoning_tokens=3))) == Usage(
        30, 9, cache_read_tokens=20, reasoning_tokens=3
    )


def test_all_that_an_answer_says_is_counted():
    thought = {"role": "assistant", "content": None, "reasoning_content": "r" * 19, "tool_calls": [TOOL]}
    answer = {"choices": [{"message": thought, "finish_reason": "tool_calls"}]}

    assert of(completion(answer)) == Usage(2, 10, estimated=True)


def test_all_of_several_answers_are_counted():
    choices = [{"index": n, "message": {"role": "assistant", "content": "a" * 40}} for n in range(3)]

    assert of(completion({"choices": choices}, text="a" * 40)) == Usage(2, 30, estimated=True)


def test_what_is_written_in_other_formats_is_counted():
    message = {
        "type": "message",
        "content": [{"type": "tool_use", "id": "x" * 400, "name": "look", "input": {"at": "sea!"}}],
    }
    response = {
        "output": [{"type": "function_call", "id": "x" * 400, "name": "look", "arguments": "{at}", "status": "x"}]
    }

    assert of(completion(message)).output_tokens == 2
    assert of(completion(response)).output_tokens == 2


def test_embeddings_were_read_and_nothing_was_written():
    call = parse("embeddings", b'{"model": "m", "input": ["12345678"]}')
    body = {"data": [{"object": "embedding", "embedding": [0.5] * 100}]}

    assert of(completion(body), call=call) == Usage(2, 0, estimated=True)


def test_a_count_of_tokens_is_no_answer_of_a_model():
    call = parse("count_tokens", b'{"model": "m", "messages": [{"role": "user", "content": "12345678"}]}')

    assert of(completion({"input_tokens": 2}), call=call) == Usage()


def test_where_nobody_answered_nothing_is_counted():
    assert of(answered=False) == Usage()


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"{", b'{"x":' * 2000, b'{"choices": 5, "content": null}'])
def test_a_body_that_cannot_be_read_counts_by_its_text(body):
    assert of(Completion(body, "a" * 40, "stop", None)) == Usage(2, 10, estimated=True)


def test_a_stream_that_broke_off_is_counted_as_far_as_it_came():
    chunks = [Chunk(b"{}", "a" * 20, content=True), Chunk(b"{}", "b" * 20, content=True, index=1)]

    assert of(*chunks) == Usage(2, 10, estimated=True)


def test_thoughts_and_tool_calls_of_a_stream_count_by_their_size():
    role = Chunk(b'{"choices": [{"delta": {"role": "assistant"}}]}')
    thought = Chunk(b"x" * 250, content=True)
    call = Chunk(b"x" * 700, content=True)
    item = Chunk(b"x" * 700, content=True, event="response.output_item.done")
    finish = Chunk(b"x" * 700, finish_reason="stop", content=True)

    assert of(role, thought, call, item, finish) == Usage(2, 101, estimated=True)


def test_a_stream_that_only_began_to_count_keeps_what_was_read():
    begun = Usage(30, 1, estimated=True, cache_read_tokens=20, cache_write_tokens=5)

    usage = of(Chunk(b"{}", usage=begun), Chunk(b"{}", "a" * 40, content=True))

    assert usage == msgspec.structs.replace(begun, output_tokens=10)
