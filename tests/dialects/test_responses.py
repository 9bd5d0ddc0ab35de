"""OpenAI's Responses wire format: requests as chat requests, chat completions as responses, responses that are read."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._models import validate_type
from openai.types.responses import Response

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.types import Usage
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.responses import (
    chat_request,
    conversation,
    dereferenced,
    looks_like_responses,
    named_items,
    referenced,
)
from ai_proxy.dialects.responses_answers import from_completion
from ai_proxy.dialects.responses_readers import read_answer

IDENTIFIER = "01a20762-375b-7490-a54a-2ced17d31c9a"
HEX = IDENTIFIER.replace("-", "")
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
PATCH = {"type": "custom", "name": "patch", "description": "Edit a file.", "format": GRAMMAR}
CALLED = {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "look", "arguments": "{}"}
RETURNED = {"type": "function_call_output", "call_id": "1", "output": "a cat"}


def messages_of(*items, **fields) -> list[dict]:
    return chat_request({"input": list(items), **fields})["messages"]


def said(role: str, *parts) -> dict:
    return {"type": "message", "role": role, "content": list(parts)}


def text(value: str) -> dict:
    return {"type": "input_text", "text": value}


def refusal_of(body: dict) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        chat_request(body)
    return caught.value


def completion(finish_reason="stop", usage=None, logprobs=None, **message) -> dict:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, **message},
        "finish_reason": finish_reason,
        "logprobs": logprobs,
    }
    return {"id": "x", "object": "chat.completion", "model": "big", "choices": [choice], "usage": usage}


def response_to(request: dict, answer: dict) -> dict:
    response = from_completion(answer, request, identifier=IDENTIFIER, created=1700000000)
    validate_type(type_=Response, value=response)
    return response


def call(name: str, arguments: str = "{}", identifier: str = "1") -> dict:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


# Requests: the conversation.


def test_a_text_is_a_message_of_the_user():
    assert chat_request({"input": "Why?"}) == {"messages": [{"role": "user", "content": "Why?"}]}


def test_instructions_come_first_as_the_system():
    messages = chat_request({"input": "Why?", "instructions": "Be short."})["messages"]

    assert messages == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]


def test_instructions_and_the_developers_first_words_are_one_system_message():
    messages = messages_of(said("developer", text("In rhyme.")), said("user", text("Why?")), instructions="Be short.")

    assert messages[0] == {"role": "system", "content": "Be short.\n\nIn rhyme."}
    assert messages[1:] == [{"role": "user", "content": "Why?"}]


def test_later_words_of_the_developer_stay_where_they_are():
    messages = messages_of(said("user", text("Why?")), said("developer", text("In rhyme.")))

    assert [message["role"] for message in messages] == ["user", "system"]


def test_texts_of_one_message_go_as_one_text():
    messages = messages_of(said("user", text("This."), text("And that.")))

    assert messages == [{"role": "user", "content": "This.\nAnd that."}]


def test_a_message_needs_no_type():
    assert messages_of({"role": "user", "content": "Why?"}) == [{"role": "user", "content": "Why?"}]


def test_images_files_and_sounds_become_parts():
    image = {"type": "input_image", "image_url": "https://x/cat.png", "detail": "low"}
    plain = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}

    [message] = messages_of(said("user", text("What?"), image, plain, file, sound))

    assert message["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "https://x/cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]


def test_an_earlier_answer_comes_back_as_the_assistants():
    answer = said("assistant", {"type": "output_text", "text": "No."}, {"type": "refusal", "refusal": " Never."})

    assert messages_of({"role": "user", "content": "?"}, answer)[1] == {"role": "assistant", "content": "No. Never."}


def test_calls_next_to_each_other_are_one_message_and_their_outputs_follow():
    other = {**CALLED, "call_id": "2", "name": "hear", "arguments": '{"a":1}'}

    messages = messages_of(
        {"role": "user", "content": "?"}, CALLED, other, RETURNED, {**RETURNED, "call_id": "2", "output": "meow"}
    )

    assert messages[1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call("look"), call("hear", '{"a":1}', "2")]},
        {"role": "tool", "tool_call_id": "1", "content": "a cat"},
        {"role": "tool", "tool_call_id": "2", "content": "meow"},
    ]


def test_calls_join_the_words_before_them_with_or_without_reasoning_between():
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "…"}

    messages = messages_of(said("assistant", {"type": "output_text", "text": "I look."}), thought, CALLED, RETURNED)

    assert messages[0] == {"role": "assistant", "content": "I look.", "tool_calls": [call("look")]}


def test_words_after_a_call_do_not_part_it_from_its_output():
    messages = messages_of(CALLED, said("assistant", {"type": "output_text", "text": "I look."}), RETURNED)

    assert [message["role"] for message in messages] == ["assistant", "tool"]
    assert messages[0]["content"] == "I look."


def test_a_second_round_of_calls_is_a_message_of_its_own():
    messages = messages_of(CALLED, RETURNED, CALLED, RETURNED)

    assert [message["role"] for message in messages] == ["assistant", "tool", "assistant", "tool"]


def test_what_a_tool_returned_in_parts_is_joined():
    [_, message] = messages_of(CALLED, {**RETURNED, "output": [text("a cat"), text("on a mat")]})

    assert message["content"] == "a cat\non a mat"


def test_an_image_that_a_tool_returned_follows_the_last_output():
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    seen = {**RETURNED, "output": [image]}

    messages = messages_of(CALLED, CALLED, seen, RETURNED, {"role": "user", "content": "And?"})

    assert [message["role"] for message in messages] == ["assistant", "tool", "tool", "user", "user"]
    assert messages[1]["content"] == "The result is attached to the next message."
    assert messages[3]["content"][1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input.0"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": 5}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": [5]}]}, "input.0.content.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input.0.content.0.text"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input.0.content.0"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input.0.content.0.image_url",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]}, "input.0.content.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input.0.content.0.input_audio"),
        ({"input": [said("system", {"type": "input_image", "image_url": "u"})]}, "input.0.content"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input.0"),
        ({"input": [{**CALLED, "arguments": {}}]}, "input.0.arguments"),
        ({"input": [{**CALLED, "call_id": None}]}, "input.0.call_id"),
        ({"input": [{**RETURNED, "output": None}]}, "input.0.output"),
        ({"input": "?", "instructions": ["x"]}, "instructions"),
        ({"input": "?", "temperature": "hot"}, "temperature"),
        ({"input": "?", "temperature": True}, "temperature"),
        ({"input": "?", "max_output_tokens": 1.5}, "max_output_tokens"),
        ({"input": "?", "tools": {}}, "tools"),
        ({"input": "?", "truncation": "middle"}, "truncation"),
        ({"input": "?", "background": True}, "background"),
        ({"input": "?", "conversation": "conv_1"}, "conversation"),
        ({"input": "?", "prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": "?", "moderation": {"model": "m"}}, "moderation"),
        ({"input": "?", "text": {"format": {"type": "xml"}}}, "text.format"),
        ({"input": "?", "text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"input": "?", "text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ],
)
def test_what_is_malformed_or_cannot_be_expressed_is_refused_by_name(body, param):
    assert refusal_of(body).param == param


def test_options_are_called_as_chat_calls_them():
    chat = chat_request(
        {
            "input": "?",
            "model": "big",
            "stream": True,
            "store": False,
            "metadata": {"a": "b"},
            "include": ["reasoning.encrypted_content"],
            "max_output_tokens": 9,
            "temperature": 0,
            "top_p": None,
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"verbosity": "low", "format": {"type": "text"}},
            "prompt_cache_key": "k",
            "service_tier": "flex",
            "user": "me",
        }
    )

    del chat["messages"]
    assert chat == {
        "max_tokens": 9,
        "temperature": 0,
        "reasoning_effort": "low",
        "verbosity": "low",
        "prompt_cache_key": "k",
        "service_tier": "flex",
        "user": "me",
    }


def test_a_schema_is_nested():
    schema = {"type": "json_schema", "name": "cat", "schema": {"type": "object"}, "strict": True}

    chat = chat_request({"input": "?", "text": {"format": schema}})

    assert chat["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "cat", "schema": {"type": "object"}, "strict": True},
    }


def test_plain_json_is_asked_for():
    chat = chat_request({"input": "?", "text": {"format": {"type": "json_object"}}})

    assert chat["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, {}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ],
)
def test_logprobs_are_asked_for_in_two_ways(fields, asked):
    chat = chat_request({"input": "?", **fields})

    assert {name: chat[name] for name in chat if "logprobs" in name} == asked


# Requests: tools.


def test_functions_are_nested():
    chat = chat_request({"input": "?", "tools": [LOOK], "tool_choice": "auto", "parallel_tool_calls": False})

    function = {"name": "look", "parameters": {"type": "object"}, "strict": False}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert chat["tool_choice"] == "auto"
    assert chat["parallel_tool_calls"] is False


def test_a_custom_tool_is_a_function_of_one_text():
    chat = chat_request({"input": "?", "tools": [PATCH], "tool_choice": {"type": "custom", "name": "patch"}})

    [tool] = chat["tools"]
    assert tool["function"]["parameters"]["required"] == ["input"]
    assert tool["function"]["description"].startswith("Edit a file.")
    assert "start: WORD" in tool["function"]["description"]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "patch"}}


def test_a_custom_tool_stays_one_for_a_caller_that_reads_chat():
    called = {"type": "custom_tool_call", "call_id": "1", "name": "patch", "input": "word"}
    body = {"input": [called], "tools": [PATCH], "tool_choice": {"type": "custom", "name": "patch"}}

    chat = chat_request(body, custom_tools=True)

    grammar = {"syntax": "lark", "definition": "start: WORD"}
    assert chat["tools"][0]["custom"]["format"] == {"type": "grammar", "grammar": grammar}
    assert chat["tool_choice"] == {"type": "custom", "custom": {"name": "patch"}}
    assert chat["messages"][0]["tool_calls"] == [
        {"id": "1", "type": "custom", "custom": {"name": "patch", "input": "word"}}
    ]


def test_a_custom_tool_of_any_text_needs_no_grammar():
    chat = chat_request({"input": "?", "tools": [{"type": "custom", "name": "patch", "format": {"type": "text"}}]})

    assert set(chat["tools"][0]["function"]) == {"name", "parameters"}


def test_an_earlier_custom_call_is_told_as_the_function_was_called():
    called = {"type": "custom_tool_call", "call_id": "1", "name": "patch", "input": 'a "word"'}
    output = {"type": "custom_tool_call_output", "call_id": "1", "output": "done"}

    [message, result] = messages_of(called, output, tools=[PATCH])

    assert message["tool_calls"] == [call("patch", '{"input":"a \\"word\\""}')]
    assert result == {"role": "tool", "tool_call_id": "1", "content": "done"}


def test_tools_in_a_namespace_carry_its_name():
    tools = [
        {"type": "namespace", "name": "agents", "description": "", "tools": [LOOK]},
        {"type": "namespace", "name": "mcp__zoo__", "description": "", "tools": [LOOK]},
    ]

    chat = chat_request({"input": [{**CALLED, "namespace": "agents"}], "tools": tools})

    assert [tool["function"]["name"] for tool in chat["tools"]] == ["agents__look", "mcp__zoo__look"]
    assert chat["messages"][0]["tool_calls"] == [call("agents__look")]


def test_definitions_nested_as_in_chat_are_taken():
    nested = {"type": "function", "function": {"name": "look"}}

    chat = chat_request({"input": "?", "tools": [nested], "tool_choice": nested})

    assert chat["tools"] == [nested]
    assert chat["tool_choice"] == nested


def test_only_the_allowed_tools_are_offered():
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}

    chat = chat_request({"input": "?", "tools": [LOOK, PATCH], "tool_choice": allowed})

    assert [tool["function"]["name"] for tool in chat["tools"]] == ["look"]
    assert chat["tool_choice"] == "required"


def test_a_choice_between_no_tools_is_left_out():
    chat = chat_request({"input": "?", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True})

    assert list(chat) == ["messages"]


@pytest.mark.parametrize("access", [{}, {"external_web_access": False}, {"external_web_access": True}])
def test_a_search_of_the_web_that_is_only_offered_is_left_out(access):
    search = {"type": "web_search", **access}

    chat = chat_request({"input": "?", "tools": [LOOK, search], "tool_choice": "auto"})

    assert [tool["function"]["name"] for tool in chat["tools"]] == ["look"]


@pytest.mark.parametrize(
    "kind", ["file_search", "computer", "code_interpreter", "mcp", "image_generation", "shell", None, 5]
)
def test_tools_that_run_at_openai_are_refused(kind):
    error = refusal_of({"input": "?", "tools": [LOOK, {"type": kind}]})

    assert error.param == "tools"
    assert "tools.1" in error.message


@pytest.mark.parametrize(
    "choice",
    [
        "some",
        5,
        "required",
        {"type": "web_search"},
        {"type": "function"},
        {"type": "function", "name": "hear"},
        {"type": "allowed_tools", "mode": "auto", "tools": []},
        {"type": "allowed_tools", "mode": "none", "tools": [{"type": "function", "name": "look"}]},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]},
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(choice):
    tools = [] if choice == "required" else [LOOK]

    error = refusal_of({"input": "?", "tools": tools, "tool_choice": choice})

    assert (error.param or "").startswith("tool_choice")


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (5, "tools.0"),
        ({"type": "function"}, "tools.0.name"),
        ({**LOOK, "parameters": []}, "tools.0.parameters"),
        ({**PATCH, "format": {"type": "regex"}}, "tools.0.format"),
        ({**PATCH, "format": {"type": "grammar"}}, "tools.0.format.definition"),
        ({"type": "namespace", "name": "n", "tools": 5}, "tools.0.tools"),
        ({"type": "namespace", "tools": []}, "tools.0.name"),
    ],
)
def test_a_broken_tool_is_refused_by_name(tool, param):
    assert refusal_of({"input": "?", "tools": [tool]}).param == param


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = [
    "type",
    "role",
    "content",
    "text",
    "name",
    "input",
    "output",
    "arguments",
    "call_id",
    "tools",
    "mode",
    "format",
    "schema",
    "id",
    "image_url",
    "namespace",
    "message",
    "function",
    "custom",
    "namespace",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "reasoning",
    "user",
    "assistant",
    "system",
    "input_text",
    "input_image",
    "input_file",
    "input_audio",
    "json_schema",
    "grammar",
    "allowed_tools",
    "required",
    "auto",
    "item_reference",
    "file_data",
    "detail",
    "definition",
    "syntax",
    "effort",
    "summary",
    "verbosity",
]
items = st.dictionaries(
    st.sampled_from(WORDS),
    st.sampled_from(WORDS) | json_values | st.lists(st.dictionaries(st.sampled_from(WORDS), st.sampled_from(WORDS))),
    max_size=6,
)
FIELDS = [
    "instructions",
    "tool_choice",
    "text",
    "reasoning",
    "include",
    "top_logprobs",
    "max_output_tokens",
    "metadata",
    "background",
    "prompt",
    "conversation",
    "previous_response_id",
    "truncation",
    "parallel_tool_calls",
    "temperature",
    "user",
]
bodies = st.fixed_dictionaries(
    {},
    optional={
        "input": st.text(max_size=5) | st.lists(items | json_values, max_size=4) | json_values,
        "tools": st.lists(items | json_values, max_size=3) | json_values,
        **dict.fromkeys(FIELDS, items | json_values),
    },
)


@given(bodies, st.booleans())
def test_any_body_is_translated_or_refused(body, custom_tools):
    try:
        chat = chat_request(body, custom_tools=custom_tools)
    except BadRequest:
        return
    response = from_completion(completion(content="x"), body, identifier=IDENTIFIER, created=1)

    assert chat["messages"]
    json.dumps([chat, response])


# Conversations.


def test_a_conversation_goes_on_from_what_was_said():
    first = {"input": "One?", "instructions": "Be short."}
    second = {"input": [{"role": "user", "content": "Two?"}], "previous_response_id": "resp_1"}
    answers = [{"output": [said("assistant", {"type": "output_text", "text": answer})]} for answer in ("One.", "Two.")]
    request = {"input": "Three?", "previous_response_id": "resp_2", "temperature": 1}

    whole = conversation([(first, answers[0]), (second, answers[1])], request)

    contents = [message["content"] for message in chat_request(whole)["messages"]]
    assert contents == ["One?", "One.", "Two?", "Two.", "Three?"]
    assert "instructions" not in whole
    assert whole["temperature"] == 1
    assert request["previous_response_id"] == "resp_2"


def test_references_are_replaced_by_the_items_they_name():
    answer = response_to({"input": "?"}, completion(content="One."))
    reference = {"type": "item_reference", "id": answer["output"][0]["id"]}
    request = {"input": [{"role": "user", "content": "One?"}, reference, {"id": reference["id"]}, CALLED]}

    names = referenced(request)
    whole = dereferenced(request, {reference["id"]: answer["output"][0]})

    assert names == {answer["id"]: {reference["id"]: 2}}
    assert whole["input"] == [request["input"][0], answer["output"][0], answer["output"][0], CALLED]


def test_a_reference_to_an_item_of_another_service_stays():
    reference = {"type": "item_reference", "id": "msg_68a2a0c5b4648190a3c4b2d2b1c4b1c80f2d3b0e6c1d1a2b"}

    assert referenced({"input": [reference, {"id": 5}, "x"]}) == {}
    assert referenced({"input": 5}) == {}
    assert dereferenced({"input": [reference, "x"]}, {"other": "y"})["input"] == [reference, "x"]


def test_items_are_read_as_they_were_written():
    response = b'{"output": [{"id" : "a", "x": 1.50}, {"id": null}, {"id": 5}, 7, {}]}'

    assert [(name, bytes(item)) for name, item in named_items(response)] == [("a", b'{"id" : "a", "x": 1.50}')]
    assert [list(named_items(odd)) for odd in (b"{}", b'{"output": null}', b'{"output": {}}', b"[]")] == [[]] * 4


def test_a_body_of_cursors_is_recognized():
    assert looks_like_responses({"input": [], "model": "big"})
    assert looks_like_responses({"input": [], "messages": []})
    assert not looks_like_responses({"input": [], "messages": [{}]})
    assert not looks_like_responses({"messages": [{}]})


# Answers.


def test_an_answer_is_a_response_with_one_message():
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }

    response = response_to({"input": "?"}, completion(content="Because.", usage=usage))

    assert response["id"] == f"resp_{HEX}"
    assert (response["status"], response["model"], response["created_at"]) == ("completed", "big", 1700000000)
    assert response["output"] == [
        {
            "id": f"msg_{HEX}00",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Because.", "annotations": [], "logprobs": []}],
            "status": "completed",
        }
    ]
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 7,
    }


def test_reasoning_words_and_calls_are_items_in_this_order():
    answer = completion(
        "tool_calls", content="I look.", reasoning_content="Hm.", tool_calls=[call("look"), call("hear", "{}", "2")]
    )

    response = response_to({"input": "?", "tools": [LOOK]}, answer)

    thought, message, first, second = response["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert thought["summary"] == []
    assert message["content"][0]["text"] == "I look."
    assert first == {
        "id": f"fc_{HEX}02",
        "type": "function_call",
        "call_id": "1",
        "name": "look",
        "arguments": "{}",
        "status": "completed",
    }
    assert second["call_id"] == "2"


def test_reasoning_is_a_summary_for_a_caller_that_asked_for_one():
    request = {"input": "?", "reasoning": {"summary": "auto"}}

    [thought] = response_to(request, completion(reasoning="Hm."))["output"]

    assert thought["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert thought["content"] == []


def test_words_in_parts_are_joined():
    parts = [{"type": "text", "text": "Be"}, {"type": "thinking"}, {"type": "text", "text": "cause"}]

    [message] = response_to({"input": "?"}, completion(content=parts))["output"]

    assert message["content"][0]["text"] == "Because"


def test_a_refusal_is_a_part_of_its_own():
    [message] = response_to({"input": "?"}, completion(refusal="No."))["output"]

    assert message["content"] == [{"type": "refusal", "refusal": "No."}]


def test_a_call_of_a_custom_tool_is_turned_back():
    answer = completion("tool_calls", tool_calls=[call("patch", '{"input": "a \\"word\\""}')])

    [item] = response_to({"input": "?", "tools": [PATCH]}, answer)["output"]

    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "patch", 'a "word"')


@pytest.mark.parametrize("arguments", ["a word", '{"patch": "a word"}', '{"input": 5}', "[]", '{"input": "a wo'])
def test_a_model_that_breaks_the_schema_of_a_custom_tool_is_taken_at_its_word(arguments):
    answer = completion("tool_calls", tool_calls=[call("patch", arguments)])

    [item] = response_to({"input": "?", "tools": [PATCH]}, answer)["output"]

    assert item["input"] == arguments


def test_a_custom_call_of_chat_is_one_here():
    custom = {"id": "1", "type": "custom", "custom": {"name": "patch", "input": "word"}}

    [item] = response_to({"input": "?"}, completion("tool_calls", tool_calls=[custom]))["output"]

    assert (item["type"], item["input"]) == ("custom_tool_call", "word")


def test_a_call_of_a_tool_in_a_namespace_is_told_apart():
    tools = [{"type": "namespace", "name": "agents", "description": "", "tools": [LOOK]}]

    [item] = response_to({"input": "?", "tools": tools}, completion(tool_calls=[call("agents__look")]))["output"]

    assert (item["namespace"], item["name"]) == ("agents", "look")


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_is_incomplete(finish_reason, reason):
    response = response_to({"input": "?"}, completion(finish_reason, content="Beca", reasoning="Hm."))

    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_logprobs_come_along_when_they_were_asked_for():
    token = {"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    answer = completion(content="é", logprobs={"content": [token]})

    asked = response_to({"input": "?", "top_logprobs": 1}, answer)
    other = response_to({"input": "?"}, answer)

    assert asked["output"][0]["content"][0]["logprobs"] == [{**token, "bytes": [195, 169]}]
    assert other["output"][0]["content"][0]["logprobs"] == []


def test_logprobs_in_another_form_are_left_out():
    response = response_to({"input": "?", "top_logprobs": 1}, completion(content="x", logprobs={"content": ["x"]}))

    assert response["output"][0]["content"][0]["logprobs"] == []


def test_what_was_asked_is_echoed():
    request = {
        "input": "?",
        "instructions": "Be short.",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "store": False,
        "temperature": 0.5,
        "text": {"verbosity": "low"},
        "tool_choice": "required",
        "tools": [LOOK, PATCH],
        "truncation": "auto",
    }

    response = response_to(request, completion(content="x"))

    same = (
        "instructions",
        "max_output_tokens",
        "metadata",
        "parallel_tool_calls",
        "store",
        "temperature",
        "truncation",
    )
    assert {name: response[name] for name in same} == {name: request[name] for name in same}
    assert response["tools"] == [{**LOOK, "description": None}, PATCH]
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert response["reasoning"] == {"effort": "low", "summary": None}


def test_a_tier_that_openai_does_not_have_is_the_default():
    assert (
        response_to({"input": "?"}, {**completion(content="x"), "service_tier": "on_demand"})["service_tier"]
        == "default"
    )
    assert response_to({"input": "?"}, {**completion(content="x"), "service_tier": "flex"})["service_tier"] == "flex"


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": 2**60, "completion_tokens": 1}, 5],
)
def test_a_usage_that_is_no_count_is_left_out(usage):
    assert response_to({"input": "?"}, completion(content="x", usage=usage))["usage"] is None


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": 5},
        completion(content=5),
        completion(tool_calls=[{"id": "1"}]),
        completion(tool_calls=[5]),
        completion(tool_calls=[{"id": "1", "function": {"name": 5}}]),
    ],
)
def test_an_answer_that_makes_no_sense_is_the_providers_fault(answer):
    with pytest.raises((ProviderFault, msgspec.MsgspecError)):
        from_completion(answer, {"input": "?"}, identifier=IDENTIFIER, created=1)


@given(st.dictionaries(st.sampled_from(["choices", "usage", "model"]), json_values | st.lists(items, max_size=2)))
def test_any_answer_is_translated_or_the_providers_fault(answer):
    try:
        response = from_completion(answer, {"input": "?"}, identifier=IDENTIFIER, created=1)
    except (ProviderFault, msgspec.MsgspecError):
        return
    validate_type(type_=Response, value=response)


# Answers of providers that speak the format themselves.


def test_an_answer_is_read():
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    body = msgspec.json.encode(response_to({"input": "?"}, completion(content="x", reasoning="Hm.", usage=usage)))

    answer = read_answer(body)

    assert (answer.text, answer.finish_reason, answer.usage, answer.body) == ("x", "stop", Usage(3, 4), body)


@pytest.mark.parametrize(
    ("fields", "finish_reason"),
    [
        ({"status": "completed", "output": []}, "stop"),
        ({"status": "completed", "output": [{"type": "function_call"}]}, "tool_calls"),
        ({"status": "completed", "output": [{"type": "custom_tool_call"}]}, "tool_calls"),
        ({"status": "completed", "output": [{"type": "web_search_call", "action": {}}]}, "stop"),
        ({"status": "incomplete", "output": [], "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "output": [], "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "output": []}, "length"),
        ({"output": [{"type": "message"}]}, "stop"),
    ],
)
def test_how_an_answer_ended_is_told_in_terms_of_chat(fields, finish_reason):
    assert read_answer(json.dumps(fields).encode()).finish_reason == finish_reason


@pytest.mark.parametrize("usage", [None, {}, 5, {"input_tokens": -1, "output_tokens": 1}])
def test_nonsense_is_no_usage(usage):
    assert read_answer(json.dumps({"output": [], "usage": usage}).encode()).usage is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("rate_limit_exceeded", 429),
        ("insufficient_quota", 429),
        ("server_error", 500),
        ("invalid_image_url", 400),
        ("something_new", None),
    ],
)
def test_a_response_that_failed_is_the_providers_fault(code, status):
    body = json.dumps({"status": "failed", "output": [], "error": {"code": code, "message": "Oh."}}).encode()

    with pytest.raises(ProviderFault) as caught:
        read_answer(body)

    assert (caught.value.message, caught.value.code, caught.value.status) == ("Oh.", code, status)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"output": 5}', b'{"output": [{"type": "message", "content": 5}]}']
)
def test_what_is_no_response_is_refused(body):
    with pytest.raises(msgspec.MsgspecError):
        read_answer(body)
