"""openai-python: responses."""

import json

import openai
import pytest
from pydantic import BaseModel

ASK = {"model": "mock", "input": "ping"}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Capital(BaseModel):
    city: str
    inhabitants: int


def test_a_question_is_answered(client):
    response = client.responses.create(**ASK, instructions="Be short.")

    assert "ping" in response.output_text
    assert response.status == "completed"
    assert response.model == "mock"
    assert response.id.startswith("resp_")
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0


def test_a_stream_tells_the_answer_from_created_to_completed(client):
    events = list(client.responses.create(**ASK, stream=True))

    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(texts) == events[-1].response.output_text
    assert events[-1].response.usage.total_tokens > 0
    assert {event.response.id for event in events if hasattr(event, "response")} == {events[0].response.id}


def test_the_stream_helper_accumulates_events(client):
    with client.responses.stream(**ASK) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()

    assert "response.output_text.done" in kinds
    assert "ping" in final.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_kept_until_it_is_deleted(client, stream):
    if stream:
        *_, last = client.responses.create(**ASK, stream=True)
        made = last.response
    else:
        made = client.responses.create(**ASK)

    kept = client.responses.retrieve(made.id)
    client.responses.delete(made.id)

    assert kept.output_text == made.output_text
    assert kept.id == made.id
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_response_that_is_not_to_be_stored_is_not(client):
    made = client.responses.create(**ASK, store=False)

    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_conversation_goes_on_from_the_previous_response(client):
    first = client.responses.create(model="mock", input="My name is Ada, and I like long sentences.")

    second = client.responses.create(**ASK, previous_response_id=first.id)

    alone = client.responses.create(**ASK)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > alone.usage.input_tokens


def test_a_previous_response_that_is_not_there_is_named(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**ASK, previous_response_id="resp_nothing")

    assert caught.value.param == "previous_response_id"
    assert caught.value.code == "previous_response_not_found"


def test_a_tool_is_called_and_its_result_leads_to_an_answer(client):
    first = client.responses.create(**ASK, tools=[WEATHER], tool_choice="required")
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}

    second = client.responses.create(
        model="mock", input=[{"role": "user", "content": "ping"}, call.model_dump(exclude_none=True), result]
    )
    third = client.responses.create(model="mock", input=[result], previous_response_id=first.id)

    assert call.name == "get_weather"
    assert set(json.loads(call.arguments)) == {"city"}
    assert second.output_text
    assert third.output_text


def test_a_streamed_tool_call_is_put_together(client):
    with client.responses.stream(**ASK, tools=[WEATHER], tool_choice="required") as stream:
        final = stream.get_final_response()

    (call,) = [item for item in final.output if item.type == "function_call"]
    assert set(json.loads(call.arguments)) == {"city"}


def test_an_answer_is_parsed_into_a_model(client):
    response = client.responses.parse(**ASK, text_format=Capital)

    assert isinstance(response.output_parsed, Capital)


def test_an_answer_that_was_cut_short_says_so(client):
    response = client.responses.create(**ASK, max_output_tokens=16, extra_body={"max_output_tokens": 2})

    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


def test_input_may_be_messages_with_a_picture(client):
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"},
    ]

    response = client.responses.create(model="mock", input=[{"role": "user", "content": parts}])

    assert "What is this?" in response.output_text


def test_a_refusal_has_its_class(client):
    with pytest.raises(openai.RateLimitError) as caught:
        client.with_options(max_retries=0).responses.create(model="mock/error-429", input="ping")

    assert caught.value.code == "upstream_rate_limited"


def test_a_stream_that_breaks_off_does_not_look_completed(client):
    kinds, failure = [], None

    try:
        kinds += [event.type for event in client.responses.create(model="mock/cut", input="ping", stream=True)]
    except openai.APIError as error:
        failure = error

    assert failure is not None or kinds[-1] in {"response.failed", "error"}
    assert "response.completed" not in kinds


async def test_the_asynchronous_client_streams(asynchronous):
    events = [event async for event in await asynchronous.responses.create(**ASK, stream=True)]

    assert events[-1].type == "response.completed"
