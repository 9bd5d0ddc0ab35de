"""`ai-proxy users …`, where a process of its own would show no more."""

import json
import re

import pytest
from typer.testing import CliRunner

from ai_proxy.cli import app

PASSWORD = "correct horse battery"


@pytest.fixture
def said(tmp_path, bare_environment):
    """What the command says, with a database in a directory of the test's own."""

    def said(*words: str, typed: str = "") -> tuple[int, str]:
        environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/data/x.db"}
        result = CliRunner(env=environment).invoke(app, ["users", *words], input=typed)
        return result.exit_code, result.output

    return said


def listed(said) -> dict[str, dict]:
    return {user["name"]: user for user in json.loads(said("list", "--json")[1])}


def test_only_the_operator_is_there_at_first(said):
    code, text = said("list")

    assert code == 0
    assert re.fullmatch(r"\S{36}  admin   no password  [\d-]+ [\d:]+  operator\n", text)


def test_a_user_is_made_with_a_password_from_stdin(said):
    code, text = said("create", "Alice", "--admin", "--password-stdin", typed=f"{PASSWORD}\n")

    assert (code, text.splitlines()[1]) == (0, "alice is an admin.")
    assert PASSWORD not in text
    assert listed(said)["alice"] | {"id": "", "created_at": ""} == {
        "id": "",
        "name": "alice",
        "role": "admin",
        "disabled": False,
        "has_password": True,
        "created_at": "",
    }


def test_a_password_is_made_up_and_shown_once(said):
    code, text = said("create", "bob", "--generate")

    assert code == 0
    assert re.search(r"^password: \S{24}$", text, re.MULTILINE)
    assert listed(said)["bob"]["has_password"]


def test_a_user_can_have_no_password(said):
    assert said("create", "bob", "--no-password")[0] == 0
    assert not listed(said)["bob"]["has_password"]


@pytest.mark.parametrize(
    ("words", "typed", "message"),
    [
        (["create", "bob"], "", "there is no terminal to ask for the password: pass --password-stdin or --generate"),
        (["create", "bob", "--password-stdin"], "short\n", "A password has 12 to 1024 characters: take several words."),
        (["create", "bob", "--role", "king"], "", "--role: 'king' is none of admin, member, viewer"),
        (["create", "operator", "--no-password"], "", "There is a user of this name already."),
        (["create", "red \x1b[31m", "--no-password"], "", "A user's name has 1 to 200 printable characters."),
        (["role", "operator", "boss"], "", "ROLE: 'boss' is none of admin, member, viewer"),
        (["role", "nobody", "viewer"], "", "There is no user 'nobody': see 'ai-proxy users list'."),
        (["password", "nobody", "--generate"], "", "There is no user 'nobody': see 'ai-proxy users list'."),
        (
            ["disable", "operator"],
            "",
            "The operator is built in: it has no password, and neither role nor state change.",
        ),
    ],
)
def test_a_mistake_is_one_line(said, words, typed, message):
    assert said(*words, typed=typed) == (1, f"ai-proxy: {message}\n")


def test_role_state_and_password_change(said):
    said("create", "bob", "--no-password")

    assert said("role", "bob", "viewer") == (0, "bob is a viewer.\n")
    assert said("disable", "BOB") == (0, "Disabled.\n")
    assert (listed(said)["bob"]["role"], listed(said)["bob"]["disabled"]) == ("viewer", True)
    assert said("enable", "bob") == (0, "Enabled.\n")
    assert said("password", "bob", "--password-stdin", typed=PASSWORD) == (0, "The password is changed.\n")
    assert "password: " in said("password", "bob", "--generate")[1]
    assert (listed(said)["bob"]["disabled"], listed(said)["bob"]["has_password"]) == (False, True)


def test_the_last_administrator_stays(said):
    said("create", "alice", "--admin", "--generate")

    code, text = said("disable", "alice")

    assert (code, text) == (1, "ai-proxy: This is the last administrator who can sign in: make another one first.\n")


def test_the_list_shows_states(said):
    said("create", "alice", "--generate")
    said("create", "bob", "--generate")
    said("disable", "bob")

    states = re.findall(r"  (active|disabled|no password) +", said("list")[1])

    assert states == ["no password", "active", "disabled"]


def test_a_name_that_is_no_text_is_refused_in_one_line(said):
    code, text = said("disable", "\udcff")

    assert (code, text) == (1, "ai-proxy: what was typed is no text in UTF-8\n")
