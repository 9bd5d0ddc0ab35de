"""`ai-proxy limits …` and `ai-proxy budgets …`."""

import json
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from ai_proxy.cli import app
from ai_proxy.core.types import OPERATOR_ID

OPERATOR = f"user:{OPERATOR_ID}"


@pytest.fixture
def said(tmp_path, bare_environment):
    """What the command says, with a database in a directory of the test's own."""

    def said(*words: str) -> tuple[int, str]:
        result = CliRunner(env={"DATABASE_URL": f"sqlite:///{tmp_path}/data/x.db"}).invoke(app, words)
        return result.exit_code, result.output

    return said


def in_database(tmp_path, statement: str, *values) -> list:
    with closing(sqlite3.connect(tmp_path / "data" / "x.db")) as database, database:
        return database.execute(statement, values).fetchall()


def test_there_are_none_before_the_first(said):
    for group in ("limits", "budgets"):
        assert said(group, "list") == (0, "")
        assert said(group, "list", "--json") == (0, "[]\n")


def test_limits_are_set_one_by_one_and_listed(said):
    said("limits", "set", "user:operator", "--requests", "60", "--tokens", "100000")
    code, text = said("limits", "set", "user:operator", "--tokens", "0", "--concurrent", "5")

    assert (code, text) == (0, "user:operator: 60 requests/min, 5 at one time\n")
    assert said("limits", "list") == (0, f"{OPERATOR:44}  60 requests/min, 5 at one time  operator\n")
    assert json.loads(said("limits", "list", "--json")[1]) == [
        {
            "subject": OPERATOR,
            "requests_per_minute": 60,
            "tokens_per_minute": None,
            "concurrent": 5,
            "name": "operator",
        }
    ]


def test_a_limit_is_removed_once(said):
    said("limits", "set", "service", "--concurrent", "5")

    assert said("limits", "remove", "service") == (0, "service has no limit any more.\n")
    assert said("limits", "list") == (0, "")
    assert said("limits", "remove", "service") == (1, "ai-proxy: There is no limit to remove.\n")


def test_a_budget_is_listed_with_what_is_spent(said, tmp_path):
    code, text = said("budgets", "set", "user:operator", "total", "2.5", "--alert", "80", "--alert", "50")
    in_database(
        tmp_path,
        "insert into daily_usage values ('2026-11-01', 'k', ?, '', 'openai', 'm', 1, 0, 0, 0, 0, 0, 0, 0, 0, 7.5e8)",
        OPERATOR_ID,
    )

    assert (code, text) == (0, "user:operator may spend 2.50 USD (total).\n")
    assert said("budgets", "list") == (0, f"{OPERATOR:44}  total  0.75 of 2.50 USD  operator\n")
    assert json.loads(said("budgets", "list", "--json")[1]) == [
        {
            "subject": OPERATOR,
            "name": "operator",
            "period": "total",
            "amount_usd": "2.50",
            "alerts": [50, 80],
            "spent_usd": "0.75",
            "remaining_usd": "1.75",
        }
    ]


@pytest.mark.parametrize(("options", "alerts"), [([], [80, 100]), (["--alert", "0"], []), (["--alert", "1"], [1])])
def test_a_budget_tells_at_80_and_100_per_cent_unless_it_is_told_otherwise(said, options, alerts):
    said("budgets", "set", "service", "day", "1", *options)

    assert json.loads(said("budgets", "list", "--json")[1])[0]["alerts"] == alerts


def test_a_budget_is_removed_once(said):
    said("budgets", "set", "service", "day", "1")

    assert said("budgets", "remove", "service", "week") == (1, "ai-proxy: There is no budget to remove.\n")
    assert said("budgets", "remove", "service", "day") == (0, "service has no budget any more (day).\n")
    assert said("budgets", "list") == (0, "")


def test_changes_are_audited_as_those_of_the_command_line(said, tmp_path):
    said("limits", "set", "service", "--concurrent", "5")
    said("budgets", "set", "service", "day", "1")

    found = in_database(tmp_path, "select actor, action, target from audit order by id")
    assert found == [("command line", "limit.set", "service"), ("command line", "budget.set", "service")]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("limits set user:zoe --requests 1", "There is no user zoe: see 'ai-proxy users list'."),
        ("limits set zoe --requests 1", "zoe: write key:ID, user:NAME, project:NAME or service."),
        ("budgets set project:x day 1", "There is no project x: see 'ai-proxy projects list'."),
        ("budgets set service day 0", "AMOUNT: must be more than 0 and at most 1,000,000,000 US dollars."),
        ("budgets set service day 1 --alert 101", "--alert: must be at most 5 numbers of 1 to 100 per cent."),
        ("budgets set service year 1", "PERIOD: 'year' is none of day, week, month, total"),
        ("budgets remove service year", "PERIOD: 'year' is none of day, week, month, total"),
    ],
)
def test_what_cannot_be_is_one_line(said, words, text):
    assert said(*words.split()) == (1, f"ai-proxy: {text}\n")


@pytest.mark.parametrize(
    "words",
    [
        "limits set service",
        "limits set service --requests 1000000001",
        "limits set service --requests -1",
        "budgets set service day five",
    ],
)
def test_what_it_does_not_understand_is_a_usage_error(said, words):
    code, text = said(*words.split())

    assert code == 2
    assert "Usage: " in text
