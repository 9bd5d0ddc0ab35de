"""Clients for the tests in this folder, strict: the SDK refuses an answer with a field missing or mistyped."""

import anthropic
import openai
import pytest


@pytest.fixture
def client(url, key):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
def lenient(url, key):
    """For what OpenAI's own answers do not pass in the SDK's strict mode."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
        yield client


@pytest.fixture
async def asynchronous(url, key):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
def claude(url, key):
    with anthropic.Anthropic(base_url=url, api_key=key, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
async def asynchronous_claude(url, key):
    async with anthropic.AsyncAnthropic(base_url=url, auth_token=key, _strict_response_validation=True) as client:
        yield client
