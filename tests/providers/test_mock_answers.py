"""What the mock says: texts, tool calls, JSON, whole and in chunks, in the shapes that OpenAI's own client demands."""

import json
import time

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_answers import answer_to, chunks, completion

GREETING = "This is a mock answer, no model was asked. You said: "
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather at a location.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["location"],
            "additionalProperties": False,
        },
    },
}
MAGIC = {
    "type": "function",
    "function": {
        "name": "magic_function",
        "description": "Apply a magic function to an input.",
        "parameters": {
            "type": "object",
            "properties": {"input": {"type": "integer", "exclusiveMinimum": -1000, "exclusiveMaximum": 1000}},
            "required": ["input"],
        },
    },
}
NOTHING = {"type": "function", "function": {"name": "ping_server"}}
CUSTOM = {"type": "custom", "custom": {"name": "run_code", "description": "Runs Python."}}


def asked(question="ping", **options):
    return {"messages": [{"role": "user", "content": question}], **options}


def answered(body):
    return answer_to(body, model="m", created=1, read_tokens=5)


def whole(body):
    """The completion, held to what OpenAI's client knows of one."""
    body = completion(answered(body))
    known = ChatCompletion.model_validate(body)
    assert known.to_dict(exclude_unset=True) == body
    return body


def streamed(body):
    """The chunks, held to what OpenAI's client knows of them."""
    found = list(chunks(answered(body)))
    for chunk in found:
        assert ChatCompletionChunk.model_validate(chunk).to_dict(exclude_unset=True) == chunk
    return found


def text(body):
    return whole(body)["choices"][0]["message"]["content"]


def calls(body):
    """Names and arguments of the tools that are called."""
    choice = whole(body)["choices"][0]
    found = choice["message"].get("tool_calls", [])
    assert choice["finish_reason"] == ("tool_calls" if found else "stop")
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]


def folded(body):
    """The messages and finish reasons that a stream adds up to."""
    choices = {}
    for chunk in streamed(body):
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"content": "", "calls": {}, "finish_reason": None})
            choice["content"] += part["delta"].get("content") or ""
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
            for delta in part["delta"].get("tool_calls", []):
                _fold_call(choice["calls"], delta)
    return [choices[index] for index in sorted(choices)]


def _fold_call(found, delta):
    if "id" in delta:
        assert delta["index"] == len(found)
        found[delta["index"]] = {**delta, "function": dict(delta["function"])}
    else:
        found[delta["index"]]["function"]["arguments"] += delta["function"]["arguments"]


def test_a_completion_has_all_that_clients_demand():
    answer = whole(asked())

    choice = answer["choices"][0]
    assert (answer["object"], answer["created"], answer["model"]) == ("chat.completion", 1, "m")
    assert answer["id"].startswith("chatcmpl-")
    assert answer["system_fingerprint"]
    assert choice["message"] == {"role": "assistant", "content": GREETING + "ping", "refusal": None, "annotations": []}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "stop")


def test_usage_has_its_details():
    usage = whole(asked())["usage"]

    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 12, 17)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


BODIES = [
    asked(),
    asked(""),
    asked("  two  spaces \n"),
    asked("Grüße 世界 😀"),
    asked(n=3),
    asked(max_tokens=3),
    asked(stop="mock"),
    asked(logprobs=True, top_logprobs=2),
    asked("weather in Paris", tools=[WEATHER, MAGIC]),
    asked(tools=[NOTHING], tool_choice="required", n=2),
    asked("magic_function(3), get_weather in Oslo", tools=[WEATHER, MAGIC]),
    asked(response_format={"type": "json_object"}),
]


@pytest.mark.parametrize("body", BODIES)
def test_a_stream_adds_up_to_the_whole_answer(body):
    choices = whole(body)["choices"]

    parts = folded(body)

    for choice, part in zip(choices, parts, strict=True):
        assert part["content"] == (choice["message"]["content"] or "")
        assert part["finish_reason"] == choice["finish_reason"]
        found = [{**call, "index": index} for index, call in enumerate(choice["message"].get("tool_calls", []))]
        assert list(part["calls"].values()) == found


@pytest.mark.parametrize("body", BODIES)
def test_a_stream_begins_with_the_role_and_ends_with_the_usage(body):
    found = streamed(body)

    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == whole(body)["usage"]
    assert all(chunk["usage"] is None for chunk in found[:-1])
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in found}) == 1


@pytest.mark.parametrize("body", BODIES)
def test_the_same_request_has_the_same_answer(body):
    assert whole(body) == whole(json.loads(json.dumps(body)))


def test_another_request_has_another_id():
    assert whole(asked("one"))["id"] != whole(asked("two"))["id"]


def test_a_seed_and_options_that_are_not_known_change_nothing():
    assert text(asked(seed=7, temperature=2, reasoning_effort="low", tomorrow={"a": 1})) == text(asked())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_at_the_most_words(name):
    answer = whole(asked(**{name: 3}))

    assert answer["choices"][0]["message"]["content"] == "This is a "
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("stop", ["mock", ["nowhere", "mock"], ["mock answer", "answer", ""]])
def test_an_answer_ends_before_a_stop_sequence(stop):
    choice = whole(asked(stop=stop))["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == ("This is a ", "stop")


def test_a_stop_sequence_after_the_most_words_is_not_reached():
    assert whole(asked(stop="answer", max_tokens=2))["choices"][0]["finish_reason"] == "length"


def test_several_answers_differ_and_the_first_is_the_plain_one():
    texts = [choice["message"]["content"] for choice in whole(asked(n=3))["choices"]]

    assert texts[0] == text(asked())
    assert len(set(texts)) == 3


def test_log_probabilities_come_with_each_word():
    choice = whole(asked("Grüße", logprobs=True, top_logprobs=3))["choices"][0]

    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    assert bytes(tokens[-1]["bytes"]).decode() == "Grüße"
    for token in tokens:
        assert len({other["token"] for other in token["top_logprobs"]}) == 3
        assert token["top_logprobs"][0]["token"] == token["token"]
        assert token["logprob"] == max(other["logprob"] for other in token["top_logprobs"]) < 0


def test_parts_that_are_no_text_are_named():
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
    ]

    assert text(asked(parts)) == GREETING + "What is this? and 2 images and 1 recording and 1 file"
    assert text(asked(parts[1:2])) == GREETING + "1 image"


@pytest.mark.parametrize("content", [None, "", []])
def test_an_empty_message_is_answered(content):
    assert text(asked(content)) == GREETING


def test_a_system_prompt_is_not_answered():
    body = {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "ping"}]}

    assert text(body) == GREETING + "ping"


@pytest.mark.parametrize("choice", ["auto", "required", None])
def test_a_tool_that_is_named_is_called_with_the_number_in_the_question(choice):
    question = "What is the value of magic_function(3)? Use the tool."

    assert calls(asked(question, tools=[WEATHER, MAGIC], tool_choice=choice)) == [("magic_function", {"input": 3})]


def test_a_tool_about_the_question_is_called_with_the_place_in_it():
    found = calls(asked("What is the weather in San Francisco, CA in fahrenheit?", tools=[MAGIC, WEATHER]))

    assert found == [("get_weather", {"location": "San Francisco, CA", "unit": "fahrenheit"})]


READ = {
    "type": "function",
    "function": {
        "name": "Read",
        "description": "Reads a file.",
        "parameters": {
            "type": "object",
            "properties": {
                "pages": {"type": "string", "description": "For example 1-5."},
                "file_path": {"type": "string"},
                "offset": {"type": "integer", "minimum": 0},
                "limit": {"type": "integer", "exclusiveMinimum": 0, "default": 2000},
                "raw": {"type": "boolean"},
                "mode": {"enum": ["text", "binary"]},
                "range": {"type": "object", "properties": {"end": {"type": "integer"}}, "required": ["end"]},
                "only": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["file_path"],
        },
    },
}


@pytest.mark.parametrize(
    ("question", "arguments"),
    [
        ("Use Read: `/home/run 3/note.txt`", {"file_path": "/home/run 3/note.txt"}),
        ("Read it", {"file_path": "it"}),
        ("Read `a.txt`, 20 lines", {"file_path": "a.txt", "offset": 20}),
        ("Read `a.txt`, as binary", {"file_path": "a.txt", "mode": "binary"}),
        ("Read `a.txt` `2-4`", {"pages": "2-4", "file_path": "a.txt"}),
        ("Read `a.txt` `2-4` `b`", {"pages": "2-4", "file_path": "a.txt", "only": ["b"]}),
    ],
)
def test_arguments_that_may_be_left_out_are_unless_the_question_has_them(question, arguments):
    [(_, found)] = calls(asked(question, tools=[READ]))

    assert found == arguments
    assert list(found) == list(arguments)


def test_a_tool_whose_arguments_may_not_all_be_left_out_gets_some():
    either = [{"required": ["a"]}, {"required": ["b"]}]
    parameters = {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "not": {"not": {"anyOf": either}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}

    [(_, arguments)] = calls(asked(tools=[tool], tool_choice="required"))

    assert arguments.keys() == {"a", "b"}


REMINDER = {"type": "text", "text": 'Remember: get_weather is for places like "Rome", magic_function(7) for numbers.'}


@pytest.mark.parametrize(
    ("typed", "found"),
    [("get_weather in Oslo", [("get_weather", {"location": "Oslo"})]), ("Tell me a joke.", [])],
)
def test_tools_are_looked_for_in_the_last_text_of_a_message(typed, found):
    parts = [REMINDER, {"type": "text", "text": typed}, {"type": "image_url", "image_url": {"url": "data:,"}}]

    assert calls(asked(parts, tools=[WEATHER, MAGIC])) == found


def test_letters_of_any_script_reach_the_arguments():
    tool = {"name": "make", "parameters": {"type": "object", "properties": {"customer": {"type": "string"}}}}

    body = asked(
        "Add '你好啊集团' (Hello Group)", tools=[{"type": "function", "function": tool}], tool_choice="required"
    )

    assert calls(body) == [("make", {"customer": "你好啊集团"})]
    assert "你好啊集团" in whole(body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]


def test_no_tool_is_called_that_has_nothing_to_do_with_the_question():
    assert calls(asked("Hello!", tools=[WEATHER, MAGIC])) == []


def test_no_tool_is_called_when_none_may_be():
    assert calls(asked("weather in Paris", tools=[WEATHER], tool_choice="none")) == []


def test_the_first_tool_is_called_when_one_must_be_and_none_fits():
    assert [name for name, _ in calls(asked("Hello!", tools=[WEATHER, MAGIC], tool_choice="required"))] == [
        "get_weather"
    ]


def test_the_tool_that_the_choice_names_is_called():
    choice = {"type": "function", "function": {"name": "magic_function"}}

    assert calls(asked("weather", tools=[WEATHER, MAGIC], tool_choice=choice)) == [("magic_function", {"input": 1})]


@pytest.mark.parametrize(("mode", "count"), [("auto", 0), ("required", 1)])
def test_only_allowed_tools_are_called(mode, count):
    entry = {"type": "function", "function": {"name": "magic_function"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [entry]}}

    found = calls(asked("weather in Oslo", tools=[WEATHER, MAGIC], tool_choice=choice))

    assert [name for name, _ in found] == ["magic_function"] * count


def test_several_tools_are_called_in_the_order_of_the_question():
    body = asked("magic_function of 4, then get_weather in Oslo", tools=[WEATHER, MAGIC])

    found = calls(body)

    assert [name for name, _ in found] == ["magic_function", "get_weather"]
    assert (found[0][1]["input"], found[1][1]["location"]) == (4, "Oslo")
    assert len({call["id"] for call in whole(body)["choices"][0]["message"]["tool_calls"]}) == 2


def test_one_tool_is_called_when_several_may_not_be():
    body = asked("magic_function of 4, then get_weather", tools=[WEATHER, MAGIC], parallel_tool_calls=False)

    assert [name for name, _ in calls(body)] == ["magic_function"]


def test_a_tool_without_parameters_is_called_with_an_empty_object():
    assert calls(asked("ping_server please", tools=[NOTHING])) == [("ping_server", {})]


def test_a_custom_tool_gets_plain_text():
    body = asked("run_code: print(1)", tools=[CUSTOM])

    call = whole(body)["choices"][0]["message"]["tool_calls"][0]
    assert (call["type"], call["custom"]) == ("custom", {"name": "run_code", "input": "run_code: print(1)"})
    deltas = [
        part["delta"]["tool_calls"][0]
        for chunk in chunks(answered(body))
        for part in chunk["choices"]
        if "tool_calls" in part["delta"]
    ]
    assert "".join(delta["custom"]["input"] for delta in deltas) == "run_code: print(1)"


def conversation(*results, **options):
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    return {
        "messages": [
            {"role": "user", "content": "What is the weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            *({"role": "tool", "tool_call_id": "c", "content": result} for result in results),
        ],
        "tools": [WEATHER],
        **options,
    }


def test_the_results_of_tools_are_answered_in_text():
    assert text(conversation("sunny")) == "This is a mock answer, no model was asked. The tool said: sunny"
    assert text(conversation("sunny", [{"type": "text", "text": "21 °C"}])).endswith("The tools said: sunny; 21 °C")


def test_the_results_of_tools_fill_a_schema():
    schema = {"type": "object", "properties": {"degrees": {"type": "integer"}}}

    answer = text(conversation("21 °C", response_format={"type": "json_schema", "json_schema": {"schema": schema}}))

    assert json.loads(answer) == {"degrees": 21}


def test_a_schema_is_filled_with_the_question():
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "inhabitants": {"type": "integer"}},
        "required": ["city", "inhabitants"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}}

    body = asked("Do 700000 people live in Oslo?", response_format=wanted, n=2)

    first, second = (json.loads(choice["message"]["content"]) for choice in whole(body)["choices"])
    assert first == {"city": "Oslo", "inhabitants": 700000}
    assert second.keys() == first.keys()
    assert second != first


def test_json_mode_gives_an_object_with_the_answer():
    assert json.loads(text(asked(response_format={"type": "json_object"}))) == {"answer": GREETING + "ping"}


def test_json_mode_gives_the_keys_that_the_question_names():
    question = "A joke about cats as JSON with 'setup' and 'punchline' keys."

    assert json.loads(text(asked(question, response_format={"type": "json_object"}))).keys() == {"setup", "punchline"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (asked(max_tokens="3"), "max_tokens"),
        (asked(max_tokens=0), "max_tokens"),
        (asked(n=0), "n"),
        (asked(n=129), "n"),
        (asked(stop=3), "stop"),
        (asked(top_logprobs=21), "top_logprobs"),
        (asked("word " * 20_000, logprobs=True, top_logprobs=20), "logprobs"),
        (asked(tools={}), "tools"),
        (asked(tools=[{"type": "web_search"}]), "tools"),
        (asked(tools=[{"type": "function"}]), "tools"),
        (asked(tools=[WEATHER], tool_choice="always"), "tool_choice"),
        (asked(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "other"}}), "tool_choice"),
        (asked(tools=[WEATHER], tool_choice={"type": "function", "function": 3}), "tool_choice"),
        (asked(response_format={"type": "json_schema"}), "response_format"),
        (asked(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}), "JSON Schema"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages"),
        ({"messages": [{"role": "user", "content": [3]}]}, "messages"),
    ],
)
def test_a_bad_request_is_refused(body, field):
    with pytest.raises(ProviderFault, match=field) as refused:
        answered(body)

    assert refused.value.status == 400


def test_many_answers_about_many_tools_take_no_time():
    tools = [{"type": "function", "function": {**WEATHER["function"], "name": f"weather_{n}"}} for n in range(300)]
    start = time.monotonic()

    found = answered(asked("weather " * 5000, tools=tools, n=128))

    assert {len(choice.calls) for choice in found.choices} == {8}
    assert time.monotonic() - start < 10
