"""`ai-proxy keys …`, where a process of its own would show no more."""

import re

import pytest
from typer.testing import CliRunner

from ai_proxy.cli import app


@pytest.fixture
def said(tmp_path, bare_environment):
    """What the command says, with a database in a directory of the test's own."""

    def said(*words: str) -> tuple[int, str]:
        result = CliRunner(env={"DATABASE_URL": f"sqlite:///{tmp_path}/data/x.db"}).invoke(app, words)
        return result.exit_code, result.output

    return said


def test_there_are_no_keys_before_the_first(said):
    assert said("keys", "list") == (0, "")
    assert said("keys", "list", "--json") == (0, "[]\n")


def test_no_key_is_made_that_the_server_could_not_know(said, tmp_path):
    said("keys", "create", "before")
    (tmp_path / "data" / "secret").unlink()

    code, text = said("keys", "create", "after")

    assert code == 1
    assert text.startswith("ai-proxy: the secret that the other keys were made with is not here")
    assert not (tmp_path / "data" / "secret").exists()
    assert re.findall(r"\S+$", said("keys", "list")[1], re.MULTILINE) == ["before"]
