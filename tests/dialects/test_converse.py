"""Chat completions as Amazon Bedrock's Converse, there and back."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.converse import upstream_request
from ai_proxy.dialects.converse_answers import ToChunks, to_completion
from ai_proxy.dialects.converse_wire import REASONING, read_fault
from tests.dialects.distortions import JSON, OBJECTS, distorted

RECORDED = Path(__file__).parent.parent / "providers" / "recorded" / "bedrock"
HEAD = {"identifier": "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000", "created": 1_700_000_000, "model": "claude"}
ASK = [{"role": "user", "content": "Why?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA}}
NOW = {"type": "function", "function": {"name": "now"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
FULL = {
    "messages": [
        {"role": "system", "content": "Be short."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,CCCC", "filename": "a.pdf"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [CALL],
            "reasoning_details": [{"format": REASONING, "type": "reasoning.text", "text": "Hm.", "signature": "s"}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
    ],
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "additionalModelRequestFields": {"a": 1},
    "reasoning_effort": "low",
    "max_tokens": 5,
    "temperature": 1,
    "top_k": 1,
    "stop": ["a"],
    "n": 1,
}


def recorded(name: str) -> dict:
    return json.loads((RECORDED / name).read_text())


def events(name: str) -> list[dict]:
    return [json.loads(line) for line in (RECORDED / name).read_text().splitlines()]


def asked(**fields) -> dict:
    return upstream_request({"messages": ASK, **fields})


def told(*messages: dict) -> list[dict]:
    return asked(messages=[*ASK, *messages])["messages"]


def refused(**fields) -> str | None:
    with pytest.raises(BadRequest) as caught:
        asked(**fields)
    return caught.value.param


def streamed(*events: dict, one_call: bool = False) -> list[dict]:
    chunks = ToChunks(**HEAD, one_call=one_call)
    return [chunk for event in events for chunk in chunks.feed(event)]


# Messages.


def test_a_question_becomes_a_message_of_blocks():
    assert asked() == {"messages": [{"role": "user", "content": [{"text": "Why?"}]}]}


def test_system_and_developer_messages_become_the_system_blocks():
    marked = {"type": "text", "text": "B", "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "system", "content": "A"}, {"role": "system", "content": ""}]

    body = asked(messages=[*messages, *ASK, {"role": "developer", "content": [marked]}])

    assert body["system"] == [{"text": "A"}, {"text": "B"}, {"cachePoint": {"type": "default"}}]
    assert body["messages"] == [{"role": "user", "content": [{"text": "Why?"}]}]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "text", "text": "hi"}, {"text": "hi"}),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}},
            {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}},
        ),
        (
            {
                "type": "file",
                "file": {"filename": "my_file, (1).v2.pdf", "file_data": "data:application/pdf;base64,AA"},
            },
            {"document": {"format": "pdf", "name": "my file (1) v2", "source": {"bytes": "AA"}}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain;charset=utf-8;base64,AA"}},
            {"document": {"format": "txt", "name": "document", "source": {"bytes": "AA"}}},
        ),
    ],
)
def test_the_parts_of_a_question_become_blocks(part, block):
    body = asked(messages=[{"role": "user", "content": [part]}])

    assert body["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ],
)
def test_a_part_that_cannot_be_passed_on_is_refused(part):
    assert refused(messages=[{"role": "user", "content": [part]}]) == "messages.0.content.0"


def test_a_tool_call_and_its_result_become_blocks_and_roles_alternate():
    other = {**CALL, "id": "call_2"}

    messages = told(
        {"role": "assistant", "content": "Wait.", "tool_calls": [CALL, other]},
        {"role": "tool", "tool_call_id": "call_1", "content": "A"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "B"}]},
        {"role": "user", "content": "And?"},
    )

    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"][:2] == [
        {"text": "Wait."},
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Oslo"}}},
    ]
    assert messages[2]["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "A"}]}},
        {"toolResult": {"toolUseId": "call_2", "content": [{"text": "B"}]}},
        {"text": "And?"},
    ]


def test_an_answer_of_nothing_is_left_out():
    messages = told({"role": "assistant", "content": " "}, {"role": "user", "content": "Hello?"})

    assert messages == [{"role": "user", "content": [{"text": "Why?"}, {"text": "Hello?"}]}]


def test_reasoning_survives_the_round_trip():
    message = to_completion(recorded("tool_calls.json"), **HEAD)["choices"][0]["message"]

    content = told(message)[1]["content"]

    assert content == recorded("tool_calls.json")["output"]["message"]["content"]


def test_hidden_reasoning_survives_the_round_trip():
    block = {"reasoningContent": {"redactedContent": "AAAA"}}
    answer = {**recorded("answer.json"), "output": {"message": {"content": [block, {"text": "Yes."}]}}}

    message = to_completion(answer, **HEAD)["choices"][0]["message"]

    assert "reasoning_content" not in message
    assert told(message)[1]["content"] == [block, {"text": "Yes."}]


def test_reasoning_of_others_is_not_passed_on():
    detail = {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1"}

    messages = told({"role": "assistant", "content": "Yes.", "reasoning_details": [detail]})

    assert messages[1]["content"] == [{"text": "Yes."}]


# Options.


def test_options_become_the_inference_config():
    body = asked(max_tokens=5, temperature=0, top_p=0.5, stop="a")

    assert body["inferenceConfig"] == {"maxTokens": 5, "temperature": 0.0, "topP": 0.5, "stopSequences": ["a"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False},
        {"response_format": {"type": "text"}, "reasoning_effort": "none"},
        {"user": "u", "stream": True, "seed": 7},
    ],
)
def test_what_says_nothing_is_left_out(fields):
    assert asked(**fields) == asked()


@pytest.mark.parametrize(("effort", "expected"), [("minimal", "low"), ("low", "low"), ("max", "max")])
def test_an_effort_is_passed_on(effort, expected):
    assert asked(reasoning_effort=effort)["outputConfig"] == {"effort": expected}


def test_a_json_schema_becomes_the_text_format():
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}

    structure = asked(response_format=wanted)["outputConfig"]["textFormat"]["structure"]

    assert structure["jsonSchema"]["name"] == "x"
    assert json.loads(structure["jsonSchema"]["schema"]) == SCHEMA


def test_fields_of_bedrocks_own_are_passed_on():
    body = asked(guardrailConfig={"guardrailIdentifier": "g"}, additionalModelRequestFields={"a": 1}, top_k=5)

    assert body["guardrailConfig"] == {"guardrailIdentifier": "g"}
    assert body["additionalModelRequestFields"] == {"top_k": 5, "a": 1}


def test_tools_become_specifications():
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}

    config = asked(tools=[strict, NOW])["toolConfig"]

    assert config == {
        "tools": [
            {
                "toolSpec": {
                    "name": "weather",
                    "description": "Of a city.",
                    "inputSchema": {"json": SCHEMA},
                    "strict": True,
                }
            },
            {"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        ]
    }


def allowed(mode: str, *names: str) -> dict:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [
        ("auto", {"auto": {}}, ["weather", "now"]),
        ("required", {"any": {}}, ["weather", "now"]),
        ({"type": "function", "function": {"name": "now"}}, {"tool": {"name": "now"}}, ["now"]),
        (allowed("auto", "now"), {"auto": {}}, ["now"]),
        (allowed("required", "now", "weather"), {"any": {}}, ["weather", "now"]),
    ],
)
def test_a_choice_of_tools_is_passed_on(choice, expected, names):
    config = asked(tools=[WEATHER, NOW], tool_choice=choice)["toolConfig"]

    assert config["toolChoice"] == expected
    assert [tool["toolSpec"]["name"] for tool in config["tools"]] == names


def test_tools_that_may_not_be_called_are_left_out():
    assert asked(tools=[WEATHER], tool_choice="none") == asked()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guardrailConfig": "g"}, "guardrailConfig"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        (
            {
                "tools": [WEATHER],
                "tool_choice": "none",
                "messages": [*ASK, {"role": "assistant", "tool_calls": [CALL]}],
            },
            "tool_choice",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields, param):
    assert refused(**fields) == param


@given(OBJECTS | distorted(FULL))
def test_any_request_is_translated_or_refused(chat):
    with suppress(BadRequest):
        json.dumps(upstream_request(chat))


# Whole answers.


def test_an_answer_becomes_a_completion():
    completion = to_completion(recorded("answer.json"), **HEAD)

    assert completion == {
        "id": "chatcmpl-0199aaaabbbb7ccc8dddeeeeffff0000",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "claude",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "The sky is blue."}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 128,
            "completion_tokens": 7,
            "total_tokens": 135,
            "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_uses_of_tools_become_tool_calls():
    choice = to_completion(recorded("tool_calls.json"), **HEAD)["choices"][0]

    message = choice["message"]
    assert choice["finish_reason"] == "tool_calls"
    assert (message["reasoning_content"], message["content"]) == ("I need the weather.", "Let me look.")
    assert message["tool_calls"] == [
        {
            "id": "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
        },
        {
            "id": "tooluse_9pKq1X0sQk2t8rW3yZ5vBA",
            "type": "function",
            "function": {"name": "now", "arguments": "{}"},
        },
    ]


def test_of_calls_made_together_the_first_is_passed_on_to_who_wants_but_one():
    choice = to_completion(recorded("tool_calls.json"), **HEAD, one_call=True)["choices"][0]

    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather"]
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("tool_use", "tool_calls"),
        ("new_in_2030", "stop"),
    ],
)
def test_stop_reasons_are_told_in_the_words_of_chat(reason, finish):
    completion = to_completion({**recorded("answer.json"), "stopReason": reason}, **HEAD)

    assert completion["choices"][0]["finish_reason"] == finish


def test_calls_are_told_even_if_the_reason_does_not():
    completion = to_completion({**recorded("tool_calls.json"), "stopReason": "end_turn"}, **HEAD)

    assert completion["choices"][0]["finish_reason"] == "tool_calls"


def test_a_text_with_citations_is_a_text():
    cited = {"citationsContent": {"content": [{"text": "A"}, {"text": "B"}], "citations": []}}
    answer = {**recorded("answer.json"), "output": {"message": {"content": [{"text": "Say: "}, cited]}}}

    assert to_completion(answer, **HEAD)["choices"][0]["message"]["content"] == "Say: AB"


@pytest.mark.parametrize("answer", [{}, {"output": {}, "stopReason": "end_turn"}, {"output": 1}, {"message": "no"}])
def test_what_is_no_answer_is_a_fault(answer):
    with pytest.raises(ProviderFault):
        to_completion(answer, **HEAD)


def test_a_broken_answer_is_a_fault():
    with pytest.raises(ProviderFault) as caught:
        to_completion({**recorded("answer.json"), "stopReason": "malformed_tool_use"}, **HEAD)

    assert caught.value.code == "malformed_tool_use"


@pytest.mark.parametrize("usage", [{"inputTokens": -1}, {"inputTokens": 2**60}, {}, None, []])
def test_a_count_that_is_none_is_left_out(usage):
    assert "usage" not in to_completion({**recorded("answer.json"), "usage": usage}, **HEAD)


@given(OBJECTS | distorted(recorded("answer.json"), recorded("tool_calls.json")))
def test_any_answer_is_translated_or_a_fault(answer):
    with suppress(ProviderFault):
        json.dumps(to_completion(answer, **HEAD))


# Streams.


def test_a_stream_becomes_chunks():
    chunks = streamed(*events("stream.jsonl"))

    choices = [chunk["choices"][0] for chunk in chunks[:-1]]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "The sky"},
        {"content": " is blue."},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 15
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-0199aaaabbbb7ccc8dddeeeeffff0000", "chat.completion.chunk", 1_700_000_000, "claude")
    }


def test_streamed_calls_come_in_pieces_and_are_json_even_without_arguments():
    chunks = streamed(*events("tool_calls.jsonl"))

    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [(call["index"], call.get("id"), call["function"]["arguments"]) for call in calls] == [
        (0, "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", ""),
        (0, None, '{"city": '),
        (0, None, '"Oslo"}'),
        (1, "tooluse_9pKq1X0sQk2t8rW3yZ5vBA", ""),
        (1, None, "{}"),
    ]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "I need the weather."
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 100}


def test_streamed_reasoning_can_be_put_together_and_given_back():
    chunks = streamed(*events("tool_calls.jsonl"))

    details = [
        detail
        for chunk in chunks
        for choice in chunk["choices"]
        for detail in choice["delta"].get("reasoning_details", [])
    ]
    whole = {
        name: "".join(detail[name] for detail in details if detail.get(name))
        for name in ("format", "text", "signature")
    }
    assert told({"role": "assistant", "content": "Yes.", "reasoning_details": [whole]})[1]["content"][0] == {
        "reasoningContent": {"reasoningText": {"text": "I need the weather.", "signature": "EtwBCkgIBRAB"}}
    }


def test_of_streamed_calls_the_first_is_passed_on_to_who_wants_but_one():
    chunks = streamed(*events("tool_calls.jsonl"), one_call=True)

    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert {call["index"] for call in calls} == {0}
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city": "Oslo"}'


def test_events_that_are_new_to_us_are_passed_over():
    assert streamed({"somethingNew": {"a": 1}}, {}) == []


def test_calls_that_bedrock_answers_itself_are_not_the_callers():
    start = {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "s", "name": "web", "type": "server_tool_use"}}}
    piece = {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}}

    assert streamed({"contentBlockStart": start}, {"contentBlockDelta": piece}) == []


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("throttlingException", 429),
        ("modelStreamErrorException", 424),
        ("validationException", 400),
        ("internalServerException", 500),
        ("serviceUnavailableException", 503),
        ("newException", None),
    ],
)
def test_an_exception_in_a_stream_is_a_fault(name, status):
    with pytest.raises(ProviderFault) as caught:
        streamed(*events("stream.jsonl")[:2], {name: {"message": "Sorry."}})

    assert (caught.value.message, caught.value.status, caught.value.code) == ("Sorry.", status, name)


@given(st.lists(OBJECTS | distorted(*events("stream.jsonl"), *events("tool_calls.jsonl")), max_size=4))
def test_any_stream_is_translated_or_a_fault(stream):
    with suppress(ProviderFault):
        json.dumps(streamed(*stream))


# Errors.


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"message": "No."}', "No.", None),
        (b'{"Message": "No."}', "No.", None),
        (
            b'{"__type": "com.amazon.coral.service#UnrecognizedClientException", "message": "No."}',
            "No.",
            "UnrecognizedClientException",
        ),
        (b"<html>", "", None),
    ],
)
def test_errors_are_read(body, message, code):
    fault = read_fault(body)

    assert (fault.message, fault.code) == (message, code)


@given(st.binary(max_size=20) | JSON.map(lambda value: json.dumps({"message": value}).encode()))
def test_any_refusal_is_a_fault(body):
    assert isinstance(read_fault(body), ProviderFault)
