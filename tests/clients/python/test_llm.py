"""simonw/llm: the command line."""

import json
import sys
from pathlib import Path

import pytest
import snippets

LLM = str(Path(sys.executable).parent / "llm")


@pytest.fixture
def llm(run, tmp_path, url, key):
    def llm(*arguments: str, endpoint: str = f"{url}/v1") -> str:
        environment = {"LLM_USER_PATH": str(tmp_path)}
        return run(LLM, "openai", "endpoint", endpoint, *arguments, "--key", key, **environment)

    return llm


@pytest.mark.parametrize("options", [[], ["--no-stream"], ["--responses"], ["--responses", "--no-stream"]])
def test_a_question_is_answered(llm, options):
    assert "ping" in llm("ping", "-m", "mock", *options)


def test_models_are_listed(llm):
    assert "mock" in llm("--models")


@pytest.mark.parametrize("options", [[], ["--responses"]])
def test_an_answer_follows_a_schema(llm, options):
    answer = json.loads(llm("ping", "-m", "mock", "--schema", "city, inhabitants int", *options))

    assert set(answer) == {"city", "inhabitants"}
    assert isinstance(answer["inhabitants"], int)


def test_a_tool_is_called_and_its_result_leads_to_an_answer(llm):
    tool = "def get_weather(city: str) -> str:\n    'The weather of a city.'\n    return 'sunny in ' + city"

    assert llm("What is the weather in Paris?", "-m", "mock", "--functions", tool)


def test_options_are_passed_on(llm):
    answer = llm("ping", "-m", "mock", "-o", "max_tokens", "2", "-s", "Be short.", "--no-stream")

    assert len(answer.split()) == 2


def test_a_model_of_the_settings_file_is_asked(run, tmp_path, url, key):
    (tmp_path / "extra-openai-models.yaml").write_text(snippets.settings("simonw/llm", url, key))
    environment = {"LLM_USER_PATH": str(tmp_path)}

    run(LLM, "keys", "set", "ai-proxy", "--value", key, **environment)

    assert "ping" in run(LLM, "-m", "proxy", "ping", **environment)
