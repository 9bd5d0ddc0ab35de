"""`ai-proxy usage` and `ai-proxy audit …`."""

import asyncio
import csv
import json
import time

import pytest
from typer.testing import CliRunner

from ai_proxy.cli import app
from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import COMMAND_LINE, Actor, Exchange, Usage
from ai_proxy.services import audit
from ai_proxy.storage import keys, records, schema
from ai_proxy.storage.engine import Database

STRANGER = Actor(user_id="x", name="red \x1b[31m", role="member", address="192.0.2.1")


@pytest.fixture
def said(tmp_path, bare_environment):
    """What the command says, with a database in a directory of the test's own."""

    def said(*words: str) -> tuple[int, str]:
        result = CliRunner(env={"DATABASE_URL": f"sqlite:///{tmp_path}/data/x.db"}).invoke(app, words)
        return result.exit_code, result.output

    return said


@pytest.fixture
def called(tmp_path):
    """Write calls, today, with these models; and an entry of the audit log."""

    async def write(models: tuple[str, ...]) -> None:
        async with Database(f"sqlite+aiosqlite:///{tmp_path}/data/x.db", directory=tmp_path / "data") as database:
            await schema.upgrade(database)
            await keys.add(database, key_id="k", name="laptop", digest="d", hint="h", created_at=1)
            await records.add(database, [_call(model) for model in models])
            async with database.changing() as connection:
                await audit.note(connection, COMMAND_LINE, "key.create", "key:k", name="laptop")
                await audit.note(connection, STRANGER, "login.failed", "user:x")

    return lambda *models: asyncio.run(write(models))


def _call(model: str) -> Exchange:
    given = {"key_id": "k", "question": "q", "model": model, "provider": "p", "conversation_id": None}
    at = time.time_ns() // 1000
    return Exchange(id=uuid7(), created_at=at, started=0.0, usage=Usage(10, 5), cost=2_000_000_000, **given)


def test_before_the_first_call_there_is_a_heading_and_a_total(said):
    code, text = said("usage")

    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == ["day", "total"]


def test_the_table_has_names_in_place_of_identifiers_and_a_total(said, called):
    called("small", "small", "big")

    code, text = said("usage", "--by", "key,model")

    assert code == 0
    assert [line.split() for line in text.splitlines()] == [
        ["key", "model", "calls", "failed", "cached", "unpriced", "input_tokens", "output_tokens", "cost_usd"],
        ["laptop", "big", "1", "0", "0", "0", "10", "5", "2.00"],
        ["laptop", "small", "2", "0", "0", "0", "20", "10", "4.00"],
        ["total", "3", "0", "0", "0", "30", "15", "6.00"],
    ]


def test_as_json_it_is_what_the_api_gives(said, called):
    called("small")

    found = json.loads(said("usage", "--by", "model", "--json")[1])

    assert set(found) == {"from", "to", "items", "total"}
    assert (found["items"][0]["model"], found["items"][0]["cost_usd"]) == ("small", "2.00")


def test_as_csv_no_cell_is_a_formula_and_the_audit_log_tells_of_it(said, called):
    called("=cmd|'/c calc'!A0")

    (row,) = csv.DictReader(said("usage", "--by", "model", "--csv")[1].splitlines())

    assert (row["model"], row["calls"]) == ("'=cmd|'/c calc'!A0", "1")
    assert json.loads(said("audit", "list", "--json")[1])[0]["action"] == "usage.export"


def test_a_terminal_obeys_no_name(said, called):
    called("m\x1b[31m")

    assert "\x1b" not in said("usage", "--by", "model")[1]
    assert "\x1b" not in said("audit", "list")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from", "yesterday"), "--from: must be a day such as 2026-11-23."),
        (("--from", "2026-11-02", "--to", "2026-11-01"), "--from: must not be after to."),
        (("--by", "colour"), "--by: one or more of day, key, user, project, provider, model, with commas"),
    ],
)
def test_what_cannot_be_asked_is_one_line(said, words, message):
    code, text = said("usage", *words)

    assert code == 1
    assert text.startswith(f"ai-proxy: {message}")
    assert len(text.splitlines()) == 1


def test_the_audit_log_is_listed_newest_first(said, called):
    called("small")

    code, text = said("audit", "list")

    assert code == 0
    assert [line.split("  ")[1] for line in text.splitlines()] == ["login.failed", "key.create"]
    assert text.endswith('key:k  {"name": "laptop"}\n')


def test_entries_are_found_by_action_actor_and_target(said, called):
    called("small")

    def found(*words: str) -> list[str]:
        return [entry["action"] for entry in json.loads(said("audit", "list", "--json", *words)[1])]

    assert found("--action", "key.create") == ["key.create"]
    assert found("--actor", "command line") == ["key.create"]
    assert found("--target", "user:x") == ["login.failed"]
    assert found("--target", "nobody") == []
    assert found("--limit", "1") == ["login.failed"]
