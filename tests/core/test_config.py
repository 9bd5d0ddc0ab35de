"""Settings: what the environment and .env say, and what becomes of wrong values."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from ai_proxy.core.config import Settings, load_settings

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def given(monkeypatch):
    def given(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return given


def refusal() -> str:
    with pytest.raises(SystemExit) as stopped:
        load_settings()
    return str(stopped.value)


def test_everything_has_a_default():
    settings = load_settings()

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.uses_mock


def test_an_empty_variable_counts_as_unset(given):
    given(PORT="", OPENAI_API_KEY="", AI_PROXY_API_KEY="", MOCK_MODE="", AI_PROXY_UPSTREAM__IDLE_TIMEOUT="")

    settings = load_settings()

    assert settings == Settings()


def test_the_parts_of_a_group_are_set_one_by_one(given):
    given(AI_PROXY_UPSTREAM__TOTAL_TIMEOUT=7.5, AI_PROXY_RECORDER__BATCH=3)

    settings = load_settings()

    assert settings.upstream.total_timeout == 7.5
    assert settings.recorder.batch == 3
    assert settings.upstream.idle_timeout == 60


def test_reads_a_file_of_the_working_directory():
    Path(".env").write_text('# mine\nPORT=9001\nOPENAI_API_KEY="sk-from-a-file"\nAI_PROXY_SERVER__KEEP_ALIVE=9\n')

    settings = load_settings()

    assert (settings.port, settings.server.keep_alive) == (9001, 9)
    assert settings.openai_api_key == SecretStr("sk-from-a-file")


def test_the_environment_comes_before_the_file(given):
    Path(".env").write_text("PORT=9001\nHOST=::1\n")
    given(PORT=9002)

    settings = load_settings()

    assert (settings.port, settings.host) == (9002, "::1")


def test_what_is_given_to_the_command_comes_before_the_environment(given):
    given(PORT=9002)

    assert load_settings(port=9003).port == 9003


@pytest.mark.parametrize(
    ("variables", "mock"),
    [
        ({}, True),
        ({"OPENAI_API_KEY": "sk-1"}, False),
        ({"OPENROUTER_API_KEY": "sk-1"}, False),
        ({"OPENAI_API_KEY": "sk-1", "MOCK_MODE": "true"}, True),
        ({"OPENAI_API_KEY": "sk-1", "MOCK_MODE": "false"}, False),
        ({"OPENAI_API_KEY": "sk-1", "MOCK_MODE": ""}, False),
        ({"MOCK_MODE": "true"}, True),
    ],
)
def test_the_mock_answers_when_it_is_told_to_or_there_is_no_key(given, variables, mock):
    given(**variables)

    assert load_settings().uses_mock is mock


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("PORT", "99999", "less than or equal to 65535"),
        ("PORT", "-1", "greater than or equal to 0"),
        ("PORT", "http", "valid integer"),
        ("DATABASE_URL", "mysql://x", "only SQLite is supported"),
        ("DATABASE_URL", "history.db", "only SQLite is supported"),
        ("DATABASE_URL", "sqlite://", "must name a file"),
        ("DATABASE_URL", "sqlite:///", "must name a file"),
        ("DATABASE_URL", "sqlite:///:memory:", "must name a file"),
        ("DATABASE_URL", "sqlite://data/two-slashes.db", "must name a file"),
        ("OPENAI_BASE_URL", "http://user:pass@127.0.0.1/v1", "must not hold a name or a password"),
        ("OPENAI_BASE_URL", "http://127.0.0.1/v1?key=1", "must end with its path"),
        ("OPENAI_BASE_URL", "api.openai.com/v1", "must begin with http:// or https://"),
        ("OPENAI_BASE_URL", "http://", "is not an address"),
        ("OPENAI_BASE_URL", "http://with space/", "is not an address"),
        ("OPENAI_BASE_URL", "http://localhost:0/v1", "is not an address"),
        ("OPENAI_BASE_URL", "http://localhost:99999/v1", "Port out of range"),
        ("OPENROUTER_BASE_URL", "ftp://openrouter.ai", "must begin with http:// or https://"),
        ("OPENAI_API_KEY", "sk-two\nlines", "cannot be sent in a header"),
        ("OPENROUTER_API_KEY", "ключ", "cannot be sent in a header"),
        ("AI_PROXY_API_KEY", "too-short", "at least 20 characters"),
        ("AI_PROXY_API_KEY", "x" * 513, "at most 512 characters"),
        ("AI_PROXY_API_KEY", " spaces-around-my-own-key ", "cannot be sent in a header"),
        ("AI_PROXY_SECRET", "too-short", "at least 20 characters"),
        ("MOCK_MODE", "maybe", "valid boolean"),
        ("AI_PROXY_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("AI_PROXY_LOG_FORMAT", "xml", "'auto', 'json' or 'console'"),
        ("AI_PROXY_CONVERSATION_BUDGET", "-1", "greater than or equal to 0"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "abc", "valid number"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "0", "greater than 0"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "nan", "finite number"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "inf", "finite number"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "1e9", "less than or equal to 86400"),
        ("AI_PROXY_UPSTREAM__TOTALTIMEOUT", "1", "not permitted"),
        ("AI_PROXY_MOCK__LATENCY", "-0.1", "greater than or equal to 0"),
        ("AI_PROXY_MOCK", "fast", "valid dictionary"),
        ("AI_PROXY_RECORDER__CAPACITY", "0", "greater than or equal to 1"),
        ("AI_PROXY_RECORDER__BATCH", "10001", "less than or equal to 10000"),
        ("AI_PROXY_RECORDER__INTERVAL", "2", "less than or equal to 1"),
        ("AI_PROXY_SERVER__MAX_BODY_BYTES", "1.5", "valid integer"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(given, variable, value, reason):
    given(**{variable: value})

    line = refusal()

    assert line.startswith(f"ai-proxy: {variable}: ")
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize("variable", ["AI_PROXY_API_KEY", "AI_PROXY_SECRET", "OPENAI_API_KEY", "OPENROUTER_API_KEY"])
def test_a_wrong_secret_is_not_repeated(given, variable):
    given(**{variable: "se\ncret"})

    line = load_settings_or_refusal()

    assert "cret" not in line.replace(variable, "")


def load_settings_or_refusal() -> str:
    try:
        return repr(load_settings())
    except SystemExit as stopped:
        return str(stopped)


def test_secrets_are_not_shown_with_the_settings(given):
    secrets = {
        "AI_PROXY_API_KEY": "canary-1-canary-1-canary-1",
        "AI_PROXY_SECRET": "canary-2-canary-2-canary-2",
        "OPENAI_API_KEY": "canary-3",
        "OPENROUTER_API_KEY": "canary-4",
    }
    given(**secrets)

    shown = repr(load_settings()) + str(load_settings().model_dump())

    assert "canary" not in shown


def test_without_the_mock_a_provider_key_is_needed(given):
    given(MOCK_MODE="false")

    line = refusal()

    assert "MOCK_MODE" in line
    assert "OPENAI_API_KEY or OPENROUTER_API_KEY" in line


def test_every_wrong_value_has_a_line_of_its_own(given):
    given(PORT="abc", AI_PROXY_LOG_LEVEL="loud", AI_PROXY_SERVER__KEEP_ALIVE="never")

    lines = refusal().splitlines()

    assert sorted(line.split(": ")[1] for line in lines) == [
        "AI_PROXY_LOG_LEVEL",
        "AI_PROXY_SERVER__KEEP_ALIVE",
        "PORT",
    ]


def test_a_file_that_is_not_text_is_one_line():
    Path(".env").write_bytes(b"PORT=1\n\xff\xfe\n")

    assert re.fullmatch(r"ai-proxy: \.env cannot be read: .*", refusal())


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("sqlite+aiosqlite:///data/ai-proxy.db", "data"),
        ("sqlite:///history.db", "."),
        ("sqlite+aiosqlite:////var/lib/ai-proxy/history.db", "/var/lib/ai-proxy"),
        ("sqlite+aiosqlite:////var/lib/history.db?timeout=3", "/var/lib"),
    ],
)
def test_the_data_directory_is_that_of_the_database(given, url, directory):
    given(DATABASE_URL=url)

    settings = load_settings()

    assert settings.data_directory == Path(directory)
    assert settings.database_url.startswith("sqlite+aiosqlite:///")


# The table of docs/settings.md against the code.


def documented() -> dict[str, str]:
    """The rows of the tables: the variable, and what stands in the column after it."""
    found: dict[str, str] = {}
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and (name := re.fullmatch(r"`([A-Z0-9_]+)`", cells[0])):
            assert name[1] not in found, f"{name[1]} has two rows"
            found[name[1]] = cells[1]
    return found


def existing(model: type[BaseModel] = Settings, prefix: str = "AI_PROXY_") -> dict[str, object]:
    """Every setting as its environment variable, with its default."""
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():
        variable = field.validation_alias or f"{prefix}{name}".upper()
        assert isinstance(variable, str)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= existing(field.annotation, f"{variable}__")
        else:
            assert field.default is not PydanticUndefined, f"{variable} has no default"
            found[variable] = field.default
    return found


def shown(default: object) -> set[str]:
    """The ways to write a default in the documentation."""
    if default is None:
        return {"(unset)"}
    if isinstance(default, bool):
        return {str(default).lower()}
    return {str(default)}


def test_every_setting_is_documented_and_no_other():
    assert set(documented()) == set(existing())


def test_every_documented_default_is_the_real_one():
    rows = documented()

    wrong = {
        variable: cell
        for variable, default in existing().items()
        if (cell := rows[variable].strip("`").replace(",", "").replace("\N{NO-BREAK SPACE}", "")) not in shown(default)
    }

    assert wrong == {}
