"""`ai-proxy projects …`, and the keys that belong to users and projects."""

import json
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


def test_a_project_is_made_listed_and_archived(said):
    code, _ = said("projects", "create", "search")
    archived = said("projects", "archive", "search")

    [project] = json.loads(said("projects", "list", "--json")[1])
    assert (code, archived) == (0, (0, "Archived.\n"))
    assert project["name"] == "search"
    assert project["archived_at"] is not None
    assert re.search(r"archived \S+ \S+ +search$", said("projects", "list")[1], re.MULTILINE)


def test_how_a_project_s_history_is_kept_is_set_and_noted(said):
    said("projects", "create", "search")

    answers = [
        said("projects", "set", "search", "--retention-days", "30", "--no-texts"),
        said("projects", "set", "search", "--retention-days", "default"),
    ]

    [project] = json.loads(said("projects", "list", "--json")[1])
    entries = [entry["details"] for entry in json.loads(said("audit", "list", "--json")[1])]
    assert answers == [(0, "Set.\n")] * 2
    assert (project["retention_days"], project["keep_texts"]) == (None, False)
    assert {"before": {"retention_days": 30}, "after": {"retention_days": None}} in entries


@pytest.mark.parametrize("options", [(), ("--retention-days", "0"), ("--retention-days", "a week")])
def test_what_cannot_be_kept_so_long_is_one_line(said, options):
    said("projects", "create", "search")

    code, text = said("projects", "set", "search", *options)

    assert code == 1
    assert text.startswith("ai-proxy: ")
    assert text.count("\n") == 1


def test_what_is_not_there_is_one_line(said):
    assert said("projects", "archive", "search") == (
        1,
        "ai-proxy: There is no project 'search': see 'ai-proxy projects list'.\n",
    )
    assert said("keys", "create", "x", "--user", "ada")[0] == 1


def test_a_key_has_what_its_options_say(said):
    said("projects", "create", "search")
    options = ("--project", "search", "--scope", "calls", "--model", "gpt-*", "--label", "env=prod", "--expires", "30d")

    code, text = said("keys", "create", "indexer", *options)

    [key] = json.loads(said("keys", "list", "--json")[1])
    assert code == 0, text
    assert "user: operator\nproject: search\nscopes: calls\n" in text
    assert re.search(r"  operator  search  calls  gpt-\*  indexer$", said("keys", "list")[1], re.MULTILINE)
    assert (key["project"], key["scopes"], key["models"]) == ("search", ["calls"], ["gpt-*"])
    assert key["labels"] == {"env": "prod"}
    assert key["expires_at"] > key["created_at"]


def test_a_key_is_changed_and_rotated(said):
    key_id, first = re.findall(r"(?:id|key): +(\S+)", said("keys", "create", "x", "--model", "a")[1])

    changed = said("keys", "change", key_id, "--name", "y", "--model", "*")
    rotated = said("keys", "rotate", key_id, "--overlap", "1h")

    [key] = json.loads(said("keys", "list", "--json")[1])
    assert (changed, rotated[0]) == ((0, "Changed.\n"), 0)
    assert first not in rotated[1]
    assert (key["id"], key["name"], key["models"]) == (key_id, "y", None)
    assert key["former_until"] is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "x", "--scope", "all"), "--scope: 'all' is none: they are calls, history and manage."),
        (("create", "x", "--expires", "2020-01-01"), "--expires: must be in the future."),
        (("rotate", "x", "--overlap", "31d"), "--overlap: 0 to 2592000 seconds."),
    ],
)
def test_a_mistake_is_one_line_in_the_words_of_the_command_line(said, words, message):
    assert said("keys", *words) == (1, f"ai-proxy: {message}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create", "x", "--expires", "soon"),
        ("keys", "create", "x", "--expires", "2020-01-01"),
        ("keys", "create", "x", "--label", "nothing"),
        ("keys", "create", "x", "--scope", "everything"),
        ("keys", "rotate", "x", "--overlap", "long"),
        ("keys", "rotate", "x", "--overlap", "31d"),
        ("keys", "change", "x"),
    ],
)
def test_what_cannot_be_is_refused(said, words):
    code, text = said(*words)

    assert code != 0
    assert "Traceback" not in text
    assert said("keys", "list") == (0, "")
