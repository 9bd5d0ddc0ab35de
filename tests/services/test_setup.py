"""What a start does before calls can be served, on a real database."""

import json
import re
import shlex

import pytest
from structlog.testing import capture_logs

from ai_proxy.core.config import Settings
from ai_proxy.services import keys
from ai_proxy.services.setup import find_secret, greeting, secret_of
from ai_proxy.services.setup import prepare as prepare_with
from ai_proxy.storage.engine import Database

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("bare_environment")]


def settings_of(directory, **fields) -> Settings:
    return Settings(database_url=f"sqlite:///{directory}/data/x.db", **fields)


@pytest.fixture
def settings(tmp_path):
    return settings_of(tmp_path)


@pytest.fixture
async def database(settings):
    async with Database(settings.database_url, directory=settings.data_directory) as database:
        yield database


async def prepare(settings, database) -> bytes:
    secret = find_secret(settings)
    await prepare_with(settings, database, secret)
    return secret.value


async def test_makes_the_schema_the_secret_and_the_first_key(settings, database, capsys):
    found = await prepare(settings, database)

    key = re.search("shown only now: (.*)", capsys.readouterr().err)[1]
    [listed] = await keys.list_all(database)
    assert found == secret_of(settings)
    assert (listed.name, listed.hint) == ("first", f"{key[:7]}…{key[-4:]}")


async def test_does_nothing_the_second_time(settings, database, capsys):
    first = await prepare(settings, database)
    capsys.readouterr()

    second = await prepare(settings, database)

    assert first == second
    assert "shown only now" not in capsys.readouterr().err
    assert len(await keys.list_all(database)) == 1


async def test_only_the_first_start_shows_how_to_become_administrator(settings, database, capsys):
    await prepare(settings, database)
    first = capsys.readouterr().err
    await prepare(settings, database)

    assert "make the first administrator: ai-proxy users create NAME --admin" in first
    assert "administrator" not in capsys.readouterr().err


async def test_says_when_the_secret_is_gone(settings, database):
    await prepare(settings, database)
    (settings.data_directory / "secret").unlink()

    with capture_logs() as log:
        await prepare(settings, database)

    [line] = log
    assert line["log_level"] == "warning"
    assert "the secret file is gone" in line["event"]


async def test_a_schema_that_must_not_be_migrated_stops_the_start(tmp_path, database):
    with pytest.raises(SystemExit, match="AI_PROXY_MIGRATE is false, and the database is empty"):
        await prepare(settings_of(tmp_path, migrate=False), database)


# The greeting


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104
        ("::", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("gateway.example", "http://gateway.example:8000"),
    ],
)
def test_the_greeting_names_an_address_that_works(tmp_path, host, url):
    text = greeting(settings_of(tmp_path, host=host), "aip_the-key")

    assert text.startswith("AI Proxy ")
    assert f" on {url} (API: {url}/docs)\n" in text
    assert f'curl {url}/api/ask -H "Authorization: Bearer aip_the-key"' in text


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({}, "set a provider's key, such as OPENAI_API_KEY (docs/configuration.md), for real answers"),
        ({"mock_mode": True, "providers": {"openai": {"api_keys": "sk-1"}}}, "unset MOCK_MODE for real answers"),
    ],
)
def test_the_greeting_says_why_the_mock_answers_and_what_to_do(tmp_path, fields, hint):
    assert f"Mock mode: {hint}" in greeting(settings_of(tmp_path, **fields), None)


def test_the_greeting_says_what_an_address_without_a_key_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:11434/v1")

    text = greeting(settings_of(tmp_path), None)

    assert "Mock mode: OPENAI_BASE_URL is set, set OPENAI_API_KEY too" in text


def test_the_greeting_does_not_speak_of_the_mock_when_there_is_a_provider(tmp_path):
    settings = settings_of(tmp_path, providers={"openai": {"api_keys": "sk-1"}})

    assert "Mock mode" not in greeting(settings, None)


LOCAL = {"ollama": {}}
NAMED = {"it's fast": {"targets": ["ollama/llama3.2"]}}


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"providers": LOCAL, "models": NAMED}, {"model": "it's fast"}),
        ({"providers": {"ollama": {"models": ["llama3.2"]}}}, {"model": "llama3.2"}),
        ({"providers": LOCAL}, {"model": "MODEL"}),
        ({"providers": LOCAL, "models": NAMED, "default_model": "it's fast"}, {}),
        ({"providers": {"openai": {"api_keys": "sk-1"}}}, {}),
        ({}, {}),
    ],
)
def test_the_greetings_call_names_a_model_when_it_must(tmp_path, fields, body):
    [line] = [line for line in greeting(settings_of(tmp_path, **fields), None).splitlines() if "curl" in line]

    assert json.loads(shlex.split(line)[-1]) == {"question": "What is the capital of France?", **body}


def test_the_greeting_says_so_when_no_model_is_known(tmp_path):
    text = greeting(settings_of(tmp_path, providers=LOCAL), None)

    assert text.endswith("with a name in place of MODEL; AI_PROXY_DEFAULT_MODEL is the model of questions without.\n")


def test_without_a_new_key_the_greeting_shows_none(tmp_path):
    text = greeting(settings_of(tmp_path, api_key="a-key-of-the-operator"), None)

    assert "a-key-of-the-operator" not in text
    assert '"Authorization: Bearer $AI_PROXY_API_KEY"' in text
