"""OpenAI's Responses wire format as a stream: chat chunks as events, and events that are read."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._models import validate_type
from openai.types.responses import Response, ResponseStreamEvent

from ai_proxy.core.types import Usage
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.responses_answers import from_completion
from ai_proxy.dialects.responses_events import FromChunks, failed
from ai_proxy.dialects.responses_object import skeleton
from ai_proxy.dialects.responses_readers import fold, read_event

IDENTIFIER = "01a20762-375b-7490-a54a-2ced17d31c9a"
HEX = IDENTIFIER.replace("-", "")
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}
PATCH = {"type": "custom", "name": "patch"}
REQUEST = {"input": "?", "tools": [LOOK, PATCH]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}


def chunk(finish_reason=None, logprobs=None, **delta) -> dict:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}


def called(index=0, identifier=None, name=None, arguments=None) -> dict:
    function = {"name": name, "arguments": arguments}
    call = {"index": index, "id": identifier, "function": {key: value for key, value in function.items() if value}}
    return {key: value for key, value in call.items() if value is not None}


def events_of(*chunks, request=None) -> list[dict]:
    stream = FromChunks(request or REQUEST, identifier=IDENTIFIER, model="big", created=1700000000)
    events = [event for each in chunks for event in stream.feed(each)] + stream.close()
    for event in events:
        validate_type(type_=ResponseStreamEvent, value=event)
    return events


def kinds(events) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def encoded(events) -> list[bytes]:
    return [msgspec.json.encode(event) for event in events]


# Streams of chat.


def test_a_text_is_streamed_as_a_message():
    events = events_of(
        chunk(role="assistant", content=""), chunk(content="Be"), chunk(content="cause"), chunk("stop"), USAGE
    )

    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(10))
    assert [event["delta"] for event in events if "delta" in event] == ["Be", "cause"]
    assert {event["item_id"] for event in events if "item_id" in event} == {f"msg_{HEX}00"}


def test_the_last_event_has_the_whole_response():
    *_, last = events_of(chunk(content="Because"), chunk("stop"), USAGE)

    assert last["response"]["status"] == "completed"
    assert last["response"]["output"][0]["content"][0]["text"] == "Because"
    assert last["response"]["usage"]["total_tokens"] == 7


def test_the_first_event_has_the_response_as_it_begins_even_when_read_late():
    created, in_progress, *_ = events_of(chunk(content="Because"), chunk("stop"), USAGE)

    for event in (created, in_progress):
        assert (event["response"]["status"], event["response"]["output"], event["response"]["usage"]) == (
            "in_progress",
            [],
            None,
        )


def test_reasoning_ends_where_the_answer_begins():
    events = events_of(
        chunk(reasoning_content="H"), chunk(reasoning_content="m"), chunk(content="Because"), chunk("stop")
    )

    assert kinds(events)[2:8] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
    ]
    assert kinds(events)[8:10] == ["output_item.done", "output_item.added"]
    assert events[8]["item"]["content"] == [{"type": "reasoning_text", "text": "Hm"}]


def test_reasoning_is_streamed_as_a_summary_to_a_caller_that_asked_for_one():
    events = events_of(chunk(reasoning="Hm"), chunk("stop"), request={"input": "?", "reasoning": {"summary": "auto"}})

    assert kinds(events)[3:7] == [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]


def test_reasoning_that_goes_on_after_words_is_an_item_of_its_own():
    events = events_of(
        chunk(reasoning="a"), chunk(content="b"), chunk(reasoning="c"), chunk(content="d"), chunk("stop")
    )

    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning", "message"]
    assert len({item["id"] for item in output}) == 4


def test_a_server_that_tells_its_reasoning_twice_is_heard_once():
    *_, last = events_of(chunk(reasoning="Hm", reasoning_content="Hm"), chunk("stop"))

    assert last["response"]["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]


def test_a_refusal_is_streamed():
    events = events_of(chunk(content="Well, "), chunk(refusal="n"), chunk(refusal="o"), chunk("stop"))

    assert "refusal.delta" in kinds(events)
    assert [part["type"] for part in events[-1]["response"]["output"][0]["content"]] == ["output_text", "refusal"]


def test_a_call_is_streamed():
    events = events_of(
        chunk(tool_calls=[called(0, "1", "look")]),
        chunk(tool_calls=[called(0, arguments='{"a"')]),
        chunk(tool_calls=[called(0, arguments=":1}")]),
        chunk("tool_calls"),
        USAGE,
    )

    assert kinds(events)[2:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert events[2]["item"]["call_id"] == "1"
    assert events[5]["arguments"] == '{"a":1}'


def test_calls_that_come_in_turns_keep_their_places():
    events = events_of(
        chunk(tool_calls=[called(0, "1", "look"), called(1, "2", "look")]),
        chunk(tool_calls=[called(1, arguments='{"b"'), called(0, arguments='{"a"')]),
        chunk(tool_calls=[called(0, arguments=":1}"), called(1, arguments=":2}")]),
        chunk("tool_calls"),
    )

    deltas = [(event["output_index"], event["delta"]) for event in events if "delta" in event]
    assert deltas == [(1, '{"b"'), (0, '{"a"'), (0, ":1}"), (1, ":2}")]
    assert [item["arguments"] for item in events[-1]["response"]["output"]] == ['{"a":1}', '{"b":2}']


def test_the_call_of_a_custom_tool_is_told_when_it_is_known():
    events = events_of(
        chunk(tool_calls=[called(0, "1", "patch", '{"input": "a')]),
        chunk(tool_calls=[called(0, arguments=' word"}')]),
        chunk("tool_calls"),
    )

    assert kinds(events)[2:6] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    assert events[3]["delta"] == events[4]["input"] == events[5]["item"]["input"] == "a word"


def test_a_custom_call_of_chat_is_streamed_as_it_comes():
    first = {"index": 0, "id": "1", "type": "custom", "custom": {"name": "patch", "input": "a"}}
    second = {"index": 0, "custom": {"input": " word"}}

    events = events_of(chunk(tool_calls=[first]), chunk(tool_calls=[second]), chunk("tool_calls"))

    assert [event["delta"] for event in events if "delta" in event] == ["a", " word"]


@pytest.mark.parametrize(
    "deltas",
    [
        [called(0, "1", "look", "{}"), called(0, "2", "look", "[]")],
        [called(None, "1", "look", "{}"), called(None, "2", "look", "[]")],
        [called(None, None, "look", "{}"), called(None, None, "look", "[]")],
        [
            called(None, "1", "look"),
            called(None, arguments="{}"),
            called(None, "2", "look"),
            called(None, arguments="[]"),
        ],
        [called(0, "1"), called(0, None, "look"), called(0, "1", "look", "{}"), called(1, "2", "look", "[]")],
        [called(0, "1", None, "{"), called(0, "1", "look", "}"), called(1, "2", "look", "[]")],
    ],
    ids=["one number for all", "no numbers", "neither numbers nor ids", "pieces", "repeated", "name last"],
)
def test_servers_that_number_calls_in_their_own_way_are_understood(deltas):
    *_, last = events_of(*(chunk(tool_calls=[delta]) for delta in deltas), chunk("tool_calls"))

    output = last["response"]["output"]
    assert [(item["name"], item["arguments"]) for item in output] == [("look", "{}"), ("look", "[]")]
    assert len({item["call_id"] for item in output}) == 2


def test_a_stream_that_was_cut_is_incomplete():
    *_, last = events_of(chunk(reasoning="Hm"), chunk(content="Beca"), chunk("length"), USAGE)

    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in last["response"]["output"]] == ["completed", "incomplete"]


def test_a_stream_without_content_is_a_response_without_output():
    events = events_of(chunk("stop"))

    assert kinds(events) == ["created", "in_progress", "completed"]
    assert events[-1]["response"]["output"] == []


def test_a_stream_without_chunks_begins_and_ends():
    assert kinds(events_of()) == ["created", "in_progress", "completed"]


def test_logprobs_come_with_their_text():
    token = {"token": "Be", "logprob": -0.5, "bytes": [66, 101], "top_logprobs": []}

    events = events_of(
        chunk(content="Be", logprobs={"content": [token]}), chunk("stop"), request={"input": "?", "top_logprobs": 1}
    )

    assert [event["logprobs"] for event in events if "logprobs" in event] == [[token], [token]]


def test_other_answers_than_the_first_are_left_out():
    other = {"choices": [{"index": 1, "delta": {"content": "Why not"}}]}

    assert "output_text.delta" not in kinds(events_of(other, chunk("stop")))


@pytest.mark.parametrize(
    "broken",
    [
        {"choices": 5},
        chunk(content=5),
        chunk(tool_calls=5),
        chunk(tool_calls=[{"function": {"name": 5}}]),
        {"choices": [{"delta": 5}]},
    ],
)
def test_a_broken_chunk_is_refused(broken):
    with pytest.raises(msgspec.MsgspecError):
        events_of(broken)


def test_a_call_of_nothing_is_the_providers_fault():
    with pytest.raises(ProviderFault):
        events_of(chunk(tool_calls=[called(0, "1", None, "{}")]), chunk("tool_calls"))


def test_a_stream_that_breaks_off_fails():
    event = failed(
        "openai: no answer",
        "upstream_timeout_idle",
        skeleton({}, identifier=IDENTIFIER, model="big", created=1),
        sequence_number=7,
    )

    validate_type(type_=ResponseStreamEvent, value=event)
    assert event["sequence_number"] == 7
    assert event["response"]["id"] == f"resp_{HEX}"
    assert event["response"]["error"]["code"] == "server_error"
    assert event["response"]["error"]["type"] == "upstream_timeout_idle"


def test_a_stream_that_fails_for_its_rate_says_so():
    event = failed(
        "openai: slow down", "upstream_rate_limited", skeleton({}, identifier=IDENTIFIER, model="big", created=1)
    )

    assert event["response"]["error"]["code"] == "rate_limit_exceeded"


# Any stream: pieces of text, of reasoning, of refusals and of calls, in any order.

pieces = st.one_of(
    st.tuples(st.sampled_from(["content", "reasoning_content", "reasoning", "refusal"]), st.text("ab\n", max_size=3)),
    st.tuples(st.sampled_from([0, 1, 2]), st.text('{}"1', max_size=3)),
)
finishes = st.sampled_from(["stop", "length", "tool_calls", "content_filter", None])


def streamed(parts, finish_reason) -> list[dict]:
    """The chunks of a stream. The first piece of a call is followed by its name, as all others by nothing."""
    started: set[int] = set()
    chunks = []
    for kind, text in parts:
        if isinstance(kind, str):
            chunks.append(chunk(**{kind: text}))
        elif kind in started:
            chunks.append(chunk(tool_calls=[called(kind, arguments=text)]))
        else:
            started.add(kind)
            name = "patch" if kind == 2 else "look"
            chunks.append(chunk(tool_calls=[called(kind, f"call_{kind}", name, text)]))
    return [*chunks, chunk(finish_reason), USAGE]


def aggregated(parts, finish_reason) -> dict:
    """The same answer, whole."""
    texts: dict = {}
    for kind, text in parts:
        texts[kind] = texts.get(kind, "") + text
    thought = "".join(text for kind, text in parts if kind in ("reasoning", "reasoning_content"))
    calls = [
        {
            "id": f"call_{kind}",
            "type": "function",
            "function": {"name": "patch" if kind == 2 else "look", "arguments": text},
        }
        for kind, text in texts.items()
        if isinstance(kind, int)
    ]
    message = {
        "role": "assistant",
        "content": texts.get("content"),
        "refusal": texts.get("refusal"),
        "reasoning_content": thought,
        "tool_calls": calls,
    }
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"model": "big", "choices": [choice], "usage": USAGE["usage"]}


def told(response, kind, field) -> str:
    """All the text of one kind in a response, in its order."""
    parts = [part for item in response["output"] for part in item.get("content", ()) if part["type"] == kind]
    return "".join(part[field] for part in parts)


def calls_of(response) -> list[tuple]:
    items = [item for item in response["output"] if item["type"].endswith("call")]
    return [(item["call_id"], item["name"], item.get("arguments"), item.get("input")) for item in items]


@given(st.lists(pieces, max_size=12), finishes)
def test_any_stream_ends_with_the_response_that_a_whole_answer_is(parts, finish_reason):
    whole = from_completion(aggregated(parts, finish_reason), REQUEST, identifier=IDENTIFIER, created=1700000000)

    response = events_of(*streamed(parts, finish_reason))[-1]["response"]

    validate_type(type_=Response, value=whole)
    for kind, field in (("output_text", "text"), ("reasoning_text", "text"), ("refusal", "refusal")):
        assert told(response, kind, field) == told(whole, kind, field)
    assert calls_of(response) == calls_of(whole)
    assert {**response, "output": []} == {**whole, "output": []}


@given(st.lists(pieces, max_size=12), finishes)
def test_a_stream_in_the_usual_order_ends_with_exactly_that_response(parts, finish_reason):
    order = {"reasoning_content": 0, "reasoning": 0, "content": 1, "refusal": 2}
    parts = sorted(parts, key=lambda part: order.get(part[0], 3))
    whole = from_completion(aggregated(parts, finish_reason), REQUEST, identifier=IDENTIFIER, created=1700000000)

    assert events_of(*streamed(parts, finish_reason))[-1]["response"] == whole


@given(st.lists(pieces, max_size=12), finishes)
def test_any_stream_is_well_formed(parts, finish_reason):
    events = events_of(*streamed(parts, finish_reason))

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    output = events[-1]["response"]["output"]
    for index, item in enumerate(output):
        own = [event for event in events if event.get("output_index") == index]
        assert (own[0]["type"], own[-1]["type"]) == ("response.output_item.added", "response.output_item.done")
        assert own[-1]["item"] == item
        assert {event["item_id"] for event in own[1:-1]} == {item["id"]}
        assert own[0]["item"]["id"] == item["id"]
        if not item["type"].endswith("call"):  # one at a time, from the first to the last event
            positions = [event["sequence_number"] for event in own]
            between = [event for event in events if positions[0] < event["sequence_number"] < positions[-1]]
            others = [output[event["output_index"]] for event in between if event["output_index"] != index]
            assert all(other["type"].endswith("call") for other in others)
    for earlier, later in pairwise(event for event in events if event["type"].endswith("item.added")):
        assert later["output_index"] == earlier["output_index"] + 1


@given(st.lists(pieces, max_size=12), finishes, st.data())
def test_any_stream_can_be_read_and_folded_wherever_it_breaks_off(parts, finish_reason, data):
    events = events_of(*streamed(parts, finish_reason))
    cut = data.draw(st.integers(0, len(events)))

    chunks = [read_event(event) for event in encoded(events)]
    folded = json.loads(fold(encoded(events[:cut])))

    text = told(events[-1]["response"], "output_text", "text")
    assert "".join(chunk.text for chunk in chunks) == text
    assert chunks[-1].usage == Usage(3, 4)
    if cut == len(events):
        assert folded == events[-1]["response"]
    else:
        said = "".join(chunk.text for chunk in chunks[:cut])
        assert folded["status"] == "incomplete"
        assert told(folded, "output_text", "text") == said


# Streams of providers that speak the format themselves.


@pytest.mark.parametrize(
    ("event", "content"),
    [
        ({"type": "response.created", "response": {}}, False),
        ({"type": "response.in_progress", "response": {}}, False),
        ({"type": "response.queued", "response": {}}, False),
        ({"type": "response.output_item.added", "item": {}}, True),
        ({"type": "response.reasoning_text.delta", "delta": "x"}, True),
        ({"type": "response.function_call_arguments.delta", "delta": "x"}, True),
        ({"type": "response.refusal.delta", "delta": "x"}, True),
        ({"type": "response.output_text.done", "text": "x"}, False),
        ({"type": "response.something_new", "delta": {"x": 1}}, False),
        ({"type": "keepalive"}, False),
        ({}, False),
    ],
)
def test_what_bears_content_is_told_apart(event, content):
    data = json.dumps(event).encode()

    chunk = read_event(data)

    assert (chunk.content, chunk.event, chunk.data) == (content, event.get("type", ""), data)
    assert (chunk.text, chunk.finish_reason, chunk.usage) == ("", None, None)


def test_the_last_event_tells_the_end_and_the_usage():
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    response = {
        "status": "incomplete",
        "output": [],
        "incomplete_details": {"reason": "content_filter"},
        "usage": usage,
    }

    chunk = read_event(json.dumps({"type": "response.incomplete", "response": response}).encode())

    assert (chunk.finish_reason, chunk.usage, chunk.content) == ("content_filter", Usage(3, 4), True)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Slow."}, ("Slow.", "rate_limit_exceeded", 429)),
        ({"type": "error", "error": {"code": "server_error", "message": "Oh."}}, ("Oh.", "server_error", 500)),
        ({"type": "error", "code": None, "message": "Oh."}, ("Oh.", None, None)),
        ({"error": {"message": "Oh.", "code": 503}}, ("Oh.", None, 503)),
        (
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": {"code": "insufficient_quota", "message": "Pay."}},
            },
            ("Pay.", "insufficient_quota", 429),
        ),
        ({"type": "response.failed", "response": {"status": "failed", "error": None}}, ("", None, None)),
        ({"type": "response.failed", "response": {"output": []}}, ("", None, None)),
    ],
)
def test_an_error_in_a_stream_is_the_providers_fault(event, expected):
    with pytest.raises(ProviderFault) as caught:
        read_event(json.dumps(event).encode())

    assert (caught.value.message, caught.value.code, caught.value.status) == expected


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"type": 5}', b'{"type": "response.completed", "response": {}}'])
def test_what_is_no_event_is_refused(data):
    with pytest.raises(msgspec.MsgspecError):
        read_event(data)


def test_what_came_of_every_kind_of_item_is_kept():
    def delta(kind, text, index, **place):
        return {"type": f"response.{kind}.delta", "output_index": index, "delta": text, **place}

    def added(index, **item):
        return {"type": "response.output_item.added", "output_index": index, "item": item}

    events = [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}},
        added(0, id="rs_1", type="reasoning", summary=[]),
        delta("reasoning_summary_text", "Hm", 0, summary_index=0),
        added(1, id="fc_1", type="function_call", arguments=""),
        delta("function_call_arguments", '{"a"', 1),
        added(2, id="ctc_1", type="custom_tool_call", input=""),
        delta("custom_tool_call_input", "wo", 2),
        delta("custom_tool_call_input", "rd", 2),
    ]

    response = json.loads(fold(encoded(events)))

    assert (response["id"], response["status"]) == ("resp_1", "incomplete")
    assert response["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm"}]
    assert response["output"][1]["arguments"] == '{"a"'
    assert response["output"][2]["input"] == "word"


def test_nothing_is_folded_into_an_empty_response():
    assert json.loads(fold([])) == {"object": "response", "error": None, "status": "incomplete", "output": []}
