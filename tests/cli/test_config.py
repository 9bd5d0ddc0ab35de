"""`ai-proxy config …`: is it right, what holds, and what would become of a call."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ai_proxy.cli import app

FILE = """
port = 9000
[upstream]
idle_timeout = 30
[providers.openai]
api_keys = ["env:KEY_1", "sk-canary-canary-canary"]
[providers.ollama]
[models.fast]
targets = ["openai/gpt-6-luna", {provider = "ollama", model = "llama3", total_timeout = 20}]
aliases = ["quick"]
hedge = true
on_context_length = "openai/gpt-6-sol"
"""


@pytest.fixture
def said(bare_environment):
    """What the command says, with these variables and this file."""

    def said(*words: str, file: str = "", **variables: str) -> tuple[int, str]:
        Path("ai-proxy.toml").write_text(file)
        result = CliRunner(env=variables).invoke(app, ["config", *words])
        return result.exit_code, result.output

    return said


@pytest.fixture
def rows(said):
    """The settings by name: value and source."""

    def rows(**given) -> dict[str, tuple[object, str]]:
        code, text = said("show", "--json", **given)
        assert code == 0, text
        return {row["setting"]: (row["value"], row["source"]) for row in json.loads(text)}

    return rows


# check


def test_nothing_is_wrong_with_the_defaults(said):
    code, text = said("check")

    assert code == 0
    assert text.splitlines()[1] == "providers: mock"
    assert text.endswith("The settings are in order.\n")


def test_what_is_in_order_is_named(said):
    code, text = said("check", file=FILE, KEY_1="sk-1")

    assert code == 0
    assert [line.split()[1:] for line in text.splitlines()[:3]] == [["ai-proxy.toml"], ["openai,", "ollama"], ["fast"]]


def test_every_problem_is_a_line_and_the_exit_code_is_1(said):
    code, text = said("check", file="[providers.openai]\n[models.a]\ntargets = ['openia/x']\n", OPENAI_API_KEY="k\nk")

    assert code == 1
    assert text.splitlines() == [
        "ai-proxy: OPENAI_API_KEY: has characters that cannot be sent in a header: spaces "
        "around it, or others than ASCII"
    ]


SLIPS = """
[upstream]
idle_timeout = "soon"
conect_timeout = 1

[models.slow]
targets = "openai/x"
[models.fast]
hedge = true
[models.odd.tragets]
"""


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        (
            SLIPS,
            {
                "3: upstream.idle_timeout: must be a number of seconds, as 10",
                "4: upstream.conect_timeout: there is no such setting: is it connect_timeout?",
                "7: models.slow.targets: must be a list",
                "8: models.fast.targets: is missing",
                "10: models.odd.targets: is missing",
                "10: models.odd.tragets: there is no such setting: is it targets?",
            },
        ),
        (
            "port = 9000\n\n[ provders.openai ]\nretries = 1\n",
            {"3: provders: there is no such setting: is it providers?"},
        ),
        (
            "[providers.openai]\napi_keys = '$OPENAI_API_KEY'\n",
            {"2: providers.openai.api_keys: is a variable as a shell names it: write env:NAME"},
        ),
    ],
    ids=["many", "a table", "a key"],
)
def test_a_slip_in_the_file_is_told_with_its_line_and_what_to_write(said, file, lines):
    code, text = said("check", file=file, OPENAI_API_KEY="sk-1")

    assert code == 1
    assert {line.removeprefix("ai-proxy: ai-proxy.toml:") for line in text.splitlines()} == lines


def test_a_variable_that_is_no_setting_is_told_and_does_no_harm(said):
    code, text = said("check", AI_PROXY_PORT="1", AI_PROXY_UPSTREM__IDLE_TIMEOUT="1", AI_PROXY_SERVER__KEEP_ALIVE="9")

    assert code == 0
    assert text.splitlines()[:2] == [
        "ai-proxy: AI_PROXY_PORT: there is no such setting: is it PORT? (ignored)",
        "ai-proxy: AI_PROXY_UPSTREM__IDLE_TIMEOUT: there is no such setting: is it AI_PROXY_UPSTREAM? (ignored)",
    ]


def test_the_address_that_callers_keep_in_their_shell_is_no_misspelt_setting(said):
    assert "AI_PROXY_URL" not in said("check", AI_PROXY_URL="http://127.0.0.1:8000")[1]


def test_a_line_of_env_that_nothing_reads_is_told_if_it_is_near_to_one_that_is_read(said):
    Path(".env").write_text("OPENAI_KEY=k\nOPENAI_API_KEY_2=k\nMY_OWN=1\nGOOGLE_API_KEY=k\n")

    code, text = said("check", file="[providers.openai]\napi_keys = 'env:OPENAI_API_KEY_2'\n")

    assert code == 0
    assert [line for line in text.splitlines() if "(ignored)" in line] == [
        "ai-proxy: OPENAI_KEY: nothing reads it: is it OPENAI_API_KEY? (ignored)"
    ]


def test_a_mock_that_nobody_asked_for_is_told_with_the_way_out(said):
    assert "Mock mode: set a provider's key, such as OPENAI_API_KEY" in said("check")[1]
    assert "Mock mode: OPENAI_BASE_URL is set, set OPENAI_API_KEY too" in said("check", OPENAI_BASE_URL="http://a")[1]


@pytest.mark.parametrize("variables", [{"MOCK_MODE": "true"}, {"OPENAI_API_KEY": "sk-1"}])
def test_of_a_mock_that_was_asked_for_or_is_not_there_nothing_is_told(said, variables):
    assert "Mock mode" not in said("check", **variables)[1]


# show


def test_each_value_tells_where_it_comes_from(rows):
    Path(".env").write_text("HOST=::1\nAI_PROXY_SERVER__KEEP_ALIVE=9\n")

    found = rows(file=FILE, KEY_1="sk-1", AI_PROXY_LOG_LEVEL="debug")

    assert found["log_level"] == ("debug", "environment")
    assert found["host"] == ("::1", ".env")
    assert found["server.keep_alive"] == (9, ".env")
    assert found["port"] == (9000, "ai-proxy.toml:2")
    assert found["upstream.idle_timeout"] == (30, "ai-proxy.toml:4")
    assert found["upstream.total_timeout"] == (600, "default")
    assert found["models.fast.hedge"] == (True, "ai-proxy.toml:11")
    assert found["models.fast.retries"] == (1, "default")


def test_what_a_provider_has_comes_from_its_preset_its_variables_and_the_rest(rows):
    found = rows(file="[providers.openai]\ntotal_timeout = 9\n", OPENAI_API_KEY="sk-1", OLLAMA_BASE_URL="http://box:1")

    assert found["providers.openai.api_keys"] == (["…"], "environment (OPENAI_API_KEY)")
    assert found["providers.openai.base_url"] == ("https://api.openai.com/v1", "preset openai")
    assert found["providers.openai.total_timeout"] == (9, "ai-proxy.toml:2")
    assert found["providers.openai.idle_timeout"] == (60, "upstream.idle_timeout")
    assert found["providers.ollama.base_url"] == ("http://box:1/v1", "environment (OLLAMA_BASE_URL)")
    assert found["providers.ollama.api_keys"] == ([], "preset ollama")


def test_every_setting_is_a_line_for_a_person(said, rows):
    _, text = said("show", file=FILE, KEY_1="sk-1")

    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == list(rows(file=FILE, KEY_1="sk-1"))
    assert "port                                 9000" in text
    assert "(unset)" in text


@pytest.mark.parametrize("words", ["show", "show --json", "explain fast", "explain fast --json", "check"])
def test_no_secret_is_shown(said, words):
    secrets = {
        "KEY_1": "sk-proj-canary-and-then-some",
        "AI_PROXY_API_KEY": "canary-canary-canary-canary",
        "AI_PROXY_SECRET": "canary-canary-canary-canary",
        "GROQ_API_KEY": "canary",
    }

    code, text = said(*words.split(), file=FILE, **secrets)

    assert code == 0, text
    assert "canary" not in text


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://hooks.example/services/T0/canary-token", "https://hooks.example/…"),
        ("https://me:canary@hooks.example:8443?token=canary", "https://hooks.example:8443/…"),
        ("http://[::1]:9/canary", "http://[::1]:9/…"),
        ("http://me:canary/canary@hooks.example", "…"),
        ("http://[canary", "…"),
    ],
)
def test_of_the_address_that_alerts_go_to_only_the_host_is_shown(rows, said, address, told):
    alerts = {"AI_PROXY_ALERTS__URL": address, "AI_PROXY_ALERTS__SECRET": "x" * 16}

    assert rows(**alerts)["alerts.url"] == (told, "environment")
    assert "canary" not in said("show", **alerts)[1]


# explain


def test_explains_where_calls_for_a_model_go(said):
    code, text = said("explain", "quick", "--json", file=FILE, KEY_1="sk-0123456789-0123456789")

    found = json.loads(text)
    assert code == 0
    assert (found["route"], found["rule"]) == ("fast", "an alias of fast")
    assert (found["strategy"], found["hedge"], found["on_context_length"]) == ("order", True, "openai/gpt-6-sol")
    assert [(target["provider"], target["model"], target["api_key"]) for target in found["targets"]] == [
        ("openai", "gpt-6-luna", "sk-…6789"),
        ("openai", "gpt-6-luna", "sk-…nary"),
        ("ollama", "llama3", None),
    ]
    assert found["targets"][2]["deadlines"] == {"connect": 5, "first_byte": 120, "idle": 30, "total": 20}


def test_explains_which_formats_are_passed_on_as_they_are(said):
    _, text = said("explain", "claude-haiku-4-5", "--json", ANTHROPIC_API_KEY="sk-1")

    found = json.loads(text)
    assert found["rule"] == "it begins with claude-"
    assert found["targets"][0]["dialects"] == {
        "chat": "native",
        "responses": "translated",
        "messages": "native",
        "completions": "refused",
        "embeddings": "refused",
        "moderations": "refused",
    }


def test_explains_it_to_a_person(said):
    code, text = said("explain", "fast", file=FILE, KEY_1="sk-0123456789-0123456789")

    assert code == 0
    assert text.startswith("fast: configured\nAt most 4 tries in 600 s; ")
    assert "If the call is too long: openai/gpt-6-sol" in text
    assert "  1. openai: gpt-6-luna\n     address   https://api.openai.com/v1\n     key       sk-…6789\n" in text
    assert "     key       (none)\n" in text


@pytest.mark.parametrize("name", ["strange", "claude-x", "some/thing"])
def test_what_a_providers_list_may_change_is_told_to_a_person(said, name):
    keys = {"ANTHROPIC_API_KEY": "sk-1", "OPENROUTER_API_KEY": "sk-2"}

    first, *_ = said("explain", name, **keys)[1].splitlines()

    assert first.endswith(" (unless a provider's own list has it: lists are not read here)")


@pytest.mark.parametrize("name", ["openai/strange", "fast"])
def test_what_no_list_can_change_is_told_without_reserve(said, name):
    assert "unless" not in said("explain", name, file=FILE, KEY_1="sk-1")[1]


def test_with_one_provider_no_list_can_change_anything(said):
    assert "unless" not in said("explain", "strange", OPENAI_API_KEY="sk-1")[1]


def test_explains_what_a_call_without_a_model_gets(said):
    assert said("explain", OPENAI_API_KEY="sk-1")[1].startswith("(no model): the default model of openai\n")
    assert said("explain", file="[providers.ollama]\n") == (
        1,
        "ai-proxy: A model must be named: name one in `model`, or set AI_PROXY_DEFAULT_MODEL.\n",
    )


def test_explains_what_a_model_costs(said):
    prices = '[prices."openai/own"]\ninput = 0.2\noutput = 1\n'

    def explained(model):
        return said("explain", model, file=prices, OPENAI_API_KEY="sk-1")[1]

    assert "price     $0.20 read, $1.00 written, a million tokens (table)" in explained("openai/own")
    assert "price     $2.50 read, $10.00 written, a million tokens (list)" in explained("gpt-4o")
    assert "price " not in explained("nobody-knows")


def test_explains_mock_mode(said):
    _, text = said("explain", "fast", "--json", file=FILE, MOCK_MODE="true")

    assert [target["provider"] for target in json.loads(text)["targets"]] == ["mock"]
