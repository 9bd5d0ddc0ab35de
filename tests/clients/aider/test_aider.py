"""aider: the command line, by way of the LiteLLM SDK that it brings."""

import sys
from pathlib import Path

import litellm
import pytest

AIDER = str(Path(sys.executable).parent / "aider")
SETTINGS = """
git: false
yes-always: true
check-update: false
show-release-notes: false
show-model-warnings: false
analytics-disable: true
pretty: false
"""


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    (tmp_path / ".aider.conf.yml").write_text(SETTINGS)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("option", ["--stream", "--no-stream"])
def test_a_question_is_answered(run, url, key, option):
    environment = {"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": key}

    assert "You said: ping" in run(AIDER, "--model", "openai/mock", option, "--message", "/ask ping", **environment)


def test_the_snippet_works(run_snippets):
    (printed,) = run_snippets("aider")

    assert "capital of France" in printed


@pytest.fixture
def connection(url, key):
    return {"api_base": f"{url}/v1", "api_key": key}


def test_the_litellm_sdk_asks_and_streams(connection):
    messages = [{"role": "user", "content": "ping"}]

    whole = litellm.completion("openai/mock", messages, **connection)
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in litellm.completion("openai/mock", messages, stream=True, **connection)
    ]

    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.usage.total_tokens > 0


def test_the_litellm_sdk_knows_the_errors(connection):
    with pytest.raises(litellm.RateLimitError):
        litellm.completion("openai/mock/error-429", [{"role": "user", "content": "ping"}], max_retries=0, **connection)
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion("openai/mock", [{"role": "user", "content": "ping"}], **connection | {"api_key": "wrong"})
