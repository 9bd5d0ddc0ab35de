"""A home directory for each test, with the settings that docs/clients.md shows."""

import pytest
import snippets


@pytest.fixture
def home(tmp_path, url, key):
    for section, file in {"Codex": ".codex/config.toml", "Continue": ".continue/config.yaml"}.items():
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(snippets.settings(section, url, key))
    return tmp_path
