"""Settings: what the environment, .env and ai-proxy.toml say, and what becomes of wrong values."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from ai_proxy.core.catalog import ModelSettings, Price, ProviderSettings, TargetSettings
from ai_proxy.core.config import Settings, load_settings, read_settings
from ai_proxy.core.sources import ConfigurationError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "settings.md"


pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def given(monkeypatch):
    def given(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return given


@pytest.fixture
def written():
    """Writes ai-proxy.toml."""
    return Path("ai-proxy.toml").write_text


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
    assert settings.resolved_providers()["openai"].api_keys == (SecretStr("sk-from-a-file"),)


def test_the_environment_comes_before_the_file(given):
    Path(".env").write_text("PORT=9001\nHOST=::1\n")
    given(PORT=9002)

    settings = load_settings()

    assert (settings.port, settings.host) == (9002, "::1")


def test_what_is_given_to_the_command_comes_before_the_environment(given):
    given(PORT=9002)

    assert load_settings(port=9003).port == 9003


# The file


def test_reads_ai_proxy_toml_of_the_working_directory(written):
    written("port = 9001\ndefault_model = 'small'\n[upstream]\ntotal_timeout = 7.5\n[cache]\nttl = 60\n")

    settings = load_settings()

    assert (settings.port, settings.default_model) == (9001, "small")
    assert (settings.upstream.total_timeout, settings.upstream.idle_timeout) == (7.5, 60)
    assert (settings.cache.ttl, settings.cache.coalesce) == (60, False)


def test_the_environment_and_dotenv_come_before_the_file(given, written):
    written("port = 9001\nhost = '::1'\nmock_mode = true\n[upstream]\ntotal_timeout = 7\nidle_timeout = 8\n")
    Path(".env").write_text("HOST=::2\nAI_PROXY_UPSTREAM__TOTAL_TIMEOUT=9\n")
    given(PORT=9002)

    settings = load_settings()

    assert (settings.port, settings.host, settings.mock_mode) == (9002, "::2", True)
    assert (settings.upstream.total_timeout, settings.upstream.idle_timeout) == (9, 8)


def test_another_file_is_read_where_a_variable_says_so(given, tmp_path):
    (tmp_path / "other.toml").write_text("port = 9003\n")
    Path("ai-proxy.toml").write_text("this is not read")
    given(AI_PROXY_CONFIG=tmp_path / "other.toml")

    assert load_settings().port == 9003


def test_a_file_that_is_named_must_exist(given):
    given(AI_PROXY_CONFIG="nowhere.toml")

    assert refusal() == "ai-proxy: AI_PROXY_CONFIG: nowhere.toml cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("port = 1\nport 2\n", "ai-proxy.toml:2: Expected '=' after a key in a key/value pair"),
        ("prot = 1\n", "ai-proxy.toml:1: prot: there is no such setting: is it port?"),
        ("\nconfig = 'x'\n", "ai-proxy.toml:2: config: only the variable AI_PROXY_CONFIG can say that"),
        ("\n\nport = 70000\n", "ai-proxy.toml:3: port: Input should be less than or equal to 65535"),
        (
            "[upstream]\n\ntotal_timeout = 0\n",
            "ai-proxy.toml:3: upstream.total_timeout: Input should be greater than 0",
        ),
        ("upstream.total_timeout = 0\n", "ai-proxy.toml:1: upstream.total_timeout: Input should be greater than 0"),
        ("[upstream]\nretries = 1\n", "ai-proxy.toml:2: upstream.retries: there is no such setting"),
        ("\n[provders.openai]\n", "ai-proxy.toml:2: provders: there is no such setting: is it providers?"),
        (
            "[models.a]\ntargets = [{provider = 'b', model = 'c', wieght = 1}]\n",
            "ai-proxy.toml:2: models.a.targets.1.wieght: there is no such setting: is it weight?",
        ),
        ("[models.a]\ntargets = 'b/c'\n", "ai-proxy.toml:2: models.a.targets: must be a list"),
        (
            "[providers.region]\nidle_timout = 5\n",
            "ai-proxy.toml:2: providers.region.idle_timout: there is no such setting: is it idle_timeout?",
        ),
        ("\nproviders = 1\n", "ai-proxy.toml:2: providers: Input should be a valid dictionary"),
        ("[models.a]\n", "ai-proxy.toml:1: models.a.targets: is missing"),
        ("[models.'a.b']\n\ntargets = ['x']\n", "ai-proxy.toml:3: models.a.b.targets.1: must be 'provider/model'"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line_that_names_its_line(written, text, line):
    written(text)

    assert refusal() == f"ai-proxy: {line}"


def test_a_file_that_is_not_utf_8_is_one_line():
    Path("ai-proxy.toml").write_bytes(b"host = '\xff'\n")

    assert refusal() == "ai-proxy: ai-proxy.toml: is not UTF-8 text, at byte 8"


def test_a_wrong_variable_is_named_even_where_the_file_has_a_good_value(given, written):
    written("port = 9001\n[upstream]\ntotal_timeout = 5\n")
    given(AI_PROXY_UPSTREAM__TOTAL_TIMEOUT="never")

    assert refusal().startswith("ai-proxy: AI_PROXY_UPSTREAM__TOTAL_TIMEOUT: ")


def test_a_wrong_option_of_a_command_is_not_blamed_on_the_file(written):
    written("port = 9001\n")

    with pytest.raises(SystemExit, match=r"^ai-proxy: PORT: Input should be greater than or equal to 0$"):
        load_settings(port=-1)


def test_settings_can_be_read_again_without_an_exit(written):
    written("port = 'http'\nhost = 3\n")

    with pytest.raises(ConfigurationError) as raised:
        read_settings()
    written("port = 9001\n")

    assert [problem.where for problem in raised.value.problems] == ["ai-proxy.toml:2: host", "ai-proxy.toml:1: port"]
    assert read_settings().port == 9001


# The mock


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
        ("PORT", "http", "must be a whole number, as 10"),
        ("DATABASE_URL", "mysql://x", "must begin with sqlite:///"),
        ("DATABASE_URL", "history.db", "must begin with sqlite:///"),
        ("DATABASE_URL", "postgresql", "must begin with sqlite:///"),
        ("DATABASE_URL", "postgresql://user:pass@host", "must name a database"),
        ("DATABASE_URL", "postgresql://user:pass@host/", "must name a database"),
        ("DATABASE_URL", "postgresql://user:pass@host:port/name", "must have a number for a port"),
        ("DATABASE_URL", "postgresql://user:pa:1/ss@host:5432/name/too", "must name a database"),
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
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "abc", "must be a number of seconds, as 10"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "0", "greater than 0"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "nan", "finite number"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "inf", "finite number"),
        ("AI_PROXY_UPSTREAM__TOTAL_TIMEOUT", "1e9", "less than or equal to 86400"),
        ("AI_PROXY_UPSTREAM__TOTALTIMEOUT", "1", "there is no such setting: is it total_timeout?"),
        ("AI_PROXY_MOCK__LATENCY", "-0.1", "greater than or equal to 0"),
        ("AI_PROXY_MOCK", "fast", "valid dictionary"),
        ("AI_PROXY_RECORDER__CAPACITY", "0", "greater than or equal to 1"),
        ("AI_PROXY_RECORDER__BATCH", "10001", "less than or equal to 10000"),
        ("AI_PROXY_RECORDER__INTERVAL", "2", "less than or equal to 1"),
        ("AI_PROXY_SERVER__MAX_BODY_BYTES", "1.5", "must be a whole number, as 10"),
        ("AI_PROXY_SERVER__KEEP_ALIVE", "1m", "must be a whole number of seconds, as 10"),
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

    assert re.fullmatch(r"ai-proxy: \.env: cannot be read: .*", refusal())


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
    """Every setting that one variable holds, with its default."""
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():
        variable = field.validation_alias or f"{prefix}{name}".upper()
        assert isinstance(variable, str)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= existing(field.annotation, f"{variable}__")
        elif field.default != {}:
            assert field.default is not PydanticUndefined, f"{variable} has no default"
            found[variable] = field.default
    return found


def shown(default: object) -> set[str]:
    """The ways to write a default in the documentation."""
    if default is None:
        return {"(unset)"}
    if isinstance(default, bool):
        return {str(default).lower()}
    if default == ():
        return {"(none)"}
    if default is PydanticUndefined:
        return {"(must be set)"}
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


# The tables of the file, which no single variable holds.


def keys_of(table: str) -> dict[str, str]:
    """The rows under a heading: the key, and its default."""
    [section] = re.findall(rf"^### `{re.escape(table)}`\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    return dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("table", "model"),
    [
        ("[providers.NAME]", ProviderSettings),
        ("[models.NAME]", ModelSettings),
        ("targets", TargetSettings),
        ("price", Price),
    ],
)
def test_every_key_of_a_table_is_documented_with_its_default(table, model):
    rows = keys_of(table)

    assert set(rows) == set(model.model_fields)
    assert [
        name for name, field in model.model_fields.items() if rows[name].strip("`") not in shown(field.default)
    ] == []


def test_the_example_file_is_in_order_with_and_without_its_comments(given, written):
    text = (ROOT / "ai-proxy.example.toml").read_text()
    given(OPENAI_API_KEY="sk-1", OPENAI_API_KEY_2="sk-2", ANTHROPIC_API_KEY="sk-3")

    as_it_stands = written(text) and read_settings()
    written(re.sub(r"^#(?=[a-z\[{])", "", text, flags=re.MULTILINE))
    uncommented = read_settings()

    assert list(as_it_stands.resolved_providers()) == ["openai", "anthropic"]
    assert list(uncommented.resolved_providers()) == ["openai", "anthropic", "ollama"]
    assert uncommented.default_model == "fast"


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("127.0.0.1, 10.0.0.0/8", "127.0.0.1/32,10.0.0.0/8"),
        ("::1", "::1/128"),
        ("none", ""),
    ],
)
def test_proxies_are_trusted_by_address(bare_environment, monkeypatch, text, trusted):
    monkeypatch.setenv("AI_PROXY_SERVER__TRUSTED_PROXIES", text)

    assert Settings().server.trusted_proxies == trusted


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/8,"])
def test_proxies_that_are_no_addresses_are_refused(bare_environment, monkeypatch, text):
    monkeypatch.setenv("AI_PROXY_SERVER__TRUSTED_PROXIES", text)

    with pytest.raises(ConfigurationError, match="must be addresses or networks"):
        read_settings()
