"""Providers as they will be built: presets, usual variables, the file, keys, and what does not fit together."""

from pathlib import Path

import pytest

from ai_proxy.core.config import Settings, read_settings
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.sources import ConfigurationError

pytestmark = pytest.mark.usefixtures("bare_environment")

EVERY_OPENAI = {"chat", "responses", "completions", "embeddings", "moderations"}


@pytest.fixture
def given(monkeypatch):
    def given(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return given


def settings_of(text: str = "") -> Settings:
    Path("ai-proxy.toml").write_text(text)
    return read_settings()


def providers(text: str = "") -> dict[str, ResolvedProvider]:
    return settings_of(text).resolved_providers()


def refusal(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        settings_of(text)
    return [str(problem) for problem in raised.value.problems]


def keys(provider: ResolvedProvider) -> list[str]:
    return [key.get_secret_value() for key in provider.api_keys]


# From variables alone


def test_without_anything_the_mock_answers():
    found = providers()

    assert list(found) == ["mock"]
    assert (found["mock"].kind, found["mock"].default_model) == ("mock", "mock")


@pytest.mark.parametrize(
    ("variable", "name", "kind", "base_url"),
    [
        ("OPENAI_API_KEY", "openai", "openai", "https://api.openai.com/v1"),
        ("OPENROUTER_API_KEY", "openrouter", "openai", "https://openrouter.ai/api/v1"),
        ("ANTHROPIC_API_KEY", "anthropic", "anthropic", "https://api.anthropic.com/v1"),
        ("GEMINI_API_KEY", "gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ("GROQ_API_KEY", "groq", "openai", "https://api.groq.com/openai/v1"),
        ("MISTRAL_API_KEY", "mistral", "openai", "https://api.mistral.ai/v1"),
    ],
)
def test_a_key_in_the_environment_is_enough(given, variable, name, kind, base_url):
    given(**{variable: "sk-1"})

    [provider] = providers().values()

    assert (provider.name, provider.preset, provider.kind, provider.base_url) == (name, name, kind, base_url)
    assert keys(provider) == ["sk-1"]


def test_a_key_in_dotenv_is_enough_too():
    Path(".env").write_text("GROQ_API_KEY=gsk-1\n")

    assert keys(providers()["groq"]) == ["gsk-1"]


def test_several_keys_are_in_the_order_of_the_presets(given):
    given(MISTRAL_API_KEY="c", OPENROUTER_API_KEY="b", OPENAI_API_KEY="a")

    assert list(providers()) == ["openai", "openrouter", "mistral"]


def test_a_token_that_many_have_for_other_ends_turns_nothing_on(given):
    given(HF_TOKEN="hf-1")

    assert list(providers()) == ["mock"]
    assert keys(providers("[providers.huggingface]")["huggingface"]) == ["hf-1"]


@pytest.mark.parametrize(
    "url", ["http://box:11434", "http://box:11434/", "http://box:11434/v1", "http://box:11434/v1/"]
)
def test_the_address_of_a_server_of_ones_own_turns_it_on(given, url):
    given(OLLAMA_BASE_URL=url)

    [provider] = providers().values()

    assert (provider.name, provider.base_url, provider.api_keys) == ("ollama", "http://box:11434/v1", ())
    assert "responses" in provider.dialects


@pytest.mark.parametrize("url", ["https://gateway.example/anthropic", "https://gateway.example/anthropic/v1"])
def test_anthropics_address_is_taken_with_and_without_its_version(given, url):
    given(ANTHROPIC_API_KEY="sk-1", ANTHROPIC_BASE_URL=url)

    provider = providers()["anthropic"]

    assert provider.base_url == "https://gateway.example/anthropic/v1"
    assert (provider.key_header, provider.api_version) == ("x-api-key", "2023-06-01")
    assert provider.dialects == {"chat", "messages"}


def test_an_address_without_a_key_turns_nothing_on_but_is_noted(given):
    given(OPENAI_BASE_URL="http://localhost:11434/v1")

    settings = settings_of()

    assert settings.uses_mock
    assert settings.address_without_key == ("OPENAI_BASE_URL", "OPENAI_API_KEY")


@pytest.mark.parametrize("variable", ["OLLAMA_BASE_URL", "ANTHROPIC_BASE_URL", "AZURE_OPENAI_ENDPOINT"])
def test_a_wrong_address_is_told_whether_it_is_used_or_not(given, variable):
    given(**{variable: "box:11434"})

    assert refusal("") == [f"{variable}: must begin with http:// or https://"]


# Azure and Amazon


@pytest.mark.parametrize(
    "endpoint",
    ["https://a.openai.azure.com", "https://a.openai.azure.com/openai", "https://a.openai.azure.com/openai/v1/"],
)
def test_azure_has_its_v1_address_unless_a_dated_version_is_given(given, endpoint):
    given(AZURE_OPENAI_API_KEY="k", AZURE_OPENAI_ENDPOINT=endpoint)
    latest = providers()["azure"]
    given(OPENAI_API_VERSION="2024-10-21")
    dated = providers()["azure"]

    assert (latest.base_url, latest.deployments) == ("https://a.openai.azure.com/openai/v1", False)
    assert "responses" in latest.dialects
    assert (dated.base_url, dated.deployments) == ("https://a.openai.azure.com/openai", True)
    assert dated.api_version == "2024-10-21"
    assert "responses" not in dated.dialects
    assert dated.key_header == latest.key_header == "api-key"


def test_azures_preview_is_a_version_of_its_v1_address(given):
    given(AZURE_OPENAI_API_KEY="k", AZURE_OPENAI_ENDPOINT="https://a.openai.azure.com", OPENAI_API_VERSION="preview")

    provider = providers()["azure"]

    assert (provider.base_url, provider.api_version) == ("https://a.openai.azure.com/openai/v1", "preview")


def test_azure_needs_an_address(given):
    given(AZURE_OPENAI_API_KEY="k")

    assert refusal("") == ["AI_PROXY_PROVIDERS__AZURE__BASE_URL: is missing: set AZURE_OPENAI_ENDPOINT"]


def test_bedrock_takes_its_region_from_the_file_or_from_amazons_variables(given):
    given(AWS_BEARER_TOKEN_BEDROCK="k")

    assert refusal("") == ["AI_PROXY_PROVIDERS__BEDROCK__REGION: is missing: set AWS_REGION"]
    given(AWS_DEFAULT_REGION="eu-central-1")
    assert providers()["bedrock"].base_url == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    given(AWS_REGION="eu-west-1")
    assert providers()["bedrock"].region == "eu-west-1"
    in_file = providers("[providers.bedrock]\nregion = 'us-east-1'\n")["bedrock"]
    assert in_file.base_url == "https://bedrock-runtime.us-east-1.amazonaws.com"


def test_bedrock_in_the_file_does_without_a_key():
    assert providers("[providers.bedrock]\nregion = 'us-east-1'\n")["bedrock"].api_keys == ()


def test_a_region_cannot_smuggle_in_another_host(given):
    given(AWS_BEARER_TOKEN_BEDROCK="k", AWS_REGION="evil.example/")

    assert "AWS_REGION: is not a region" in refusal("")


# The file


def test_the_file_comes_first_and_takes_nothing_away(given):
    given(OPENAI_API_KEY="a", GROQ_API_KEY="b")

    assert list(providers("[providers.ollama]\n[providers.groq]\n")) == ["ollama", "groq", "openai"]


def test_a_provider_can_be_kept_out(given):
    given(OPENAI_API_KEY="a", GROQ_API_KEY="b")

    assert list(providers("[providers.openai]\nenabled = false\n")) == ["groq"]


def test_the_file_comes_before_the_usual_variables(given):
    given(OPENAI_API_KEY="usual", OPENAI_BASE_URL="http://usual.example/v1", MINE="mine")

    provider = providers("[providers.openai]\napi_keys = 'env:MINE'\nbase_url = 'http://mine.example/v1'\n")["openai"]

    assert (keys(provider), provider.base_url) == (["mine"], "http://mine.example/v1")


def test_our_own_variables_come_before_the_file(given):
    given(OPENAI_API_KEY="a", AI_PROXY_PROVIDERS__OPENAI__DEFAULT_MODEL="b", AI_PROXY_PROVIDERS__OPENAI__API_KEYS="c")

    provider = providers("[providers.openai]\ndefault_model = 'd'\napi_keys = ['e', 'f']\nmodels = ['g']\n")["openai"]

    assert (provider.default_model, keys(provider), provider.models) == ("b", ["c"], ("g",))


def test_what_the_operator_says_replaces_what_the_preset_says(given):
    given(OPENAI_API_KEY="a", AI_PROXY_UPSTREAM__IDLE_TIMEOUT=7, AI_PROXY_UPSTREAM__MAX_CONNECTIONS=9)

    found = providers(
        "[providers.openai]\ndialects = ['responses']\ntotal_timeout = 30\nmax_connections = 5\n[providers.ollama]\n"
    )

    assert found["openai"].dialects == {"chat", "responses"}
    assert (found["openai"].limits.total, found["openai"].limits.idle, found["openai"].max_connections) == (30, 7, 5)
    assert (found["ollama"].limits.total, found["ollama"].limits.idle, found["ollama"].max_connections) == (600, 7, 9)


def test_a_server_that_is_known_by_its_address_alone_speaks_chat():
    provider = providers("[providers.gpu]\nbase_url = 'http://gpu.example:9000/v1/'\n")["gpu"]

    assert (provider.preset, provider.kind, provider.base_url) == ("", "openai", "http://gpu.example:9000/v1")
    assert provider.dialects == {"chat", "completions", "embeddings"}
    assert (provider.api_keys, provider.default_model) == ((), "")


def test_a_second_account_has_a_name_of_its_own(given):
    given(OPENAI_API_KEY="a", WORK="b")

    found = providers("[providers.work]\npreset = 'openai'\napi_keys = 'env:WORK'\n")

    assert {name: keys(provider) for name, provider in found.items()} == {"work": ["b"], "openai": ["a"]}
    assert found["work"].dialects == EVERY_OPENAI


# Addresses that are not the preset's own


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_at_the_presets_own_address_all_that_the_preset_says_holds(given, url):
    given(OPENAI_API_KEY="a", OPENAI_BASE_URL=url)

    assert providers()["openai"].dialects == EVERY_OPENAI


@pytest.mark.parametrize("url", ["http://localhost:1234/v1", "https://api.openai.com.evil.example/v1"])
def test_elsewhere_no_more_than_the_format_is_taken_for_granted(given, url):
    given(OPENAI_API_KEY="a", OPENAI_BASE_URL=url)

    assert providers()["openai"].dialects == {"chat", "completions", "embeddings"}


def test_the_usual_key_is_not_sent_to_a_stranger(given):
    given(OPENAI_API_KEY="canary", ANTHROPIC_API_KEY="canary")

    found = providers(
        "[providers.one]\npreset = 'openai'\nbase_url = 'https://one.example/v1'\n"
        "[providers.two]\npreset = 'anthropic'\nbase_url = 'https://two.example'\n"
    )

    assert found["one"].api_keys == found["two"].api_keys == ()


# Keys


def test_keys_come_from_variables_from_files_and_as_they_stand(given, tmp_path):
    (tmp_path / "key").write_text("from-a-file\n")
    given(MINE="from-a-variable")

    provider = providers(f"[providers.openai]\napi_keys = ['env:MINE', 'file:{tmp_path}/key', 'as-it-stands']\n")[
        "openai"
    ]

    assert keys(provider) == ["from-a-variable", "from-a-file", "as-it-stands"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("env:NOWHERE", "the variable NOWHERE is not set"),
        ("env:", "the variable (no name) is not set"),
        ("$OPENAI_API_KEY", "is a variable as a shell names it: write env:NAME"),
        ("${OPENAI_API_KEY}", "is a variable as a shell names it: write env:NAME"),
        ("file:nowhere", "the file nowhere cannot be read: No such file or directory"),
        ("file:empty", "the file empty is empty"),
        ("file:binary", "the file binary is not text"),
        ("file:broken", "has characters that cannot be sent in a header"),
        ("canary\tcanary", "has characters that cannot be sent in a header"),
        (" canary", "has characters that cannot be sent in a header"),
    ],
)
def test_a_key_that_cannot_be_had_is_told_without_a_word_of_it(key, reason):
    Path("empty").write_text(" \n")
    Path("broken").write_text("canary\ncanary")
    Path("binary").write_bytes(b"\xff\xfe")

    [line] = refusal(f"[providers.openai]\n\napi_keys = {[key]!r}\n".replace("'", '"'))

    assert line.startswith(f"ai-proxy.toml:3: providers.openai.api_keys: {reason}")
    assert "canary" not in line


def test_a_variable_with_a_wrong_key_is_named_itself(given):
    given(MINE="canary\ncanary")

    [line] = refusal("[providers.openai]\napi_keys = 'env:MINE'\n")

    assert line.startswith("MINE: has characters that cannot be sent in a header")


def test_a_provider_of_the_file_needs_a_key_where_others_would():
    assert refusal("[providers.openai]\n") == [
        "ai-proxy.toml:1: providers.openai.api_keys: is missing: set OPENAI_API_KEY"
    ]


def test_in_mock_mode_keys_are_not_read_and_the_models_are_the_mocks(given):
    given(MOCK_MODE="true")

    settings = settings_of(
        "[providers.openai]\napi_keys = 'env:NOWHERE'\n"
        "[models.fast]\ntargets = ['openai/a', 'groq/b']\naliases = ['x']\n"
    )

    assert list(settings.resolved_providers()) == ["mock"]
    assert [target.provider for target in settings.resolved_models()["fast"].targets] == ["mock"]
    assert settings.resolved_models()["fast"].aliases == ("x",)


def test_keys_are_not_shown_with_a_provider(given):
    given(OPENAI_API_KEY="canary")

    assert "canary" not in repr(providers())


# What does not fit together


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[providers.foo]\n", "ai-proxy.toml:1: providers.foo: is no preset's name, so preset or base_url must be set"),
        (
            "[providers.foo]\npreset = 'bar'\n",
            "ai-proxy.toml:2: providers.foo.preset: there is no such preset, only openai,",
        ),
        ("[providers.OpenAI]\n", "ai-proxy.toml:1: providers.OpenAI: is no name for a provider: small letters,"),
        ("[providers.'a/b']\nbase_url = 'http://x'\n", "ai-proxy.toml:1: providers.a/b: is no name for a provider"),
        (
            "[providers.gemini]\napi_keys = 'k'\ndialects = ['responses']\n",
            "ai-proxy.toml:3: providers.gemini.dialects: no provider of this kind takes responses as it is",
        ),
        (
            "[models.a]\ntargets = ['foo/x']\n",
            "ai-proxy.toml:2: models.a.targets.1: there is no provider 'foo', only the mock",
        ),
        (
            "[models.a]\ntargets = ['groq/x']\n",
            "ai-proxy.toml:2: models.a.targets.1: the provider 'groq' is not set up: set GROQ_API_KEY, or add [prov",
        ),
        (
            "[providers.ollama]\nenabled = false\n[models.a]\ntargets = ['ollama/x']\n",
            "ai-proxy.toml:4: models.a.targets.1: the provider 'ollama' is switched off",
        ),
        (
            "[providers.ollama]\n[models.a]\ntargets = ['ollama/x']\non_content_filter = 'b'\n",
            "ai-proxy.toml:4: models.a.on_content_filter: there is no model 'b'",
        ),
        (
            "[providers.ollama]\n[models.a]\ntargets = ['ollama/x']\naliases = ['b']\n"
            "[models.b]\ntargets = ['ollama/x']\n",
            "ai-proxy.toml:4: models.a.aliases: 'b' is already a name of the model 'b'",
        ),
        (
            "[providers.ollama]\n[models.a]\ntargets = ['ollama/x']\naliases = ['a']\n",
            "ai-proxy.toml:4: models.a.aliases: 'a' is already a name of the model 'a'",
        ),
        (
            "[providers.ollama]\n[models.'']\ntargets = ['ollama/x']\n",
            "ai-proxy.toml:2: models.: a model must have a name",
        ),
        (
            "[providers.vllm]\n",
            "ai-proxy.toml:1: providers.vllm.base_url: http://127.0.0.1:8000/v1 is the address of this service itself",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(text, line):
    [told] = refusal(text)

    assert told.startswith(line)


def test_every_problem_has_its_line():
    assert len(refusal("[providers.openai]\n[providers.groq]\n[providers.foo]\n")) == 3


def test_models_may_name_each_other_and_a_provider_after_a_slash():
    settings = settings_of(
        "[providers.ollama]\n"
        "[models.a]\ntargets = ['ollama/x']\non_context_length = 'b'\non_content_filter = 'ollama/y'\n"
        "[models.b]\ntargets = ['ollama/y']\non_context_length = 'also-a'\n[models.c]\ntargets = ['ollama/z']\n"
        "aliases = ['also-a']\n"
    )

    assert list(settings.resolved_models()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("host", "url", "is_own"),
    [
        ("127.0.0.1", "http://localhost:8000/v1", True),
        ("0.0.0.0", "http://127.0.0.1:8000/v1", True),  # noqa: S104
        ("::", "http://[::1]:8000/v1", True),
        ("gateway.example", "http://gateway.example:8000/v1", True),
        ("gateway.example", "http://localhost:8000/v1", False),
        ("127.0.0.1", "http://localhost:8001/v1", False),
        ("127.0.0.1", "http://other.example:8000/v1", False),
    ],
)
def test_a_provider_at_the_services_own_address_is_refused(given, host, url, is_own):
    given(HOST=host, OPENAI_API_KEY="a", OPENAI_BASE_URL=url)

    if is_own:
        assert "is the address of this service itself" in refusal("")[0]
    else:
        assert "openai" in providers()
