"""anthropic-python: messages, tools, tokens, models, errors."""

import anthropic
import pytest
from pydantic import BaseModel

ASK = {"model": "mock", "max_tokens": 100, "messages": [{"role": "user", "content": "ping"}]}
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
ROUTE = "/v1/messages"


class Capital(BaseModel):
    city: str
    inhabitants: int


def test_a_question_is_answered(claude):
    message = claude.messages.create(**ASK, system="Be short.")

    assert "ping" in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.model == "mock"
    assert message.id.startswith("msg_")
    assert message.usage.input_tokens > 0 < message.usage.output_tokens
    assert message._request_id


def test_the_beta_resource_is_answered_too(claude):
    message = claude.beta.messages.create(
        **ASK,
        betas=["interleaved-thinking-2025-05-14"],
        system=[{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}],
        metadata={"user_id": "someone"},
        thinking={"type": "adaptive", "display": "omitted"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )

    assert "ping" in message.content[-1].text


def test_the_stream_helper_gives_text_and_the_whole_message(claude):
    with claude.messages.stream(**ASK) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()

    assert len(pieces) > 1
    assert "".join(pieces) == final.content[0].text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0
    assert final.usage.input_tokens > 0


def test_the_events_of_a_stream_come_in_their_order(claude):
    kinds = [event.type for event in claude.messages.create(**ASK, stream=True)]

    once = [kind for kind in kinds if kind != "content_block_delta"]
    assert once == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]


def test_a_tool_is_called_and_its_result_leads_to_an_answer(claude):
    first = claude.messages.create(**ASK, tools=[WEATHER], tool_choice={"type": "any"})
    (call,) = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}

    second = claude.messages.create(
        model="mock",
        max_tokens=100,
        tools=[WEATHER],
        messages=[
            *ASK["messages"],
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
            {"role": "user", "content": [result]},
        ],
    )

    assert first.stop_reason == "tool_use"
    assert set(call.input) == {"city"}
    assert second.stop_reason == "end_turn"
    assert second.content[0].text


def test_a_streamed_tool_call_is_put_together(claude):
    choice = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}

    with claude.messages.stream(**ASK, tools=[WEATHER], tool_choice=choice) as stream:
        final = stream.get_final_message()

    (call,) = [block for block in final.content if block.type == "tool_use"]
    assert set(call.input) == {"city"}
    assert final.stop_reason == "tool_use"


def test_an_answer_is_parsed_into_a_model(claude):
    message = claude.messages.parse(**ASK, output_format=Capital)

    assert isinstance(message.parsed_output, Capital)


def test_an_answer_that_was_cut_short_says_so(claude):
    message = claude.messages.create(**ASK | {"max_tokens": 2})

    assert message.stop_reason == "max_tokens"


def test_content_may_come_in_blocks_with_a_picture(claude):
    blocks = [PICTURE, {"type": "text", "text": "What is this?"}]

    message = claude.messages.create(**ASK | {"messages": [{"role": "user", "content": blocks}]})

    assert "What is this?" in message.content[0].text


def test_tokens_are_counted_before_a_call(claude):
    short = claude.messages.count_tokens(model="mock", messages=ASK["messages"])
    longer = claude.messages.count_tokens(model="mock", messages=ASK["messages"], system="word " * 100, tools=[WEATHER])

    assert longer.input_tokens > short.input_tokens > 0


def test_models_are_listed_and_each_can_be_retrieved(claude):
    models = list(claude.models.list(limit=1000))

    assert models
    assert all(claude.models.retrieve(model.id).display_name == model.display_name for model in models)


def test_a_wrong_key_is_an_authentication_error(claude):
    with pytest.raises(anthropic.AuthenticationError) as caught:
        claude.with_options(api_key="aip_wrong").messages.create(**ASK)

    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert caught.value.request_id


def test_a_request_without_messages_is_a_bad_request(claude):
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.post("/v1/messages", body={"model": "mock", "max_tokens": 5}, cast_to=object)

    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert "messages" in caught.value.body["error"]["message"]


def test_a_model_that_is_not_there_is_not_found(claude):
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("no-such-model")


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (503, anthropic.APIStatusError, "overloaded_error"),
        (500, anthropic.InternalServerError, "api_error"),
    ],
)
def test_a_refusal_has_its_class_and_type(claude, status, error, kind):
    with pytest.raises(error) as caught:
        claude.with_options(max_retries=0).messages.create(**ASK | {"model": f"mock/error-{status}"})

    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id


def test_a_refusal_that_passes_is_tried_again(claude, answered):
    answered.watch(ROUTE, 429)

    with pytest.raises(anthropic.RateLimitError):
        claude.with_options(max_retries=1).messages.create(**ASK | {"model": "mock/error-429"})

    assert answered.times(ROUTE, 429) == 2


def test_a_stream_that_breaks_off_raises_after_what_came(claude):
    pieces = []

    with pytest.raises(anthropic.APIError), claude.messages.stream(**ASK | {"model": "mock/cut"}) as stream:
        pieces.extend(stream.text_stream)

    assert pieces


async def test_the_asynchronous_client_asks_with_a_bearer_token(asynchronous_claude):
    message = await asynchronous_claude.messages.create(**ASK)

    assert "ping" in message.content[0].text


async def test_the_asynchronous_client_streams(asynchronous_claude):
    async with asynchronous_claude.messages.stream(**ASK) as stream:
        pieces = [piece async for piece in stream.text_stream]

    assert "ping" in "".join(pieces)
