"""`ai-proxy history prune`: what is old goes, and what that concerns is told before."""

import asyncio

import pytest
import typer
from typer.testing import CliRunner

from ai_proxy.cli.prune import prune
from ai_proxy.core.ids import first_of
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services import projects
from ai_proxy.services.days import DAY
from ai_proxy.services.times import now
from ai_proxy.storage import keys, records, schema
from tests import stores

app = typer.Typer()
app.command()(prune)


@pytest.fixture
def store(tmp_path, bare_environment):
    """One exchange of 50 days ago, one of a project of 40 days ago, and one of today."""
    store = stores.in_file(tmp_path / "data")
    asyncio.run(_fill(store))
    return store


async def _fill(store) -> None:
    async with store.database() as database:
        await schema.upgrade(database)
        await keys.add(database, key_id="key", name="key", digest="d", hint="h", created_at=1)
        project = await projects.create(database, COMMAND_LINE, "search")
        ages = {50: None, 40: project.id, 0: None}
        rows = [stores.exchange(first_of(now() - days * DAY), project_id=ages[days]) for days in ages]
        await records.add(database, rows)


@pytest.fixture
def said(store):
    def said(*words: str, **settings) -> tuple[int, str]:
        result = CliRunner(env={"DATABASE_URL": store.url, **settings}).invoke(app, words)
        return result.exit_code, result.output

    return said


def left(store) -> tuple[int, int]:
    """How many exchanges there are, and how many of them have texts."""
    return store.query("select count(*), count(nullif(question, '')) from exchanges")[0]


@pytest.mark.parametrize(
    ("options", "answer", "after"),
    [
        (["--older-than", "30"], "Removed: 2. Without texts now: 0.\n", (1, 1)),
        (["--older-than", "45"], "Removed: 1. Without texts now: 0.\n", (2, 2)),
        (["--older-than", "30", "--texts"], "Removed: 0. Without texts now: 2.\n", (3, 1)),
        (["--older-than", "30", "--project", "search"], "Removed: 1. Without texts now: 0.\n", (2, 2)),
        (["--older-than", "30", "--dry-run"], "To be removed: 2. To lose their texts: 0.\n", (3, 3)),
        (["--older-than", "30", "--texts", "--dry-run"], "To be removed: 0. To lose their texts: 2.\n", (3, 3)),
        ([], "Removed: 0. Without texts now: 0.\n", (3, 3)),
    ],
)
def test_what_is_old_goes(said, store, options, answer, after):
    told = said(*options)

    assert told == (0, answer)
    assert left(store) == after


def test_a_project_may_be_called_by_its_id(said, store):
    [(project,)] = store.query("select id from projects")

    assert said("--older-than", "30", "--project", project) == (0, "Removed: 1. Without texts now: 0.\n")


def test_settings_say_what_is_old_when_nobody_else_does(said, store):
    told = said(AI_PROXY_RETENTION__DAYS="45", AI_PROXY_RETENTION__TEXT_DAYS="30")

    assert told == (0, "Removed: 1. Without texts now: 1.\n")
    assert left(store) == (2, 1)


@pytest.mark.parametrize("options", [["--texts"], ["--project", "search"], ["--older-than", "1", "--project", "other"]])
def test_what_cannot_be_meant_is_one_line(said, store, options):
    code, text = said(*options)

    assert code == 1
    assert text.startswith("ai-proxy: ")
    assert text.count("\n") == 1
    assert left(store) == (3, 3)
