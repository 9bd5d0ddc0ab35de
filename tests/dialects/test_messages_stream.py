"""Chat completion chunks as the events of an Anthropic stream."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.dialects.messages_events import FromChunks
from ai_proxy.dialects.messages_readers import fold

IDENTIFIER = "0199b1a2-0000-7000-8000-000000000001"


def delta(finish: str | None = None, **fields) -> dict:
    return {"id": "x", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(index: int | None, arguments: str | None = None, **fields) -> dict:
    function = {name: fields.pop(name) for name in ("name",) if name in fields}
    if arguments is not None:
        function["arguments"] = arguments
    return {"index": index, **fields, "function": function}


def calls(*pieces: dict) -> dict:
    return delta(tool_calls=list(pieces))


def events_of(*chunks: dict, **request) -> list[dict]:
    translator = FromChunks(request, identifier=IDENTIFIER, model="big", created=1)
    events = [event for chunk in chunks for event in translator.feed(chunk)]
    return events + translator.close()


def message_of(events: list[dict]) -> dict:
    return json.loads(fold([json.dumps(event).encode() for event in events]))


def blocks_of(*chunks: dict, **request) -> list[dict]:
    return message_of(events_of(*chunks, **request))["content"]


def assert_well_formed(events: list[dict]) -> None:
    """As the documentation has it: start, then blocks one after the other, then the message's delta and stop."""
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    inner = events[1:-2]
    followers = {
        "content_block_start": {"content_block_delta", "content_block_stop"},
        "content_block_delta": {"content_block_delta", "content_block_stop"},
        "content_block_stop": {"content_block_start"},
    }
    if inner:
        assert inner[0]["type"] == "content_block_start"
        assert inner[-1]["type"] == "content_block_stop"
    for one, next_one in pairwise(inner):
        assert next_one["type"] in followers[one["type"]]
        step = 1 if next_one["type"] == "content_block_start" else 0
        assert next_one["index"] == one["index"] + step
    starts = [event for event in inner if event["type"] == "content_block_start"]
    assert [event["index"] for event in starts] == list(range(len(starts)))


def test_a_text_streams_as_one_block():
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 20}}

    events = events_of(
        delta(role="assistant", content=""),
        delta(content="Hel"),
        delta(content="lo."),
        delta("stop"),
        {"choices": [], "usage": usage},
    )

    assert events == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_0199b1a2000070008000000000000001",
                "type": "message",
                "role": "assistant",
                "model": "big",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 0,
                    "output_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                },
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo."}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 10,
                "output_tokens": 2,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 20,
            },
        },
        {"type": "message_stop"},
    ]


def test_the_message_starts_with_the_first_chunk():
    translator = FromChunks({}, identifier=IDENTIFIER, model="big", created=1)

    assert [event["type"] for event in translator.feed(delta(role="assistant"))] == ["message_start"]
    assert translator.feed(delta()) == []


def test_an_answer_of_nothing_is_a_message():
    events = events_of()

    assert_well_formed(events)
    assert events[-2]["delta"]["stop_reason"] == "end_turn"


def test_reasoning_streams_as_thinking_before_the_text():
    events = events_of(
        delta(reasoning_content="H"),
        delta(reasoning="m."),
        delta(content="Hello."),
        delta("stop"),
        thinking={"type": "adaptive"},
    )

    assert_well_formed(events)
    assert events[1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert message_of(events)["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Hello."},
    ]


def test_reasoning_is_kept_from_those_who_did_not_ask():
    assert blocks_of(delta(reasoning_content="Hm."), delta(content="Hello.")) == [{"type": "text", "text": "Hello."}]


def test_the_arguments_of_a_tool_call_stream_as_they_come():
    translator = FromChunks({}, identifier=IDENTIFIER, model="big", created=1)
    translator.feed(delta(content="Let me see."))

    first = translator.feed(calls(call(0, "", id="call_1", name="weather")))
    second = translator.feed(calls(call(0, '{"city":')))

    assert first == [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}},
        },
    ]
    assert second == [
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '{"city":'},
        }
    ]


def test_a_call_that_comes_whole_is_one_block():
    events = events_of(calls(call(0, '{"a": 1}', id="call_1", name="f")), delta("tool_calls"))

    assert_well_formed(events)
    assert message_of(events)["content"] == [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_calls_whose_pieces_are_mixed_become_blocks_one_after_the_other():
    events = events_of(
        calls(call(0, "", id="call_1", name="f"), call(1, "", id="call_2", name="g")),
        calls(call(1, '{"b":')),
        calls(call(0, '{"a":'), call(1, " 2}")),
        delta(content="Wait."),
        calls(call(0, " 1}")),
        delta("tool_calls"),
    )

    assert_well_formed(events)
    assert message_of(events)["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "g", "input": {"b": 2}},
        {"type": "text", "text": "Wait."},
    ]


def test_calls_without_an_index_are_told_apart_by_their_ids():
    chunks = [calls(call(None, "{}", id="call_1", name="f")), calls(call(None, '{"a": 1}', id="call_2", name="f"))]

    assert [block["input"] for block in blocks_of(*chunks)] == [{}, {"a": 1}]


def test_an_id_that_changes_with_every_piece_does_not_make_another_call():
    chunks = [calls(call(0, '{"a":', id="one", name="f")), calls(call(0, " 1}", id="two"))]

    assert blocks_of(*chunks) == [{"type": "tool_use", "id": "one", "name": "f", "input": {"a": 1}}]


def test_a_call_whose_name_comes_late_waits_for_it():
    chunks = [calls(call(0, '{"a":', id="call_1")), calls(call(0, " 1}", name="f")), delta("tool_calls")]

    assert blocks_of(*chunks) == [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}]


def test_a_call_without_an_id_gets_one():
    first, second = blocks_of(calls(call(0, "{}", name="f"), call(1, "{}", name="g")))

    assert first["id"] != second["id"]


def test_arguments_that_came_decoded_are_encoded():
    piece = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": {"a": 1}}}

    assert blocks_of(calls(piece))[0]["input"] == {"a": 1}


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("tool_calls", "end_turn")],
)
def test_the_finish_reason_becomes_a_stop_reason(finish, reason):
    assert events_of(delta(content="Hi"), delta(finish))[-2]["delta"]["stop_reason"] == reason


def test_a_stop_sequence_that_the_server_tells_is_told():
    last = delta("stop")
    last["choices"][0]["stop_reason"] = "END"

    events = events_of(delta(content="Hi"), last, stop_sequences=["END"])

    assert events[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_a_refusal_is_told_as_one():
    events = events_of(delta(refusal="I can't."), delta("stop"))

    assert message_of(events)["content"] == [{"type": "text", "text": "I can't."}]
    assert events[-2]["delta"]["stop_reason"] == "refusal"


def test_the_last_of_several_counts_is_told():
    first, last = ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": n}} for n in (1, 7))

    assert events_of(first, last)[-2]["usage"]["output_tokens"] == 7


# Whatever comes, in whatever order.

PIECES = st.lists(
    st.tuples(st.integers(0, 3), st.text(alphabet="ab", max_size=3))
    | st.sampled_from(["content", "reasoning_content"]).flatmap(
        lambda name: st.tuples(st.just(name), st.text(alphabet="xy", max_size=3))
    ),
    max_size=20,
)


@given(PIECES, st.booleans())
def test_any_mix_of_deltas_gives_blocks_one_after_the_other_with_all_that_was_said(pieces, together):
    chunks, said, seen = [], {}, set()
    for key, words in pieces:
        said[key] = said.get(key, "") + words
        if isinstance(key, str):
            chunks.append(delta(**{key: words}))
        else:
            first = {} if key in seen else {"id": f"call_{key}", "name": f"f{key}"}
            seen.add(key)
            piece = call(key, words, **first)
            previous = chunks[-1]["choices"][0]["delta"].get("tool_calls") if chunks and together else None
            if previous is None:
                chunks.append(calls(piece))
            else:
                previous.append(piece)

    events = events_of(*chunks, thinking={"type": "adaptive"})

    assert_well_formed(events)
    blocks = message_of(events)["content"]
    for kind, name in (("text", "content"), ("thinking", "reasoning_content")):
        assert "".join(block[kind] for block in blocks if block["type"] == kind) == said.get(name, "")
    tools = {block["id"]: block["input"] or "" for block in blocks if block["type"] == "tool_use"}
    assert tools == {f"call_{key}": words for key, words in said.items() if isinstance(key, int)}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(
    JSON
    | st.fixed_dictionaries(
        {},
        optional={
            "index": JSON,
            "id": JSON,
            "function": JSON | st.fixed_dictionaries({"name": JSON, "arguments": JSON}),
        },
    )
)
DELTAS = st.fixed_dictionaries(
    {}, optional={"content": JSON, "reasoning": JSON, "refusal": JSON, "tool_calls": JSON | CALLS}
)
CHOICES = JSON | st.fixed_dictionaries({"delta": JSON | DELTAS}, optional={"finish_reason": JSON, "stop_reason": JSON})
CHUNKS = st.dictionaries(st.sampled_from(["choices", "usage"]), JSON) | st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, min_size=1, max_size=1)}, optional={"usage": JSON}
)


@given(st.lists(CHUNKS, max_size=8), JSON)
def test_any_chunks_give_a_well_formed_stream(chunks, thinking):
    events = events_of(*chunks, thinking=thinking)

    assert_well_formed(events)
