"""Chat completions as Gemini's generateContent, there and back."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.gemini import upstream_request
from ai_proxy.dialects.gemini_answers import ToChunks, to_completion
from ai_proxy.dialects.gemini_wire import read_fault
from tests.dialects.distortions import JSON, OBJECTS, distorted

RECORDED = Path(__file__).parent.parent / "providers" / "recorded" / "gemini"
HEAD = {"identifier": "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000", "created": 1_700_000_000, "model": "gemini-3.5-flash"}
NEW = "gemini-3.5-flash"
OLD = "gemini-2.5-flash"
ASK = [{"role": "user", "content": "Why?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False},
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
    "extra_content": {"google": {"thought_signature": "sig"}},
}
FULL = {
    "messages": [
        {"role": "system", "content": "Be short."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,CCCC", "filename": "a.pdf"}},
            ],
        },
        {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
    ],
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "extra_body": {"google": {"thinking_config": {"thinking_budget": 5}}},
    "reasoning_effort": "low",
    "max_tokens": 5,
    "temperature": 1,
    "stop": ["a"],
    "n": 1,
    "logprobs": True,
    "top_logprobs": 2,
}


def recorded(name: str) -> dict:
    return json.loads((RECORDED / name).read_text())


def events(name: str) -> list[dict]:
    lines = (RECORDED / name).read_text().splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def asked(model: str = NEW, **fields) -> dict:
    return upstream_request({"messages": ASK, **fields}, model=model)


def told(*messages: dict, model: str = NEW) -> list[dict]:
    return upstream_request({"messages": [*ASK, *messages]}, model=model)["contents"]


def refused(**fields) -> str | None:
    with pytest.raises(BadRequest) as caught:
        asked(**fields)
    return caught.value.param


def streamed(*events: dict, one_call: bool = False) -> list[dict]:
    chunks = ToChunks(**HEAD, one_call=one_call)
    return [chunk for event in events for chunk in chunks.feed(event)] + chunks.close()


def candidate(**fields) -> dict:
    return {"candidates": [{"content": {"parts": [{"text": "pong"}]}, "finishReason": "STOP", **fields}]}


# Messages.


def test_a_question_becomes_contents():
    assert asked() == {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}


def test_system_and_developer_messages_become_the_system_instruction():
    body = asked(messages=[{"role": "system", "content": "A"}, *ASK, {"role": "developer", "content": "B"}])

    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Why?"}]}]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "hi"}, {"text": "hi"}),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://a.b/c.JPG?x=1"}},
            {"fileData": {"fileUri": "https://a.b/c.JPG?x=1", "mimeType": "image/jpeg"}},
        ),
        ({"type": "image_url", "image_url": {"url": "https://a.b/c"}}, {"fileData": {"fileUri": "https://a.b/c"}}),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
        ),
    ],
)
def test_the_parts_of_a_question_become_parts(part, expected):
    body = asked(messages=[{"role": "user", "content": [part]}])

    assert body["contents"][0]["parts"] == [expected]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png,AAAA"}}, "messages.0.content.0.image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "messages.0.content.0.image_url.url"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "messages.0.content.0.image_url.url"),
        ({"type": "image_url"}, "messages.0.content.0"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "messages.0.content.0"),
        ({"type": "video_url", "video_url": {"url": "https://a.b"}}, "messages.0.content.0"),
    ],
)
def test_a_part_that_cannot_be_passed_on_is_refused(part, param):
    assert refused(messages=[{"role": "user", "content": [part]}]) == param


def test_a_tool_call_and_its_result_are_joined_by_the_functions_name():
    contents = told(
        {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "Sun"}
    )

    called, answered = contents[1:]
    assert called["role"] == "model"
    assert called["parts"][0]["functionCall"] == {"id": "call_1", "name": "weather", "args": {"city": "Oslo"}}
    assert answered == {
        "role": "user",
        "parts": [{"functionResponse": {"id": "call_1", "name": "weather", "response": {"output": "Sun"}}}],
    }


def test_the_results_of_calls_made_together_come_together():
    other = {**CALL, "id": "call_2"}

    contents = told(
        {"role": "assistant", "content": "Wait.", "tool_calls": [CALL, other]},
        {"role": "tool", "tool_call_id": "call_2", "content": "B"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "A"}]},
        {"role": "user", "content": "And?"},
    )

    assert [content["role"] for content in contents] == ["user", "model", "user", "user"]
    assert [part["functionResponse"]["response"]["output"] for part in contents[2]["parts"]] == ["B", "A"]


def test_a_result_without_its_call_is_refused():
    messages = [*ASK, {"role": "tool", "tool_call_id": "call_9", "content": "?"}]

    assert refused(messages=messages) == "messages.1.tool_call_id"


@pytest.mark.parametrize("arguments", ["{", "[]", "1", "\ud800"])
def test_arguments_that_are_no_object_are_refused(arguments):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}

    param = refused(messages=[*ASK, {"role": "assistant", "tool_calls": [call]}])

    assert param == "messages.1.tool_calls.0.function.arguments"


def test_an_answer_of_nothing_is_left_out():
    assert told({"role": "assistant", "content": ""}, {"role": "user", "content": "Hello?"}) == [
        {"role": "user", "parts": [{"text": "Why?"}]},
        {"role": "user", "parts": [{"text": "Hello?"}]},
    ]


# Thought signatures.


def test_signatures_come_back_where_they_were_given():
    answer = {
        "role": "assistant",
        "content": "Wait.",
        "extra_content": {"google": {"thought_signature": "of-text"}},
        "tool_calls": [CALL],
    }

    parts = told(answer)[1]["parts"]

    assert [part["thoughtSignature"] for part in parts] == ["of-text", "sig"]


def test_calls_without_any_signature_get_the_one_that_skips_the_check():
    bare = {key: value for key, value in CALL.items() if key != "extra_content"}

    parts = told({"role": "assistant", "tool_calls": [bare, {**bare, "id": "call_2"}]})[1]["parts"]

    assert parts[0]["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in parts[1]


def test_calls_with_a_signature_on_the_first_are_left_alone():
    bare = {key: value for key, value in CALL.items() if key != "extra_content"}

    parts = told({"role": "assistant", "tool_calls": [CALL, {**bare, "id": "call_2"}]})[1]["parts"]

    assert [part.get("thoughtSignature") for part in parts] == ["sig", None]


def test_older_models_want_no_signatures():
    bare = {key: value for key, value in CALL.items() if key != "extra_content"}

    parts = told({"role": "assistant", "tool_calls": [bare]}, model=OLD)[1]["parts"]

    assert "thoughtSignature" not in parts[0]


def test_a_whole_answers_signatures_survive_the_round_trip():
    message = to_completion(recorded("tool_calls.json"), **HEAD)["choices"][0]["message"]

    parts = told(message)[1]["parts"]

    assert parts[0] == {
        "functionCall": {"id": "fc-1", "name": "weather", "args": {"city": "Oslo"}},
        "thoughtSignature": "EjQKMgEMOdbH",
    }
    assert parts[1]["functionCall"]["args"] == {"city": "Rome", "unit": "C"}


# Options.


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({"max_tokens": 5}, {"maxOutputTokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"maxOutputTokens": 6}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0.0, "topP": 0.5, "topK": 3}),
        ({"stop": "a"}, {"stopSequences": ["a"]}),
        ({"stop": ["a", "b"], "n": 2, "seed": 7}, {"stopSequences": ["a", "b"], "candidateCount": 2, "seed": 7}),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presencePenalty": 1.0, "frequencyPenalty": -1.0}),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
    ],
)
def test_options_become_the_generation_config(fields, config):
    assert asked(**fields)["generationConfig"] == config


@pytest.mark.parametrize(
    "fields", [{"logprobs": False}, {"response_format": {"type": "text"}}, {"user": "u", "stream": True, "store": True}]
)
def test_what_says_nothing_is_left_out(fields):
    assert asked(**fields) == asked()


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        (NEW, "minimal", {"includeThoughts": True, "thinkingLevel": "MINIMAL"}),
        (NEW, "high", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (NEW, "max", {"includeThoughts": True, "thinkingLevel": "XHIGH"}),
        ("gemini-flash-latest", "low", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        (OLD, "medium", {"includeThoughts": True, "thinkingBudget": 8192}),
        (f"models/{OLD}", "high", {"includeThoughts": True, "thinkingBudget": 24_576}),
        (OLD, "none", {"thinkingBudget": 0}),
    ],
)
def test_an_effort_becomes_a_level_or_a_budget_as_the_model_wants(model, effort, config):
    assert asked(model, reasoning_effort=effort)["generationConfig"] == {"thinkingConfig": config}


def test_what_only_google_has_may_come_as_with_its_own_endpoint():
    thinking = {"thinking_budget": 100, "include_thoughts": False}
    extra = {
        "google": {"cached_content": "cachedContents/1", "thinking_config": thinking, "safety_settings": [{"a": 1}]}
    }

    body = asked(extra_body=extra, reasoning_effort="low")

    assert body["cachedContent"] == "cachedContents/1"
    assert body["safetySettings"] == [{"a": 1}]
    assert body["generationConfig"] == {"thinkingConfig": {"includeThoughts": False, "thinkingBudget": 100}}


def test_a_word_of_googles_that_is_not_known_is_refused():
    assert refused(extra_body={"google": {"grounding": True}}) == "extra_body.google"


def test_tools_become_function_declarations_with_their_schema_as_it_is():
    body = asked(tools=[WEATHER, {"type": "function", "function": {"name": "now"}}])

    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "The weather of a city.",
                    "parametersJsonSchema": WEATHER["function"]["parameters"],
                },
                {"name": "now"},
            ]
        }
    ]
    assert "toolConfig" not in body


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("none", {"mode": "NONE"}),
        ("auto", {"mode": "AUTO"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_a_choice_of_tools_becomes_a_mode(choice, config):
    assert asked(tools=[WEATHER], tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}


@pytest.mark.parametrize(("choice", "mode"), [(None, "VALIDATED"), ("auto", "VALIDATED"), ("required", "ANY")])
def test_strict_tools_are_called_as_their_schema_has_it(choice, mode):
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}

    body = asked(tools=[strict], tool_choice=choice)

    assert body["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "custom"}}, "tool_choice"),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "x"}]}},
            },
            "tool_choice.allowed_tools.tools",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://a.b"}}]}]},
            "messages.0.content.0",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields, param):
    assert refused(**fields) == param


@given(OBJECTS | distorted(FULL))
def test_any_request_is_translated_or_refused(chat):
    with suppress(BadRequest):
        json.dumps(upstream_request(chat, model=NEW))


# Whole answers.


def test_an_answer_becomes_a_completion():
    completion = to_completion(recorded("answer.json"), **HEAD)

    assert completion == {
        "id": "chatcmpl-0199aaaabbbb7ccc8dddeeeeffff0000",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gemini-3.5-flash",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "The sky is blue.",
                    "extra_content": {"google": {"thought_signature": "EpACCo0CAdHt"}},
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 8,
            "completion_tokens": 36,
            "total_tokens": 44,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 31},
        },
    }


def test_function_calls_become_tool_calls_and_get_an_id_where_they_have_none():
    choice = to_completion(recorded("tool_calls.json"), **HEAD)["choices"][0]

    first, second = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert first == {
        "id": "fc-1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
        "extra_content": {"google": {"thought_signature": "EjQKMgEMOdbH"}},
    }
    assert second["id"] == "call_bbbb7ccc8dddeeeeffff0000_0_1"


def test_of_calls_made_together_the_first_is_passed_on_to_who_wants_but_one():
    choice = to_completion(recorded("tool_calls.json"), **HEAD, one_call=True)["choices"][0]

    assert [call["id"] for call in choice["message"]["tool_calls"]] == ["fc-1"]
    assert choice["finish_reason"] == "tool_calls"


def test_thoughts_become_reasoning():
    answer = candidate(content={"parts": [{"text": "Hm.", "thought": True}, {"text": "Yes."}]})

    message = to_completion(answer, **HEAD)["choices"][0]["message"]

    assert (message["reasoning_content"], message["content"]) == ("Hm.", "Yes.")


def test_an_image_becomes_a_data_url():
    answer = candidate(content={"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]})

    message = to_completion(answer, **HEAD)["choices"][0]["message"]

    assert message["images"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


def test_logprobs_are_told_with_their_bytes():
    result = {
        "chosenCandidates": [{"token": "é", "tokenId": 1, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}]}],
    }

    choice = to_completion(candidate(logprobsResult=result), **HEAD)["choices"][0]

    token = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert choice["logprobs"] == {"content": [{**token, "top_logprobs": [token]}], "refusal": None}


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("OTHER", "stop"),
        ("NEW_IN_2030", "stop"),
    ],
)
def test_finish_reasons_are_told_in_the_words_of_chat(reason, finish):
    assert to_completion(candidate(finishReason=reason), **HEAD)["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (candidate(finishReason="MALFORMED_FUNCTION_CALL"), None, "MALFORMED_FUNCTION_CALL"),
        (candidate(finishReason="MISSING_THOUGHT_SIGNATURE"), 400, "MISSING_THOUGHT_SIGNATURE"),
        (candidate(finishReason="OTHER", content={}), None, "OTHER"),
        ({"candidates": []}, None, None),
        ({"candidates": 1}, None, None),
        (recorded("error_503.json"), 503, "UNAVAILABLE"),
    ],
)
def test_what_is_no_answer_is_a_fault(answer, status, code):
    with pytest.raises(ProviderFault) as caught:
        to_completion(answer, **HEAD)

    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_blocked_prompt_is_the_callers_fault():
    with pytest.raises(ProviderFault) as caught:
        to_completion(recorded("blocked.json"), **HEAD)

    assert (caught.value.status, caught.value.code) == (400, "content_filter")
    assert "PROHIBITED_CONTENT" in caught.value.message


@pytest.mark.parametrize("usage", [{"promptTokenCount": -1}, {"promptTokenCount": 2**60}, {}, None, [], {"a": 1}])
def test_a_count_that_is_none_is_left_out(usage):
    assert "usage" not in to_completion({**candidate(), "usageMetadata": usage}, **HEAD)


@given(OBJECTS | distorted(recorded("answer.json"), recorded("tool_calls.json"), recorded("blocked.json")))
def test_any_answer_is_translated_or_a_fault(answer):
    with suppress(ProviderFault):
        json.dumps(to_completion(answer, **HEAD))


# Streams.


def test_a_stream_becomes_chunks():
    chunks = streamed(*events("stream.sse"))

    deltas = [chunk["choices"][0] for chunk in chunks[:-1]]
    assert [choice["delta"] for choice in deltas] == [
        {"role": "assistant", "reasoning_content": "**Colours**\n\nThinking of light."},
        {"content": "The sky"},
        {"content": " is blue."},
        {"content": "", "extra_content": {"google": {"thought_signature": "EpACCo0CAdHt"}}},
        {},
    ]
    assert [choice["finish_reason"] for choice in deltas] == [None, None, None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 44
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-0199aaaabbbb7ccc8dddeeeeffff0000", "chat.completion.chunk", 1_700_000_000, "gemini-3.5-flash")
    }


def test_streamed_calls_are_counted_through():
    chunks = streamed(*events("tool_calls.sse"))

    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert [(call["index"], call["id"], call["function"]["name"]) for call in calls] == [
        (0, "fc-1", "weather"),
        (1, "call_bbbb7ccc8dddeeeeffff0000_0_1", "now"),
    ]
    assert calls[0]["extra_content"] == {"google": {"thought_signature": "EjQKMgEMOdbH"}}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_of_streamed_calls_the_first_is_passed_on_to_who_wants_but_one():
    chunks = streamed(*events("tool_calls.sse"), one_call=True)

    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert [call["id"] for call in calls] == ["fc-1"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_several_answers_keep_their_places_and_all_must_end():
    chunks = ToChunks(**HEAD)
    both = {"candidates": [{"index": at, "content": {"parts": [{"text": str(at)}]}} for at in (0, 1)]}

    said = chunks.feed(both)
    chunks.feed({"candidates": [{"index": 1, "finishReason": "STOP"}]})

    assert [chunk["choices"][0]["index"] for chunk in said] == [0, 1]
    assert not chunks.finished
    chunks.feed({"candidates": [{"index": 0, "finishReason": "MAX_TOKENS"}]})
    assert chunks.finished


def test_what_comes_after_the_end_is_not_passed_on():
    chunks = streamed(candidate(), candidate())

    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]


def test_an_answer_without_a_word_still_has_a_role():
    chunks = streamed({"candidates": [{"finishReason": "STOP"}]})

    assert [chunk["choices"][0]["delta"] for chunk in streamed({"candidates": [{"finishReason": "SAFETY"}]})] == [
        {"role": "assistant", "content": ""},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_error_in_a_stream_is_a_fault():
    with pytest.raises(ProviderFault) as caught:
        streamed(*events("stream.sse")[:2], recorded("error_503.json"))

    assert caught.value.status == 503


@given(st.lists(OBJECTS | distorted(*events("stream.sse"), *events("tool_calls.sse")), max_size=4))
def test_any_stream_is_translated_or_a_fault(stream):
    with suppress(ProviderFault):
        json.dumps(streamed(*stream))


# Errors.


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("error_400.json", 400, "INVALID_ARGUMENT"),
        ("error_key.json", 401, "INVALID_ARGUMENT"),
        ("error_place.json", 403, "FAILED_PRECONDITION"),
        ("error_429.json", 429, "RESOURCE_EXHAUSTED"),
        ("error_503.json", 503, "UNAVAILABLE"),
    ],
)
def test_errors_are_read_alone_and_in_lists(name, status, code):
    fault = read_fault((RECORDED / name).read_bytes())

    assert (fault.status, fault.code) == (status, code)
    assert fault.message


def test_the_time_to_wait_is_told_in_the_body():
    assert read_fault((RECORDED / "error_429.json").read_bytes()).retry_after == "38"
    assert read_fault((RECORDED / "error_503.json").read_bytes()).retry_after is None


@given(st.binary(max_size=20) | JSON.map(lambda value: json.dumps({"error": value}).encode()))
def test_any_refusal_is_a_fault(body):
    assert isinstance(read_fault(body), ProviderFault)
