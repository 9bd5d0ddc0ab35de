"""`ai-proxy keys …`, where a process of its own would show no more."""

import json
import re
import sqlite3
import threading
import time
from contextlib import closing

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


def test_a_key_is_made_and_listed_with_whose_it_is_and_what_it_may_do(said):
    said("users", "create", "eve", "--role", "viewer", "--generate")

    made = said("keys", "create", "reports of Eve", "--user", "eve")
    narrow = said("keys", "create", "narrow", "--scope", "calls", "--model", "gpt-*", "--model", "o3")

    code, text = said("keys", "list")
    assert (made[0], narrow[0], code) == (0, 0, 0)
    assert re.fullmatch(r"id:  \S+\nkey: \S+\nuser: eve\nscopes: history\nKeep it: .+\n", made[1])
    assert [re.split(" {2,}", line)[3:] for line in text.splitlines()] == [
        ["active", "eve", "-", "history", "*", "reports of Eve"],
        ["active", "operator", "-", "calls", "gpt-*,o3", "narrow"],
    ]


def test_times_for_programs_are_as_in_the_api(said):
    said("keys", "create", "x", "--expires", "30d")
    said("projects", "create", "search")

    for group, field in (("keys", "expires_at"), ("audit", "created_at"), ("projects", "created_at")):
        (newest, *_) = json.loads(said(group, "list", "--json")[1])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", newest[field])


def test_revoking_what_is_not_there_is_one_line(said):
    assert said("keys", "revoke", "nonsense") == (
        1,
        "ai-proxy: There is no active key with the id nonsense: see 'ai-proxy keys list'.\n",
    )


def test_a_name_that_cannot_be_listed_is_one_line(said):
    assert said("keys", "create", "red \x1b[31m") == (
        1,
        "ai-proxy: A key's name has 1 to 200 printable characters.\n",
    )


@pytest.mark.parametrize("verb", ["keys list", "keys create x", "db upgrade", "db current"])
def test_a_database_that_cannot_be_used_is_one_line(said, tmp_path, verb):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.db").write_bytes(bytes(range(256)) * 64)

    code, text = said(*verb.split())

    assert code == 1
    assert text.startswith("ai-proxy: DATABASE_URL: the database cannot be used: ")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("verb", ["keys create x", "db upgrade"])
def test_a_lock_that_lasts_longer_than_one_try_is_waited_for(said, tmp_path, verb):
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "x.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("pragma journal_mode = wal")
        other.execute("begin immediate")
        release = threading.Timer(2.3, other.execute, ["rollback"])
        release.start()
        began = time.monotonic()

        code, text = said(*verb.split())

        release.join()
    assert code == 0, text
    assert time.monotonic() - began > 2.2


def test_a_wrong_setting_is_one_line(said, monkeypatch):
    monkeypatch.setenv("AI_PROXY_SERVER__KEEP_ALIVE", "0")

    code, text = said("keys", "list")

    assert code == 1
    assert text == "ai-proxy: AI_PROXY_SERVER__KEEP_ALIVE: Input should be greater than or equal to 1\n"
