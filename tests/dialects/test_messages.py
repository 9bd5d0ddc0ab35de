"""The Anthropic Messages wire format: requests to a chat provider, its answers, and what is read in passing."""

import json
import time

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.types import Usage
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.messages import chat_request, estimate_tokens
from ai_proxy.dialects.messages_answers import from_completion
from ai_proxy.dialects.messages_readers import fold, read_answer, read_event, read_fault
from ai_proxy.dialects.usage import joined

TOOL = {"name": "weather", "description": "Of a city", "input_schema": {"type": "object", "properties": {}}}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}
IDENTIFIER = "0199b1a2-0000-7000-8000-000000000001"


def request(*messages: dict, **fields) -> dict:
    return {
        "model": "m",
        "max_tokens": 100,
        "messages": list(messages) or [{"role": "user", "content": "Hi"}],
        **fields,
    }


def user(*blocks: dict) -> dict:
    return {"role": "user", "content": list(blocks)}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def result(content, **fields) -> dict:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **fields}


def fault_in(body: dict) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        chat_request(body)
    return caught.value


# Requests: the conversation.


def test_the_system_prompt_becomes_the_first_message():
    assert chat_request(request(system="Be short."))["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
    ]


def test_a_system_prompt_in_blocks_becomes_one_text():
    system = [text("Be short."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}]

    chat = chat_request(request(system=system))

    assert chat["messages"][0] == {"role": "system", "content": "Be short.\n\nBe kind."}


def test_a_system_message_stays_where_it_is():
    chat = chat_request(request({"role": "user", "content": "Hi"}, {"role": "system", "content": [text("Be kind.")]}))

    assert [message["role"] for message in chat["messages"]] == ["user", "system"]


def test_a_lone_text_block_becomes_a_text():
    assert chat_request(request(user(text("Hi"))))["messages"] == [{"role": "user", "content": "Hi"}]


def test_texts_and_images_become_parts():
    body = request(
        user(
            text("What is this?"),
            {"type": "image", "source": PIXEL},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        )
    )

    (message,) = chat_request(body)["messages"]

    assert message["content"] == [
        text("What is this?"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]


def test_a_plain_document_becomes_text_under_its_title():
    source = {"type": "text", "media_type": "text/plain", "data": "Once upon a time"}

    (message,) = chat_request(request(user({"type": "document", "title": "Tale", "source": source})))["messages"]

    assert message["content"] == [text("Tale"), text("Once upon a time")]


def test_a_document_of_blocks_becomes_parts():
    source = {"type": "content", "content": [text("a"), {"type": "image", "source": PIXEL}]}

    (message,) = chat_request(request(user({"type": "document", "source": source})))["messages"]

    assert [part["type"] for part in message["content"]] == ["text", "image_url"]


def test_a_pdf_becomes_a_file():
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}

    (message,) = chat_request(request(user({"type": "document", "source": source})))["messages"]

    file = {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    assert message["content"] == [{"type": "file", "file": file}]


def test_a_search_result_becomes_text():
    block = {"type": "search_result", "source": "https://x", "title": "X", "content": [text("found")]}

    (message,) = chat_request(request(user(block)))["messages"]

    assert message["content"] == [text("X\nhttps://x"), text("found")]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
        {"type": "document", "source": {"type": "base64", "data": "JVBERi0="}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}},
        {"type": "text"},
        {"type": "image"},
    ],
)
def test_what_chat_has_no_place_for_is_refused_by_its_place(block):
    fault = fault_in(request(user(text("Hi"), block)))

    assert fault.param.startswith("messages.0.content.1")


def test_tool_calls_of_the_assistant_become_chat_tool_calls():
    calls = [text("Let me see."), {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}}]

    chat = chat_request(request({"role": "assistant", "content": calls}))

    assert chat["messages"] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Köln"}'},
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": [{"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "weather", "input": {}}]},
        {"role": "user", "content": [result({"type": "error"})]},
        {"role": "user", "content": [{"type": "tool_result", "content": "sunny"}]},
    ],
)
def test_a_tool_block_that_cannot_be_told_is_refused_by_its_place(message):
    assert fault_in(request(message)).param.startswith("messages.0.content.0")


def test_results_of_tools_come_before_the_text_of_the_same_message():
    chat = chat_request(request(user(text("Here you are."), result("sunny"))))

    assert chat["messages"] == [
        {"role": "tool", "tool_call_id": "toolu_1", "content": "sunny"},
        {"role": "user", "content": "Here you are."},
    ]


@pytest.mark.parametrize(
    ("content", "fields", "seen"),
    [
        ("sunny", {}, "sunny"),
        ([text("sunny"), text("warm")], {}, "sunny\nwarm"),
        ([], {}, ""),
        (None, {}, ""),
        ("no such city", {"is_error": True}, "Error: no such city"),
        ("sunny", {"is_error": False}, "sunny"),
    ],
)
def test_a_result_becomes_the_text_of_a_tool_message(content, fields, seen):
    (message,) = chat_request(request(user(result(content, **fields))))["messages"]

    assert message == {"role": "tool", "tool_call_id": "toolu_1", "content": seen}


def test_an_image_that_a_tool_returned_is_shown_in_a_message_after_it():
    chat = chat_request(request(user(result([text("Done."), {"type": "image", "source": PIXEL}]), text("Go on."))))

    tool, shown = chat["messages"]
    assert tool["role"] == "tool"
    assert tool["content"].startswith("Done.\n")
    assert [part["type"] for part in shown["content"]] == ["text", "image_url", "text"]
    assert "toolu_1" in shown["content"][0]["text"]


def test_thinking_is_left_out_of_the_conversation():
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "redacted_thinking", "data": "y"},
        text("Hello."),
    ]

    chat = chat_request(request({"role": "assistant", "content": blocks}))

    assert chat["messages"] == [{"role": "assistant", "content": "Hello."}]


def test_a_message_of_nothing_but_thinking_goes_with_it():
    thinking = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}]}

    chat = chat_request(request(thinking, {"role": "user", "content": "Hi"}))

    assert [message["role"] for message in chat["messages"]] == ["user"]


# Requests: options.


def test_options_get_their_names_in_chat():
    body = request(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END"],
        metadata={"user_id": "u1"},
        service_tier="auto",
    )

    chat = chat_request(body)

    del chat["messages"]
    assert chat == {"max_tokens": 100, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "user": "u1"}


def test_a_long_user_id_is_cut_to_what_openai_takes():
    assert chat_request(request(metadata={"user_id": "u" * 200}))["user"] == "u" * 64


def test_tools_become_functions():
    chat = chat_request(request(tools=[{**TOOL, "strict": True, "cache_control": {"type": "ephemeral"}}]))

    assert chat["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Of a city",
                "parameters": TOOL["input_schema"],
                "strict": True,
            },
        }
    ]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "weather"},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_of_tools_is_translated(choice, said):
    chat = chat_request(request(tools=[TOOL], tool_choice=choice))

    assert {name: chat[name] for name in ("tool_choice", "parallel_tool_calls") if name in chat} == said


def test_a_choice_without_tools_is_none():
    assert "tool_choice" not in chat_request(request(tool_choice={"type": "auto"}))


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search_20260318", "name": "web_search"}]},
        {"tools": [{"name": "weather"}]},
        {"tools": [TOOL], "tool_choice": {"type": "sometimes"}},
        {"tools": [TOOL], "tool_choice": {"type": "tool"}},
        {"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]},
        {"container": "container_1"},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"temperature": "warm"},
        {"messages": []},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "robot", "content": "Hi"}]},
        {"messages": [{"role": "user"}]},
        {"system": [{"type": "image", "source": PIXEL}]},
        {"output_config": {"effort": "some"}},
        {"output_config": {"format": {"type": "grammar", "schema": {}}}},
    ],
)
def test_what_cannot_be_asked_of_chat_is_refused(fields):
    fault = fault_in(request(**fields))

    assert fault.param is not None
    assert fault.param.split(".")[0] in fields


STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("name", ["output_config", "output_format"])
def test_a_schema_for_the_answer_becomes_a_response_format(name):
    form = {"type": "json_schema", "schema": STRICT}

    chat = chat_request(request(**{name: {"format": form} if name == "output_config" else form}))

    assert chat["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": STRICT, "strict": True},
    }


@pytest.mark.parametrize("schema", [{**STRICT, "required": []}, {**STRICT, "additionalProperties": True}])
def test_a_schema_that_openai_cannot_hold_to_is_not_strict(schema):
    nested = {**STRICT, "properties": {"a": {"type": "array", "items": schema}}}

    chat = chat_request(request(output_config={"format": {"type": "json_schema", "schema": nested}}))

    assert chat["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
        ({"output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 50_000}}, "high"),
    ],
)
def test_how_much_to_think_becomes_an_effort(fields, effort):
    assert chat_request(request(**fields)).get("reasoning_effort") == effort


def test_a_body_nested_too_deeply_is_refused():
    arguments: dict = {}
    for _ in range(50_000):
        arguments = {"a": arguments}
    call = {"type": "tool_use", "id": "x", "name": "y", "input": arguments}

    assert "deep" in fault_in(request({"role": "assistant", "content": [call]})).message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "thinking", "search_result"])},
    optional={
        name: JSON | st.just("x") | st.just({"type": "text", "data": "x"}) | st.just({"type": "base64", "data": "x"})
        for name in ("text", "source", "content", "id", "name", "input", "tool_use_id", "title", "is_error")
    },
)
CONTENT = JSON | st.text(max_size=8) | st.lists(BLOCKS | JSON, max_size=3)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": CONTENT})
)
BODIES = st.fixed_dictionaries(
    {"messages": MESSAGES | JSON},
    optional={
        name: JSON | extra
        for name, extra in {
            "system": CONTENT,
            "max_tokens": st.integers(),
            "metadata": st.just({"user_id": "u"}),
            "tools": st.lists(st.fixed_dictionaries({"name": JSON}, optional={"input_schema": JSON, "type": JSON})),
            "tool_choice": st.fixed_dictionaries({"type": st.sampled_from(["auto", "tool"])}, optional={"name": JSON}),
            "thinking": st.fixed_dictionaries({"type": JSON}, optional={"budget_tokens": JSON}),
            "output_config": st.fixed_dictionaries({"format": JSON, "effort": JSON}),
            "stop_sequences": st.lists(st.text(max_size=3)),
        }.items()
    },
)


@given(BODIES | st.dictionaries(st.text(max_size=8), JSON))
def test_any_body_is_translated_or_refused(body):
    try:
        chat = chat_request(body)
    except BadRequest:
        return

    assert chat["messages"]


# Counting.


def test_tokens_are_estimated_over_all_that_the_model_reads():
    body = request(user(text("abcd")), system="efgh", tools=[{"name": "abcd", "type": "custom"}])

    assert estimate_tokens(body) == 3


def test_an_image_counts_for_no_characters():
    assert estimate_tokens(request(user({"type": "image", "source": {**PIXEL, "data": "x" * 4000}}))) == 0


def test_the_record_estimates_as_many_tokens_as_were_counted():
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x" * 400}}
    body = request(user(text("abc"), {"type": "tool_result", "tool_use_id": "toolu_1", "content": "de"}, document))

    call = calls.parse("count_tokens", json.dumps(body).encode())

    assert estimate_tokens(body) == -(-call.characters() // 4) > 100


@given(st.dictionaries(st.sampled_from(["system", "messages", "tools"]), JSON))
def test_tokens_of_any_body_are_estimated(body):
    assert estimate_tokens(body) >= 0


# Answers.


def completion(message: dict | None = None, finish: str | None = "stop", **fields) -> dict:
    message = {"role": "assistant", "content": "Hello."} if message is None else message
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "model": "big", "choices": [choice], **fields}


def answered(answer: dict, **fields) -> dict:
    return from_completion(answer, request(**fields), identifier=IDENTIFIER, created=1)


def call(arguments, **fields) -> dict:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}, **fields}


def test_a_completion_becomes_a_message():
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }

    assert answered(completion(usage=usage)) == {
        "id": "msg_0199b1a2000070008000000000000001",
        "type": "message",
        "role": "assistant",
        "model": "big",
        "content": [text("Hello.")],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "output_tokens": 9,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    }


def test_what_was_put_into_the_cache_is_counted_beside_the_rest():
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 4},
    }

    assert answered(completion(usage=usage))["usage"] == {
        "input_tokens": 6,
        "output_tokens": 9,
        "cache_creation_input_tokens": 4,
        "cache_read_input_tokens": 20,
    }


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        (None, "end_turn"),
        ("eos", "end_turn"),
    ],
)
def test_the_finish_reason_becomes_a_stop_reason(finish, reason):
    assert answered(completion(finish=finish))["stop_reason"] == reason


def test_a_stop_sequence_that_the_server_tells_is_told():
    answer = completion()
    answer["choices"][0]["stop_reason"] = "END"

    message = answered(answer, stop_sequences=["END"])

    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
def test_tool_calls_become_blocks_after_the_text(finish):
    message = answered(completion({"content": "Let me see.", "tool_calls": [call('{"city": "Köln"}')]}, finish))

    assert message["content"] == [
        text("Let me see."),
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Köln"}},
    ]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("arguments", "decoded"),
    [
        ("", {}),
        (" ", {}),
        ("null", {}),
        (None, {}),
        ({"city": "Ulm"}, {"city": "Ulm"}),
        ("[1]", {"arguments": [1]}),
        ('{"city": "Ul', {"arguments": '{"city": "Ul'}),
    ],
)
def test_arguments_of_any_kind_become_an_object(arguments, decoded):
    message = answered(completion({"content": None, "tool_calls": [call(arguments)]}))

    assert message["content"][0]["input"] == decoded


def test_a_tool_call_without_an_id_gets_one():
    message = answered(completion({"content": None, "tool_calls": [call("{}", id=None), call("{}", id="")]}))

    assert len({block["id"] for block in message["content"]}) == 2


def test_a_refusal_is_told_as_one():
    message = answered(completion({"content": None, "refusal": "I can't."}))

    assert message["content"] == [text("I can't.")]
    assert message["stop_reason"] == "refusal"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_comes_first_for_those_who_asked_for_thinking(name):
    answer = completion({"content": "Hello.", name: "Hm."})

    message = answered(answer, thinking={"type": "adaptive"})

    assert message["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": ""}, text("Hello.")]


@pytest.mark.parametrize(
    "fields", [{}, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "adaptive", "display": "omitted"}}]
)
def test_reasoning_is_kept_from_those_who_did_not(fields):
    answer = completion({"content": "Hello.", "reasoning_content": "Hm."})

    assert answered(answer, **fields)["content"] == [text("Hello.")]


@pytest.mark.parametrize(
    "usage", [None, 3, {}, {"prompt_tokens": -1, "completion_tokens": 2**60}, {"prompt_tokens": "1"}]
)
def test_usage_that_makes_no_sense_counts_as_none(usage):
    counts = answered(completion(usage=usage))["usage"]

    assert (counts["input_tokens"], counts["output_tokens"]) == (0, 0)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [3]}, {"choices": [{}]}, {"choices": "x"}])
def test_what_is_no_completion_is_the_providers_fault(answer):
    with pytest.raises(ProviderFault):
        answered(answer)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("content", "reasoning", "refusal"), JSON) | {"tool_calls": JSON | st.lists(JSON)},
    ),
    JSON,
)
def test_any_message_of_a_completion_becomes_blocks(message, usage):
    answer = answered(completion(message, usage=usage), thinking={"type": "adaptive"})

    assert {block["type"] for block in answer["content"]} <= {"text", "thinking", "tool_use"}
    assert answer["stop_reason"]


# What is read of messages that pass through.

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, text("Hel"), text("lo.")],
    "stop_reason": "max_tokens",
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 20,
        "output_tokens": 9,
        "server_tool_use": None,
    },
}


def encoded(value) -> bytes:
    return json.dumps(value).encode()


def test_an_answer_is_read_in_chats_terms():
    body = encoded(ANSWER)

    answer = read_answer(body)

    assert answer.body is body
    assert (answer.text, answer.finish_reason) == ("Hello.", "length")
    assert answer.usage == Usage(35, 9, cache_read_tokens=20, cache_write_tokens=5)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_a_stop_reason_becomes_a_finish_reason(reason, finish):
    assert read_answer(encoded({**ANSWER, "stop_reason": reason})).finish_reason == finish


@pytest.mark.parametrize(
    "usage", [None, 3, {}, {"input_tokens": -1, "output_tokens": 1}, {"input_tokens": 1, "output_tokens": 2**60}]
)
def test_counts_that_make_no_sense_are_none(usage):
    assert read_answer(encoded({**ANSWER, "usage": usage})).usage is None


@pytest.mark.parametrize("body", [b"", b"3", b"{}", b'{"content": 3}', b"[]", b"\xff"])
def test_a_broken_answer_is_no_answer(body):
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        read_answer(body)


def test_an_error_in_place_of_an_answer_is_the_providers_fault():
    with pytest.raises(ProviderFault) as caught:
        read_answer(encoded({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))

    assert (caught.value.message, caught.value.status) == ("Overloaded", 529)


START = {
    "type": "message_start",
    "message": {**ANSWER, "content": [], "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}},
}


@pytest.mark.parametrize(
    ("event", "words", "content"),
    [
        (START, "", False),
        ({"type": "ping"}, "", False),
        ({"type": "content_block_start", "index": 0, "content_block": text("")}, "", False),
        ({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}, "", True),
        (
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "x", "name": "y", "input": {}},
            },
            "",
            True,
        ),
        ({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}, "Hi", True),
        ({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}, "", True),
        (
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
            "",
            True,
        ),
        (
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}},
            "",
            False,
        ),
        ({"type": "content_block_stop", "index": 0}, "", False),
        ({"type": "message_stop"}, "", False),
        ({"type": "something_new", "delta": None}, "", False),
    ],
)
def test_an_event_is_read(event, words, content):
    chunk = read_event(encoded(event))

    assert (chunk.text, chunk.content, chunk.event) == (words, content, event["type"])
    assert chunk.finish_reason is None


def test_the_event_before_the_last_tells_the_finish():
    event = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 15}}

    chunk = read_event(encoded(event))

    assert (chunk.finish_reason, chunk.content, chunk.usage) == ("tool_calls", True, Usage(0, 15))


def test_counts_of_two_events_make_one_usage():
    first, last = read_event(encoded(START)).usage, Usage(0, 15)

    assert joined(first, last) == Usage(10, 15)
    assert joined(None, last) == last
    assert joined(first, None) == first


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("authentication_error", 401),
        ("invalid_request_error", 400),
        ("something_new", None),
    ],
)
def test_an_error_event_is_the_providers_fault(kind, status):
    with pytest.raises(ProviderFault) as caught:
        read_event(encoded({"type": "error", "error": {"type": kind, "message": "no"}}))

    assert (caught.value.status, caught.value.code) == (status, kind)


@pytest.mark.parametrize(
    "error",
    [
        {"type": "billing_error", "message": "no"},
        {"type": "rate_limit_error", "message": "no", "details": {"error_code": "enforced_spend_limit_reached"}},
        {
            "type": "invalid_request_error",
            "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        },
        {
            "type": "invalid_request_error",
            "message": "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
        },
    ],
)
def test_an_account_without_means_is_told_from_a_bad_request(error):
    fault = read_fault(encoded({"type": "error", "error": error}))

    assert (fault.status, fault.code) == (402, "insufficient_quota")


@pytest.mark.parametrize("words", ["credit balance is too low", "You have reached your specified API usage limits."])
def test_what_a_refusal_quotes_of_the_caller_says_nothing_about_the_account(words):
    message = f"messages.0.role: '{words}' is not one of 'user', 'assistant'"

    fault = read_fault(encoded({"type": "error", "error": {"type": "invalid_request_error", "message": message}}))

    assert (fault.status, fault.code) == (400, "invalid_request_error")


@pytest.mark.parametrize("body", [b"", b"<html>", b"3", b'{"error": 3}', b'{"error": {"type": 3}}'])
def test_an_error_without_words_is_one_too(body):
    fault = read_fault(body)

    assert (fault.message, fault.status, fault.code) == ("", None, None)


STREAM = [
    START,
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": text("")},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "lo."}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"n": 1}}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ' "Ulm"}'}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 15},
    },
    {"type": "message_stop"},
]


def test_a_stream_is_folded_into_its_message():
    message = json.loads(fold([encoded(event) for event in STREAM]))

    assert message == {
        **START["message"],
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "x"},
            {**text("Hello."), "citations": [{"n": 1}]},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 15},
    }


def test_a_stream_that_broke_off_is_folded_as_far_as_it_came():
    message = json.loads(fold([encoded(event) for event in STREAM[:13]]))

    assert message["content"][2]["input"] == '{"city":'
    assert message["stop_reason"] is None


@pytest.mark.parametrize("field", ["text", "thinking", "partial_json"])
def test_a_stream_of_many_small_pieces_is_copied_about_once(field):
    piece = encoded({"type": "content_block_delta", "index": 0, "delta": {field: "x" * 10}})
    ends = [encoded({"type": "content_block_delta", "index": 0, "delta": {field: '"'}})] * 2
    began = time.process_time()

    (block,) = json.loads(fold([ends[0], *[piece] * 300_000, ends[1]]))["content"]

    took = time.process_time() - began
    long = "x" * 3_000_000
    assert block == ({"input": long} if field == "partial_json" else {field: f'"{long}"'})
    assert took < 30  # one second; hundreds if each piece were put behind a copy of all before it


def test_citations_come_after_those_that_the_block_began_with():
    start = {"type": "content_block_start", "index": 0, "content_block": {**text(""), "citations": [{"n": 0}]}}
    events = [{"type": "content_block_delta", "index": 0, "delta": {"citation": {"n": number}}} for number in (1, 2)]

    (block,) = json.loads(fold([encoded(event) for event in (start, *events)]))["content"]

    assert block["citations"] == [{"n": 0}, {"n": 1}, {"n": 2}]


@given(st.lists(st.sampled_from(STREAM) | JSON | st.dictionaries(st.sampled_from(["type", "delta", "index"]), JSON)))
@example([{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 3}}])
def test_any_events_are_folded(events):
    assert json.loads(fold([encoded(event) for event in events]))["type"]
