"""The table of wire formats: that what belongs to one format fits together."""

import json
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.dialects.call import Dialect
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.wires import WIRES
from tests.dialects.distortions import JSON, distorted

BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def chunk(**fields) -> dict:
    return {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": None, **fields}]}


def called(**fields) -> dict:
    return chunk(delta={"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": "{"}, **fields}]})


USAGE = {"prompt_tokens": 3, "completion_tokens": 4}
CHAT = [
    chunk(delta={"role": "assistant", "content": "", "reasoning_content": "hm"}),
    chunk(delta={"content": "po"}, logprobs={"content": [{"token": "po", "logprob": -1.5}]}),
    chunk(delta={"content": "ng"}, logprobs={"content": [{"token": "ng", "logprob": -0.5}]}),
    called(id="call_1", type="function"),
    called(),
    chunk(delta={}, finish_reason="tool_calls"),
    {"id": "x", "choices": [], "usage": USAGE},
]
COMPLETIONS = [
    {"id": "x", "choices": [{"index": 0, "text": "po", "logprobs": {"tokens": ["po"]}}]},
    {"id": "x", "choices": [{"index": 0, "text": "ng", "logprobs": {"tokens": ["ng"]}, "finish_reason": "stop"}]},
    {"id": "x", "choices": [], "usage": USAGE},
]
MESSAGES = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [],
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "po"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ng"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "look"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}},
    {"type": "message_stop"},
]
PART = {"type": "output_text", "text": "pong"}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant"}
CALLED = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "look", "arguments": ""}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "output": [{**ITEM, "content": [PART]}, {**CALLED, "arguments": "{}"}],
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
RESPONSES = [
    {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {**ITEM, "content": []}},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "po"},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "ng"},
    {"type": "response.output_item.done", "output_index": 0, "item": {**ITEM, "content": [PART]}},
    {"type": "response.output_item.added", "output_index": 1, "item": CALLED},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
    {"type": "response.completed", "response": RESPONSE},
]
STREAMS = {"chat": CHAT, "completions": COMPLETIONS, "messages": MESSAGES, "responses": RESPONSES}
EACH = pytest.mark.parametrize("dialect", STREAMS)


def encoded(events) -> list[bytes]:
    return [json.dumps(event).encode() for event in events]


def readable(dialect: str, events: list[dict]) -> list[bytes]:
    """The events up to the first that the format's reader refuses: those are recorded."""
    found: list[bytes] = []
    for data in encoded(events):
        try:
            WIRES[dialect].read_event(data)
        except (*BROKEN, ProviderFault):
            break
        found.append(data)
    return found


def foldable(dialect: str, events: list[bytes]) -> bool:
    """Whether they are folded into an object; if not, the record has the events as they are."""
    try:
        folded = WIRES[dialect].fold(events)
    except BROKEN:
        return False
    return isinstance(json.loads(folded), dict)


def test_there_is_a_line_for_each_format_and_each_has_its_own_path():
    assert set(WIRES) == set(get_args(Dialect))
    assert len({wire.path for wire in WIRES.values()}) == len(WIRES)
    assert all(wire.path.startswith("/") for wire in WIRES.values())


@EACH
def test_a_folded_stream_reads_as_its_events_did(dialect):
    wire, events = WIRES[dialect], encoded(STREAMS[dialect])

    chunks = [wire.read_event(data) for data in events]
    folded = wire.read_answer(wire.fold(events))

    assert folded.text == "".join(chunk.text for chunk in chunks) == "pong"
    assert [folded.finish_reason] == [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
    assert (folded.usage.input_tokens, folded.usage.output_tokens) == (3, 4)


@EACH
@given(data=st.data())
def test_a_stream_that_broke_off_folds_to_the_text_that_came(dialect, data):
    wire, events = WIRES[dialect], encoded(STREAMS[dialect])
    came = events[: data.draw(st.integers(1, len(events)))]

    folded = json.loads(wire.fold(came))

    text = "".join(wire.read_event(event).text for event in came)
    assert isinstance(folded, dict)
    assert not text or text in json.dumps(folded)


@EACH
@given(data=st.data())
def test_odd_events_that_can_be_read_never_fail_to_fold_in_another_way(dialect, data):
    """One place is distorted, in an event that comes once, or twice, or again as it should be."""
    good = STREAMS[dialect]
    place = data.draw(st.integers(0, len(good) - 1))
    odd = data.draw(distorted(good[place]))
    rest = data.draw(st.sampled_from([good[place + 1 :], good[place:], [odd]]))

    events = readable(dialect, [*good[:place], odd, *rest])

    assert foldable(dialect, events) in {True, False}


@EACH
@given(data=st.data())
def test_a_field_that_changes_its_type_never_fails_to_fold_in_another_way(dialect, data):
    good = data.draw(st.sampled_from(STREAMS[dialect]))
    name = data.draw(st.sampled_from(["text", "content", "data", "id", "usage", "item", "response", "unheard-of"]))

    events = readable(dialect, [{**good, name: data.draw(JSON)} for _ in range(3)])

    assert foldable(dialect, events) in {True, False}
