"""The table of known providers: what every row must have, and that the documentation says the same."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ai_proxy.core import addresses
from ai_proxy.core.presets import PRESETS

ROWS = [pytest.param(name, preset, id=name) for name, preset in PRESETS.items() if preset.kind != "mock"]
DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def documented() -> dict[str, list[str]]:
    """The rows of the table of providers: what turns it on, the address, the first model."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*https?://.*) \|$", DOCS.read_text(), re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in rows}


def test_openai_is_the_first_choice_and_openrouter_the_second():
    assert list(PRESETS)[:2] == ["openai", "openrouter"]


@pytest.mark.parametrize(("name", "preset"), ROWS)
def test_an_address_can_be_one_and_ends_as_it_must(name, preset):
    if not preset.base_url:
        assert preset.base_url_variable, "nobody can say where it is"
        return

    address = preset.base_url.format(region="eu-west-1")

    assert addresses.checked(address) == address
    assert addresses.ending_with(address, preset.path) == address
    assert urlsplit(address).scheme == ("http" if preset.local else "https")


@pytest.mark.parametrize(("name", "preset"), ROWS)
def test_something_can_turn_it_on(name, preset):
    assert preset.local != bool(preset.key_variable)
    assert preset.docs.startswith("https://")
    assert preset.key_header in {"authorization", "x-api-key", "api-key", "x-goog-api-key"}


@pytest.mark.parametrize(("name", "preset"), ROWS)
def test_all_take_chat_and_only_the_openai_family_takes_more_than_its_own(name, preset):
    assert "chat" in preset.dialects
    if preset.kind != "openai":
        assert preset.dialects <= {"chat", "messages"}


def test_no_key_turns_on_two_providers():
    variables = [preset.key_variable for preset in PRESETS.values() if preset.by_key and preset.key_variable]

    assert len(set(variables)) == len(variables)


def test_no_two_providers_that_keys_turn_on_own_the_same_beginning_of_a_name():
    prefixes = [prefix for preset in PRESETS.values() if preset.by_key for prefix in preset.prefixes]

    assert len(set(prefixes)) == len(prefixes)


@pytest.mark.parametrize(("name", "preset"), ROWS)
def test_a_row_of_the_documentation_says_what_the_code_does(name, preset):
    on_by, address, first_model = documented()[name]

    assert set(re.findall(r"`(\w+)`", on_by + address)) == {preset.key_variable, preset.base_url_variable} - {None}
    assert ("*file*" in on_by) == (preset.local or not preset.by_key)
    assert not preset.base_url or f"`{preset.base_url}`" in address
    assert first_model.strip("`") == (preset.default_model or "(none)")


def test_the_documentation_has_no_row_too_many():
    assert list(documented()) == [name for name, preset in PRESETS.items() if preset.kind != "mock"]
