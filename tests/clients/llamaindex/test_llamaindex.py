"""LlamaIndex: OpenAILike and OpenAILikeEmbedding."""

import asyncio

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Capital(BaseModel):
    city: str
    inhabitants: int


@pytest.fixture
def connection(url, key):
    return {"api_base": f"{url}/v1", "api_key": key}


@pytest.fixture
def model(connection):
    options = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 8192}
    return OpenAILike(model="mock", **options, **connection)


def test_a_question_is_answered(model):
    assert "ping" in model.chat([ChatMessage(role="user", content="ping")]).message.content


def test_an_answer_is_streamed(model):
    *_, last = model.stream_chat([ChatMessage(role="user", content="ping")])

    assert "ping" in last.message.content


async def _ask(model):
    return await model.achat([ChatMessage(role="user", content="ping")])


def test_the_asynchronous_interface_answers(model):
    assert "ping" in asyncio.run(_ask(model)).message.content


def test_a_prompt_is_completed_by_the_old_endpoint(connection):
    model = OpenAILike(model="mock", is_chat_model=False, context_window=8192, **connection)

    assert model.complete("ping").text
    assert [piece.delta for piece in model.stream_complete("ping")]


def test_a_tool_is_called(model):
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    response = model.chat_with_tools([FunctionTool.from_defaults(get_weather)], "Weather?", tool_required=True)

    (call,) = model.get_tool_calls_from_response(response)
    assert call.tool_name == "get_weather"
    assert set(call.tool_kwargs) == {"city"}


def test_an_answer_is_parsed_into_a_model(model):
    answer = model.as_structured_llm(Capital).complete("A capital, please.")

    assert isinstance(answer.raw, Capital)


def test_texts_are_embedded(connection):
    embedding = OpenAILikeEmbedding(model_name="mock", **connection)

    first, second = embedding.get_text_embedding_batch(["one", "two"])
    assert len(first) == len(second) > 0
