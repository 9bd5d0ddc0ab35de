"""openai-python: chat completions."""

import json

from pydantic import BaseModel

ASK = {"model": "mock", "messages": [{"role": "user", "content": "ping"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Capital(BaseModel):
    country: str
    city: str
    inhabitants: int


def test_a_question_is_answered(client):
    completion = client.chat.completions.create(**ASK)

    assert "ping" in completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "mock"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0


def test_the_request_id_is_known_to_the_sdk_and_can_be_chosen(client):
    raw = client.chat.completions.with_raw_response.create(**ASK, extra_headers={"X-Request-ID": "chosen-by-me-1"})

    assert raw.headers["x-request-id"] == "chosen-by-me-1"
    assert raw.parse()._request_id == "chosen-by-me-1"
    assert raw.headers["content-type"] == "application/json"


def test_a_stream_gives_the_whole_answer_piece_by_piece(client):
    whole = client.chat.completions.create(**ASK).choices[0].message.content

    chunks = list(client.chat.completions.create(**ASK, stream=True))

    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == whole
    assert sum(1 for piece in pieces if piece) > 1
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices[0].delta.role] == ["assistant"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_usage_comes_in_a_last_chunk_when_it_is_asked_for_and_only_then(client):
    counted = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    plain = list(client.chat.completions.create(**ASK, stream=True))

    assert counted[-1].choices == []
    assert counted[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in counted[:-1])
    assert all(chunk.usage is None and chunk.choices for chunk in plain)


def test_the_stream_helper_accumulates_events(client):
    with client.chat.completions.stream(**ASK) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()

    assert kinds[-1] == "content.done"
    assert "ping" in final.choices[0].message.content


def test_one_connection_serves_streams_one_after_another(client):
    for _ in range(3):
        assert list(client.chat.completions.create(**ASK, stream=True))


def test_a_forced_tool_is_called_with_arguments_of_its_schema(client):
    completion = client.chat.completions.create(**ASK, tools=[WEATHER], tool_choice="required")

    (call,) = completion.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert completion.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert set(arguments) == {"city", "days"}
    assert isinstance(arguments["days"], int)


def test_a_streamed_tool_call_is_put_together_by_the_sdk(client):
    with client.chat.completions.stream(**ASK, tools=[WEATHER], tool_choice="required") as stream:
        names = [event.name for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()

    (call,) = final.choices[0].message.tool_calls
    assert names == ["get_weather"]
    assert set(json.loads(call.function.arguments)) == {"city", "days"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_the_result_of_a_tool_leads_to_an_answer(client):
    first = client.chat.completions.create(**ASK, tools=[WEATHER], tool_choice="required").choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "sunny"}

    second = client.chat.completions.create(
        model="mock", messages=[*ASK["messages"], first.model_dump(exclude_none=True), result], tools=[WEATHER]
    )

    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


def test_an_answer_is_parsed_into_a_model(client):
    completion = client.chat.completions.parse(**ASK, response_format=Capital)

    assert isinstance(completion.choices[0].message.parsed, Capital)


def test_a_streamed_answer_is_parsed_into_a_model(client):
    with client.chat.completions.stream(**ASK, response_format=Capital) as stream:
        final = stream.get_final_completion()

    assert isinstance(final.choices[0].message.parsed, Capital)


def test_json_mode_gives_an_object(client):
    completion = client.chat.completions.create(**ASK, response_format={"type": "json_object"})

    assert isinstance(json.loads(completion.choices[0].message.content), dict)


def test_several_answers_can_be_asked_for(client):
    completion = client.chat.completions.create(**ASK, n=3)

    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in completion.choices)


def test_log_probabilities_belong_to_the_tokens_of_the_answer(client):
    completion = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)

    tokens = completion.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == completion.choices[0].message.content
    assert all(len(token.top_logprobs) == 2 for token in tokens)


def test_an_answer_ends_where_it_is_told_to(client):
    short = client.chat.completions.create(**ASK, max_tokens=2)
    newer = client.chat.completions.create(**ASK, max_completion_tokens=2)
    stopped = client.chat.completions.create(**ASK, stop=["mock"])

    assert [short.choices[0].finish_reason, newer.choices[0].finish_reason] == ["length", "length"]
    assert "mock" not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"


def test_every_usual_option_is_accepted(client):
    completion = client.chat.completions.create(
        **ASK,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0,
        frequency_penalty=0,
        user="someone",
        seed=7,
        metadata={"a": "b"},
        reasoning_effort="low",
        service_tier="auto",
        store=False,
        parallel_tool_calls=False,
        extra_body={"an_option_of_tomorrow": {"deep": [1, 2]}},
        tools=[WEATHER],
        tool_choice="none",
    )

    assert completion.choices[0].message.content
    assert not completion.choices[0].message.tool_calls


def test_content_may_come_in_parts_with_a_picture(client):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    parts = [{"type": "text", "text": "What is this?"}, picture]

    completion = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": parts}])

    assert "What is this?" in completion.choices[0].message.content


async def test_the_asynchronous_client_asks(asynchronous):
    completion = await asynchronous.chat.completions.create(**ASK)

    assert "ping" in completion.choices[0].message.content


async def test_the_asynchronous_client_streams(asynchronous):
    stream = await asynchronous.chat.completions.create(**ASK, stream=True)

    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "ping" in "".join(pieces)


async def test_the_asynchronous_client_leaves_a_stream_early(asynchronous):
    async with await asynchronous.chat.completions.create(**ASK, stream=True) as stream:
        async for _ in stream:
            break

    assert await asynchronous.chat.completions.create(**ASK)


async def test_the_asynchronous_client_parses(asynchronous):
    completion = await asynchronous.chat.completions.parse(**ASK, response_format=Capital)

    assert isinstance(completion.choices[0].message.parsed, Capital)
