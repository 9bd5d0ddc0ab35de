"""The tables of providers and models, before anything is known of presets and keys."""

import pytest
from pydantic import SecretStr, ValidationError

from ai_proxy.core.catalog import ModelSettings, ProviderSettings, TargetSettings


def wrong(table, **fields) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        table(**fields)
    return [error["msg"].removeprefix("Value error, ") for error in raised.value.errors()]


def test_a_target_can_be_written_as_one_word():
    model = ModelSettings(targets=["openai/gpt-4o", {"provider": "groq", "model": "llama", "weight": 2}])

    assert model.targets == (
        TargetSettings(provider="openai", model="gpt-4o"),
        TargetSettings(provider="groq", model="llama", weight=2),
    )


def test_the_provider_ends_at_the_first_slash():
    [target] = ModelSettings(targets=["openrouter/openai/gpt-4o"]).targets

    assert (target.provider, target.model) == ("openrouter", "openai/gpt-4o")


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ([], "there must be one at least"),
        (["gpt-4o"], "must be 'provider/model'"),
        (["/gpt-4o"], "at least 1 character"),
        (["openai/"], "at least 1 character"),
        ([7], "valid dictionary"),
        (["openai/a", {"provider": "openai", "model": "a"}], "each target may be named once"),
        ([{"provider": "openai", "model": "a", "weight": 0}], "greater than 0"),
        ([{"provider": "openai", "model": "a", "wieght": 1}], "not permitted"),
        ([{"provider": "openai", "model": "a", "price": {"input": -1, "output": 1}}], "greater than or equal to 0"),
    ],
)
def test_a_wrong_target_is_told_once(targets, reason):
    [told] = wrong(ModelSettings, targets=targets)

    assert reason in told


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"strategy": "fastest"}, "'order', 'weighted', 'least-latency' or 'least-cost'"),
        ({"retries": -1}, "greater than or equal to 0"),
        ({"max_attempts": 0}, "greater than or equal to 1"),
        ({"total_timeout": 0}, "greater than 0"),
        ({"aliases": "one"}, "valid tuple"),
    ],
)
def test_a_wrong_key_of_a_model_is_told(fields, reason):
    [told] = wrong(ModelSettings, targets=["a/b"], **fields)

    assert reason in told


def test_one_key_is_a_list_of_one():
    assert ProviderSettings(api_keys="sk-1").api_keys == (SecretStr("sk-1"),)
    assert ProviderSettings(api_keys=["sk-1", "sk-2"]).api_keys == (SecretStr("sk-1"), SecretStr("sk-2"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"base_url": "localhost:8000"}, "must begin with http:// or https://"),
        ({"base_url": "http://user:pass@host"}, "must not hold a name or a password"),
        ({"dialects": ["chat", "smalltalk"]}, "'responses'"),
        ({"max_connections": 0}, "greater than or equal to 1"),
        ({"region": "eu west"}, "should match pattern"),
        ({"api_version": "1&x=2"}, "should match pattern"),
        ({"models": [""]}, "at least 1 character"),
        ({"idle_timeout": -1}, "greater than 0"),
        ({"api_key": "sk-1"}, "not permitted"),
    ],
)
def test_a_wrong_key_of_a_provider_is_told(fields, reason):
    [told] = wrong(ProviderSettings, **fields)

    assert reason in told


def test_keys_are_not_shown_with_the_table():
    settings = ProviderSettings(api_keys=["canary-1"])

    assert "canary" not in f"{settings!r} {settings.model_dump()}"
