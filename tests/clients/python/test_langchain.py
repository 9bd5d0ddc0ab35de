"""langchain-openai and langchain-anthropic: LangChain's own standard suites.

What they skip is not the gateway's: sound in the dialects that take none, JSON mode in Anthropic's, which has none,
Anthropic's blocks in OpenAI's, and `test_stream_time`, which replays recordings.
"""

import os

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests


class Suite(ChatModelIntegrationTests):
    """Everything on that the three dialects share."""

    __test__ = False
    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_pdf_inputs = True
    supports_pdf_tool_message = True
    model_override_value = "other"

    @pytest.fixture(autouse=True)
    def _no_downloads(self, monkeypatch):
        """The suite fetches its pictures and documents from the web. A mock does not look into them."""
        monkeypatch.setattr(httpx, "get", lambda url, **_: httpx.Response(200, content=b"a file"))


class TestChatCompletions(Suite):
    __test__ = True
    chat_model_class = ChatOpenAI
    supports_json_mode = True
    supports_audio_inputs = True

    @property
    def chat_model_params(self):
        return {"model": "mock", **openai(), "stream_usage": True}


class TestResponses(Suite):
    __test__ = True
    chat_model_class = ChatOpenAI
    supports_json_mode = True

    @property
    def chat_model_params(self):
        return {"model": "mock", **openai(), "use_responses_api": True}


class TestMessages(Suite):
    __test__ = True
    chat_model_class = ChatAnthropic
    supports_anthropic_inputs = True

    @property
    def chat_model_params(self):
        return {"model": "mock", "base_url": os.environ["AI_PROXY_URL"], "api_key": os.environ["AI_PROXY_API_KEY"]}


class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = OpenAIEmbeddings

    @property
    def embedding_model_params(self):
        # The check needs the vocabulary of OpenAI's tokenizer, which would be downloaded.
        return {"model": "mock", **openai(), "check_embedding_ctx_length": False}


def openai() -> dict[str, str]:
    return {"base_url": f"{os.environ['AI_PROXY_URL']}/v1", "api_key": os.environ["AI_PROXY_API_KEY"]}


def test_a_stream_without_usage_asked_for_ends_well():
    model = ChatOpenAI(model="mock", **openai())

    *_, last = model.stream("ping")

    assert last.chunk_position == "last"
