"""Anthropic's Messages API as a provider of chat completions: requests, answers, streams."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.dialects.anthropic import ToChunks, to_completion, upstream_request
from ai_proxy.dialects.chat import ProviderFault, read_chunk, read_completion

IDENTIFIER = "0199b1a2-0000-7000-8000-000000000001"
NEW, OLD = "claude-opus-5", "claude-sonnet-4-5-20250929"
HI = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Of a city", "parameters": {}}}


def body_for(*messages: dict, model: str = NEW, **fields) -> dict:
    return upstream_request({"messages": list(messages) or [HI], **fields}, model=model, stream=False)


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def call(identifier: str, arguments: str, name: str = "weather") -> dict:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(identifier: str, content: Any) -> dict:
    return {"role": "tool", "tool_call_id": identifier, "content": content}


# Requests: the conversation.


def test_a_question_becomes_a_message():
    assert body_for() == {"model": NEW, "max_tokens": 32_000, "messages": [{"role": "user", "content": [text("Hi")]}]}


def test_a_stream_is_asked_for():
    assert upstream_request({"messages": [HI]}, model=NEW, stream=True)["stream"] is True


def test_instructions_are_gathered_in_front():
    body = body_for(
        {"role": "system", "content": "Be short."},
        HI,
        {"role": "developer", "content": [{**text("Be kind."), "cache_control": {"type": "ephemeral"}}]},
    )

    assert body["system"] == [text("Be short."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}]
    assert body["messages"] == [{"role": "user", "content": [text("Hi")]}]


def test_messages_of_one_role_in_a_row_become_one():
    body = body_for(HI, {"role": "user", "content": "there"}, {"role": "assistant", "content": "Hello."})

    assert body["messages"] == [
        {"role": "user", "content": [text("Hi"), text("there")]},
        {"role": "assistant", "content": [text("Hello.")]},
    ]


def test_messages_without_words_are_left_out():
    body = body_for(HI, {"role": "assistant", "content": ""}, {"role": "user", "content": [text("")]})

    assert body["messages"] == [{"role": "user", "content": [text("Hi")]}]


def test_images_and_files_become_blocks():
    parts = [
        text("Look:"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]

    (message,) = body_for({"role": "user", "content": parts})["messages"]

    assert message["content"] == [
        text("Look:"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        },
    ]


def test_tool_calls_and_their_results_become_blocks():
    body = body_for(
        HI,
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [call("call_1", '{"city": "Ulm"}'), call("call_2", "")],
        },
        result("call_1", "sunny"),
        result("call_2", [text("warm")]),
        {"role": "user", "content": "And?"},
    )

    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                text("Let me see."),
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Ulm"}},
                {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("sunny")]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [text("warm")]},
                text("And?"),
            ],
        },
    ]


def test_ids_of_tool_calls_are_made_fit_on_both_sides():
    body = body_for(HI, {"role": "assistant", "tool_calls": [call("functions.f:0", "{}")]}, result("functions.f:0", ""))

    assistant, user = body["messages"][1:]
    assert assistant["content"][0]["id"] == "functions_f_0"
    assert user["content"] == [{"type": "tool_result", "tool_use_id": "functions_f_0"}]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "system", "content": "Be short."}], "messages"),
        ([{"role": "user", "content": ""}], "messages"),
        ([{"role": "tool", "content": "x"}], "messages.0.tool_call_id"),
        ([{"role": "robot", "content": "x"}], "messages.0.role"),
        ([{"role": "assistant", "tool_calls": [call("1", "[]")]}], "messages.0.tool_calls.0.function.arguments"),
        ([{"role": "assistant", "tool_calls": [call("1", '{"a"')]}], "messages.0.tool_calls.0.function.arguments"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}]}],
            "messages.0.content.0",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}],
            "messages.0.content.0.image_url.url",
        ),
    ],
)
def test_a_message_that_anthropic_cannot_take_is_refused_by_its_place(messages, param):
    with pytest.raises(BadRequest) as caught:
        upstream_request({"messages": messages}, model=NEW, stream=False)

    assert caught.value.param == param


# Requests: options.


def test_options_get_their_names():
    body = body_for(model=OLD, max_tokens=10, temperature=0.5, stop=["END", " "], user="u1", seed=3, presence_penalty=1)

    del body["messages"]
    assert body == {
        "model": OLD,
        "max_tokens": 10,
        "temperature": 0.5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
    }


def test_the_newer_name_of_the_limit_counts():
    assert body_for(max_tokens=10, max_completion_tokens=20)["max_tokens"] == 20


@pytest.mark.parametrize(
    ("model", "given", "sent"),
    [
        (OLD, {"temperature": 0.2}, {"temperature": 0.2}),
        (OLD, {"temperature": 1.7}, {}),
        (OLD, {"temperature": 1, "top_p": 1}, {}),
        (OLD, {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}),
        (OLD, {"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}),
        ("claude-opus-4-6", {"temperature": 0.2}, {"temperature": 0.2}),
        ("claude-opus-4-7", {"temperature": 0.2}, {}),
        (NEW, {"temperature": 0.2, "top_p": 0.9, "top_k": 5}, {}),
        (OLD, {"temperature": 0.2, "reasoning_effort": "high"}, {}),
    ],
)
def test_a_model_is_sent_only_the_sampling_that_it_has(model, given, sent):
    body = body_for(model=model, **given)

    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == sent


ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        (NEW, "high", {"output_config": {"effort": "high"}, "thinking": ADAPTIVE}),
        (NEW, "xhigh", {"output_config": {"effort": "xhigh"}, "thinking": ADAPTIVE}),
        (NEW, "none", {"output_config": {"effort": "low"}}),
        (NEW, "minimal", {"output_config": {"effort": "low"}}),
        ("my-claude", "max", {"output_config": {"effort": "max"}, "thinking": ADAPTIVE}),
        ("claude-sonnet-4-6", "xhigh", {"output_config": {"effort": "high"}, "thinking": ADAPTIVE}),
        (OLD, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (OLD, "high", {"thinking": {"type": "enabled", "budget_tokens": 16_000}}),
        (OLD, "none", {}),
        ("claude-sonnet-4-20250514", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("claude-3-7-sonnet-20250219", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("claude-3-haiku-20240307", "high", {}),
        (NEW, None, {}),
    ],
)
def test_the_effort_is_told_in_the_way_of_the_models_generation(model, effort, sent):
    body = body_for(model=model, reasoning_effort=effort)

    assert {name: body[name] for name in ("output_config", "thinking") if name in body} == sent


def test_a_small_limit_leaves_no_room_to_think():
    assert "thinking" not in body_for(model=OLD, reasoning_effort="high", max_tokens=2000)


@pytest.mark.parametrize("model", [NEW, OLD])
def test_a_forced_tool_rules_thinking_out(model):
    assert "thinking" not in body_for(model=model, reasoning_effort="high", tools=[TOOL], tool_choice="required")


def test_results_of_tools_rule_a_budget_out():
    calls = {"role": "assistant", "tool_calls": [call("1", "{}")]}

    assert "thinking" not in body_for(HI, calls, result("1", "x"), model=OLD, reasoning_effort="high")
    assert "thinking" in body_for(HI, calls, result("1", "x"), model=NEW, reasoning_effort="high")


def test_functions_become_tools():
    strict = {"type": "function", "function": {"name": "f", "parameters": {"properties": {}}, "strict": True}}

    assert body_for(tools=[TOOL, strict])["tools"] == [
        {"name": "weather", "description": "Of a city", "input_schema": {"type": "object"}},
        {"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True},
    ]


def function(name: str) -> dict:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": function("weather")}, {"type": "tool", "name": "weather"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
    ],
)
def test_the_choice_of_tools_is_translated(fields, sent):
    assert body_for(tools=[TOOL], **fields).get("tool_choice") == sent


def test_tools_that_are_not_allowed_are_not_shown():
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("weather")]}}

    body = body_for(tools=[TOOL, function("f")], tool_choice=choice)

    assert [tool["name"] for tool in body["tools"]] == ["weather"]


def test_a_choice_without_tools_is_none():
    assert "tool_choice" not in body_for(tool_choice="auto", parallel_tool_calls=False)


def test_a_schema_is_sent_with_its_objects_closed():
    inner = {"type": "object", "properties": {"b": {"enum": [{"type": "object"}]}}}
    schema = {"type": "object", "properties": {"a": {"anyOf": [inner, {"type": "null"}]}}, "$defs": {"c": inner}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}

    body = body_for(response_format=form, reasoning_effort="low")

    closed = {**inner, "additionalProperties": False}
    assert body["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"anyOf": [closed, {"type": "null"}]}},
                "$defs": {"c": closed},
                "additionalProperties": False,
            },
        },
    }


def test_json_without_a_schema_is_asked_for_in_words():
    body = body_for({"role": "system", "content": "Be short."}, HI, response_format={"type": "json_object"})

    assert len(body["system"]) == 2
    assert "JSON" in body["system"][1]["text"]
    assert "output_config" not in body


def test_plain_text_needs_no_format():
    assert body_for(response_format={"type": "text"}) == body_for()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "x"}, "max_tokens"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"logit_bias": {"1": 100}}, "logit_bias"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
        ({"reasoning_effort": "some"}, "reasoning_effort"),
    ],
)
def test_what_anthropic_cannot_do_is_refused(fields, param):
    with pytest.raises(BadRequest) as caught:
        body_for(**fields)

    assert caught.value.param == param


def test_a_schema_nested_too_deeply_is_refused():
    schema: dict = {}
    for _ in range(50_000):
        schema = {"items": schema}

    with pytest.raises(BadRequest, match="deep"):
        body_for(response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(
    JSON
    | st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional={
            "content": JSON | st.text() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": JSON})),
            "tool_calls": JSON | st.lists(st.fixed_dictionaries({"id": JSON, "function": JSON})),
            "tool_call_id": st.text(max_size=4) | JSON,
        },
    ),
    max_size=4,
)
OPTIONS = ("tools", "tool_choice", "response_format", "stop", "max_tokens", "user", "n", "reasoning_effort")


@given(
    st.fixed_dictionaries({"messages": MESSAGES | JSON}, optional=dict.fromkeys(OPTIONS, JSON)),
    st.sampled_from([NEW, OLD, ""]),
)
def test_any_body_is_translated_or_refused(chat, model):
    try:
        body = upstream_request(chat, model=model, stream=True)
    except BadRequest:
        return

    assert body["messages"][0]["content"]


# Answers.

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5",
    "content": [text("Hel"), text("lo.")],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    },
}


def completion(**fields) -> dict:
    return to_completion({**ANSWER, **fields}, identifier=IDENTIFIER, created=7, model="big")


def test_a_message_becomes_a_completion():
    assert completion() == {
        "id": "chatcmpl-0199b1a2000070008000000000000001",
        "object": "chat.completion",
        "created": 7,
        "model": "big",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 35,
            "completion_tokens": 9,
            "total_tokens": 44,
            "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 4},
        },
    }


def test_blocks_become_what_chat_calls_them():
    tool_use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}}
    blocks = [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "redacted_thinking", "data": "y"}]

    (choice,) = completion(content=[*blocks, tool_use], stop_reason="tool_use")["choices"]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Hm.",
        "tool_calls": [call("toolu_1", '{"city":"Köln"}')],
    }


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
        (3, "stop"),
    ],
)
def test_the_stop_reason_becomes_a_finish_reason(reason, finish):
    assert completion(stop_reason=reason)["choices"][0]["finish_reason"] == finish


def test_an_empty_answer_is_an_empty_text():
    assert completion(content=[])["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize("answer", [{}, {"content": "x"}, {"content": None}])
def test_what_is_no_message_is_the_providers_fault(answer):
    with pytest.raises(ProviderFault):
        to_completion(answer, identifier=IDENTIFIER, created=7, model="big")


def test_an_error_in_place_of_a_message_is_the_providers_fault():
    with pytest.raises(ProviderFault) as caught:
        completion(type="error", error={"type": "overloaded_error", "message": "Overloaded"})

    assert (caught.value.message, caught.value.status) == ("Overloaded", 529)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 3}, "x"])
def test_what_was_not_counted_is_not_told(usage):
    assert "usage" not in completion(usage=usage)


BLOCKS = st.lists(
    JSON
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "thinking", "tool_use"])},
        optional=dict.fromkeys(("text", "thinking", "id", "name", "input"), JSON),
    )
)


@given(BLOCKS, JSON, JSON)
def test_any_message_becomes_a_completion_that_can_be_read(blocks, reason, usage):
    answer = completion(content=blocks, stop_reason=reason, usage=usage)

    assert read_completion(json.dumps(answer).encode()).finish_reason


# Streams.


def start(index: int, block: dict) -> dict:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields) -> dict:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> dict:
    return {"type": "content_block_stop", "index": index}


OPENING = {
    "type": "message_start",
    "message": {**ANSWER, "content": [], "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}},
}
ENDING = [
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
]
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}


def chunks_of(*events: dict) -> list[dict]:
    translator = ToChunks(identifier=IDENTIFIER, created=7, model="big")
    return [chunk for event in events for chunk in translator.feed(event)]


def deltas_of(*events: dict) -> list[dict]:
    return [chunk["choices"][0]["delta"] for chunk in chunks_of(*events) if chunk["choices"]]


def test_a_text_streams_as_chunks():
    chunks = chunks_of(
        OPENING,
        start(0, text("")),
        {"type": "ping"},
        delta(0, type="text_delta", text="Hel"),
        delta(0, type="text_delta", text="lo."),
        stop(0),
        *ENDING,
    )

    head = {
        "id": "chatcmpl-0199b1a2000070008000000000000001",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "big",
    }
    assert all(chunk.items() >= head.items() for chunk in chunks)
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo."}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        [],
    ]
    assert chunks[-1]["usage"]["prompt_tokens"] == 10
    assert chunks[-1]["usage"]["completion_tokens"] == 9


def test_the_first_chunk_of_any_kind_has_the_role():
    (only,) = deltas_of(delta(0, type="text_delta", text="Hi"))

    assert only == {"role": "assistant", "content": "Hi"}


def test_thinking_streams_as_reasoning():
    deltas = deltas_of(
        OPENING,
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, type="thinking_delta", thinking="Hm."),
        delta(0, type="signature_delta", signature="x"),
        stop(0),
    )

    assert deltas[1:] == [{"reasoning_content": "Hm."}]


def test_tool_calls_are_numbered_among_themselves():
    deltas = deltas_of(
        OPENING,
        start(0, text("")),
        stop(0),
        start(1, TOOL_USE),
        delta(1, type="input_json_delta", partial_json=""),
        delta(1, type="input_json_delta", partial_json='{"city":'),
        delta(1, type="input_json_delta", partial_json=' "Ulm"}'),
        stop(1),
        start(2, {**TOOL_USE, "id": "toolu_2"}),
        stop(2),
    )

    assert deltas[1:] == [
        {"tool_calls": [{"index": 0, **call("toolu_1", "")}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "Ulm"}'}}]},
        {"tool_calls": [{"index": 1, **call("toolu_2", "")}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]


def test_an_input_that_came_at_once_is_the_arguments():
    deltas = deltas_of(OPENING, start(0, {**TOOL_USE, "input": {"city": "Ulm"}}), stop(0))

    assert deltas[1:] == [{"tool_calls": [{"index": 0, **call("toolu_1", '{"city":"Ulm"}')}]}]


def test_what_is_for_anthropics_own_clients_is_passed_over():
    assert (
        deltas_of(
            start(0, {"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}),
            delta(0, type="input_json_delta", partial_json="{}"),
            delta(0, type="citations_delta", citation={}),
            stop(0),
            {"type": "something_new"},
            {},
        )
        == []
    )


def test_a_stream_that_was_not_counted_ends_without_usage():
    chunks = chunks_of(delta(0, type="text_delta", text="Hi"), {"type": "message_stop"})

    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]] == [None, "stop"]


def test_the_later_count_of_the_input_holds():
    last = {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 12, "cache_read_input_tokens": 3}}

    usage = chunks_of(OPENING, last, *ENDING)[-1]["usage"]

    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (15, 9)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("authentication_error", 401),
        ("invalid_request_error", 400),
    ],
)
def test_an_error_event_is_the_providers_fault(kind, status):
    with pytest.raises(ProviderFault) as caught:
        chunks_of(OPENING, {"type": "error", "error": {"type": kind, "message": "no"}})

    assert (caught.value.status, caught.value.message) == (status, "no")


EVENTS = st.sampled_from(
    [
        OPENING,
        start(0, text("")),
        start(1, TOOL_USE),
        delta(1, type="input_json_delta", partial_json="{"),
        stop(1),
        *ENDING,
    ]
) | st.fixed_dictionaries(
    {"type": st.sampled_from([OPENING["type"], "content_block_start", "content_block_delta", "message_delta"]) | JSON},
    optional=dict.fromkeys(("index", "delta", "content_block", "usage", "message"), JSON),
)


@given(st.lists(EVENTS, max_size=10))
def test_any_events_become_chunks_that_can_be_read(events):
    chunks = chunks_of(*events)

    for chunk in chunks:
        read_chunk(json.dumps(chunk).encode())
    roles = [chunk["choices"][0]["delta"].get("role") for chunk in chunks if chunk["choices"]]
    assert roles.count("assistant") <= 1
