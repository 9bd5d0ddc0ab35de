"""A stream's events folded into the one answer that they make up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.dialects.chat import read_completion
from ai_proxy.dialects.folding import fold_chat, fold_completions

BASE = {"id": "chatcmpl-1", "created": 1700000000, "model": "big"}


def chunk(*, index: int = 0, finish_reason: str | None = None, **delta) -> bytes:
    return event(choices=[{"index": index, "delta": delta, "finish_reason": finish_reason}])


def event(**fields) -> bytes:
    return json.dumps({**BASE, "object": "chat.completion.chunk", **fields}).encode()


def called(index: int, **fields) -> dict:
    """A piece of a tool call: what is named `name` or `arguments` is the function's."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return {"index": index, **fields, "function": function}


def message_of(*events: bytes) -> dict:
    (choice,) = json.loads(fold_chat(events))["choices"]
    return choice["message"]


# Chat.


def test_chunks_become_the_completion_that_a_whole_answer_would_have_been():
    folded = fold_chat(
        [
            event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
            chunk(content="Be"),
            chunk(content="cause"),
            chunk(finish_reason="stop"),
            event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 4}, system_fingerprint="fp"),
        ]
    )

    message = {"role": "assistant", "content": "Because"}
    assert json.loads(folded) == {
        **BASE,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        "system_fingerprint": "fp",
    }


def test_equal_pieces_are_all_there():
    assert message_of(*[chunk(content="ha ")] * 3) == {"content": "ha ha ha "}


def test_what_broke_off_is_folded_as_far_as_it_came():
    folded = json.loads(fold_chat([chunk(role="assistant", content="Be"), chunk(content="cau")]))

    assert folded["choices"] == [
        {"index": 0, "finish_reason": None, "message": {"role": "assistant", "content": "Becau"}}
    ]


@pytest.mark.parametrize("fold", [fold_chat, fold_completions])
def test_of_nothing_there_is_no_choice(fold):
    assert json.loads(fold([]))["choices"] == []


def test_pieces_of_tool_calls_are_put_together_by_their_index():
    message = message_of(
        chunk(tool_calls=[called(0, id="a", type="function", name="look", arguments="")]),
        chunk(tool_calls=[called(1, id="b", type="function", name="find", arguments='{"x"')]),
        chunk(tool_calls=[called(0, arguments='{"y": '), called(1, arguments=": 1}")]),
        chunk(tool_calls=[called(0, arguments="2}")]),
    )

    first, second = message["tool_calls"]
    assert (first["id"], first["type"], first["function"]) == (
        "a",
        "function",
        {"name": "look", "arguments": '{"y": 2}'},
    )
    assert (second["id"], second["function"]) == ("b", {"name": "find", "arguments": '{"x": 1}'})


def test_tool_calls_without_an_index_stay_apart():
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in "ab"]

    assert message_of(*(chunk(tool_calls=[call]) for call in calls))["tool_calls"] == calls


def test_a_name_that_is_empty_later_on_stays():
    """Alibaba's servers send all names with each piece: https://www.alibabacloud.com/help/en/model-studio/qwen-function-calling"""
    message = message_of(
        chunk(role="assistant", tool_calls=[called(0, id="a", type="function", name="look", arguments="{")]),
        chunk(role="", tool_calls=[called(0, id="", type="", name="", arguments="}")]),
    )

    (call,) = message["tool_calls"]
    assert message["role"] == "assistant"
    assert (call["id"], call["type"], call["function"]) == ("a", "function", {"name": "look", "arguments": "{}"})


def test_reasoning_and_refusals_are_texts_too():
    message = message_of(
        chunk(reasoning_content="h", reasoning="x"),
        chunk(reasoning_content="m", reasoning="y", refusal="n"),
        chunk(refusal="o", content=None),
    )

    assert message == {"reasoning_content": "hm", "reasoning": "xy", "refusal": "no", "content": None}


def test_details_of_reasoning_are_put_together_by_their_index():
    """https://openrouter.ai/docs/use-cases/reasoning-tokens"""
    details = [{"type": "reasoning.text", "index": 0, "text": text} for text in ("h", "m")]

    message = message_of(*(chunk(reasoning_details=[one]) for one in details))

    assert message["reasoning_details"] == [{"type": "reasoning.text", "index": 0, "text": "hm"}]


def test_log_probabilities_grow():
    def with_logprobs(token: str) -> bytes:
        logprobs = {"content": [{"token": token, "logprob": -0.5}], "refusal": None}
        return event(choices=[{"index": 0, "delta": {"content": token}, "logprobs": logprobs}])

    folded = json.loads(fold_chat([chunk(role="assistant"), with_logprobs("a"), with_logprobs("b")]))

    logprobs = folded["choices"][0]["logprobs"]
    assert [one["token"] for one in logprobs["content"]] == ["a", "b"]
    assert logprobs["refusal"] is None


def test_several_answers_are_told_apart():
    folded = json.loads(
        fold_chat([chunk(index=1, content="b"), chunk(index=0, content="a"), chunk(index=1, content="B")])
    )

    assert [(choice["index"], choice["message"]["content"]) for choice in folded["choices"]] == [(0, "a"), (1, "bB")]


def test_of_a_count_that_grows_the_last_one_counts():
    counts = [{"prompt_tokens": 3, "completion_tokens": written} for written in (1, 2, 4)]

    folded = json.loads(fold_chat([event(choices=[], usage=usage) for usage in counts]))

    assert folded["usage"] == counts[-1]


@pytest.mark.parametrize(
    "pieces",
    [
        ([{"type": "text", "text": "a"}], [{"type": "text", "text": "b"}]),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}], "a", "b"),
        ("", [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}], "a", "b"),
        ("a", [{"type": "text", "text": "b"}]),
    ],
)
def test_a_text_may_come_in_parts_or_bare(pieces):
    """https://docs.mistral.ai/capabilities/reasoning/"""
    folded = fold_chat([chunk(content=piece) for piece in pieces])

    assert read_completion(folded).text == "ab"


# Text completions.


def test_events_become_the_text_completion_that_they_make_up():
    def with_text(text: str, finish_reason: str | None = None) -> bytes:
        logprobs = {"tokens": [text], "token_logprobs": [-1], "top_logprobs": [{text: -1}]}
        choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": logprobs}
        return json.dumps({"id": "cmpl-1", "object": "text_completion", "choices": [choice]}).encode()

    folded = fold_completions([with_text("a"), with_text("b", "stop")])

    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1, -1], "top_logprobs": [{"a": -1}, {"b": -1}]}
    assert json.loads(folded) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "choices": [{"index": 0, "text": "ab", "finish_reason": "stop", "logprobs": logprobs}],
    }


# Any answer, however it is cut into pieces.

TEXT = st.text(min_size=1, max_size=20)
CALL = st.fixed_dictionaries(
    {"id": TEXT, "type": st.just("function"), "function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT})}
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant")},
    optional={"content": TEXT, "reasoning_content": TEXT, "refusal": TEXT, "tool_calls": st.lists(CALL, min_size=1)},
)
USAGE = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 2**53), "completion_tokens": st.integers(0, 2**53)})


def cut(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def deltas_of(draw: st.DrawFn, message: dict) -> list[dict]:
    deltas = [{"role": message["role"]}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: piece} for piece in cut(draw, message.get(name, ""))] if name in message else []
    for index, call in enumerate(message.get("tool_calls", ())):
        head, *pieces = cut(draw, call["function"]["arguments"])
        function = {"name": call["function"]["name"], "arguments": head}
        deltas.append({"tool_calls": [{**call, "index": index, "function": function}]})
        deltas += [{"tool_calls": [called(index, arguments=piece)]} for piece in pieces]
    return deltas


@st.composite
def streams(draw):
    """Answers and their events: those of each choice in their order, those of several in any."""
    messages = draw(st.lists(MESSAGES, min_size=1, max_size=3))
    finishes = [draw(st.sampled_from(["stop", "length", "tool_calls"])) for _ in messages]
    queues = [
        [*(chunk(index=index, **delta) for delta in deltas_of(draw, message)), chunk(index=index, finish_reason=finish)]
        for index, (message, finish) in enumerate(zip(messages, finishes, strict=True))
    ]
    events = []
    while left := [queue for queue in queues if queue]:
        events.append(draw(st.sampled_from(left)).pop(0))
    usage = draw(USAGE)
    return messages, finishes, usage, [*events, event(choices=[], usage=usage)]


def without_indices(message: dict) -> dict:
    calls = [{name: call[name] for name in call if name != "index"} for call in message.get("tool_calls", ())]
    return {**message, "tool_calls": calls} if calls else message


@given(streams())
def test_any_split_of_an_answer_gives_the_answer(stream):
    messages, finishes, usage, events = stream

    folded = json.loads(fold_chat(events))

    choices = folded["choices"]
    assert [choice["index"] for choice in choices] == list(range(len(messages)))
    assert [without_indices(choice["message"]) for choice in choices] == messages
    assert [choice["finish_reason"] for choice in choices] == finishes
    assert folded["usage"] == usage
