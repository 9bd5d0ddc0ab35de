"""What a service keeps, for how long, and what is still known afterwards."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from tests.service import Service

_OLD = "0190a3c4-0000-7000-8000-000000000000"  # an identifier of July 2024


@pytest.fixture
def operator(start):
    """A client that administers a server of its own, with a key of the command line's."""
    service = start()
    done = service.run("keys", "create", "operator", "--scope", "manage", "--scope", "calls", "--scope", "history")
    with service.client_with(re.search(r"^key: (\S+)$", done.stdout, re.MULTILINE)[1]) as client:
        yield client


def execute(service: Service, statement: str, *values: str) -> list[tuple]:
    with closing(sqlite3.connect(service.directory / "data/ai-proxy.db", timeout=10, isolation_level=None)) as database:
        return database.execute(statement, values).fetchall()


def make_old(service: Service) -> None:
    """Let the one exchange in the history be an old one."""
    service.eventually(lambda: execute(service, "select count(*) from indexed") == [(1,)])
    execute(service, "update indexed set exchange_id = ?", _OLD)
    execute(service, "update exchanges set id = ?", _OLD)


def test_no_text_is_kept_where_the_service_says_so(start):
    service = start(AI_PROXY_RETENTION__KEEP_TEXTS="false")

    answer = service.ask("a secret question")

    [item] = service.history()
    assert answer.json()["answer"]
    assert (item["question"], item["answer"], item["texts"]) == ("", "", "none")
    assert item["usage"]["output_tokens"]
    files = [path.read_bytes() for path in (service.directory / "data").rglob("*") if path.is_file()]
    assert not any(b"a secret question" in data for data in files)


def test_what_is_old_is_removed_beside_a_running_service(start):
    service = start()
    service.ask("old")
    make_old(service)
    service.ask("young")

    done = service.run("history", "prune", "--older-than", "30")

    assert (done.returncode, done.stdout) == (0, "Removed: 1. Without texts now: 0.\n")
    assert [item["question"] for item in service.history()] == ["young"]
    assert execute(service, "select sum(calls) from daily_usage") == [(2,)]


def test_the_day_that_a_key_was_used_on_stays_known(start):
    service = start()
    service.ask("ping")

    service.run("history", "prune", "--older-than", "0")

    [key] = json.loads(service.run("keys", "list", "--json").stdout)
    assert service.history() == []
    assert key["last_used_at"] == f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z"


def test_a_project_says_how_its_history_is_kept(operator):
    project = f"/api/projects/{operator.post('/api/projects', json={'name': 'search'}).json()['id']}"

    changed = operator.patch(project, json={"retention_days": 30, "keep_texts": False}).json()
    renamed = operator.patch(project, json={"name": "found"}).json()
    again = operator.patch(project, json={"retention_days": None, "keep_texts": None}).json()

    said = [(found["retention_days"], found["keep_texts"]) for found in (changed, renamed, again)]
    assert said == [(30, False), (30, False), (None, False)]
    noted = operator.get("/api/audit", params={"action": "project.history"}).json()["items"]
    assert [entry["details"]["after"] for entry in noted] == [
        {"retention_days": None},
        {"retention_days": 30, "keep_texts": False},
    ]


@pytest.mark.parametrize(
    "body", [{"retention_days": 0}, {"retention_days": 40_000}, {"retention_days": "30"}, {"keep_texts": 1}, {}]
)
def test_what_a_project_cannot_say_is_refused(operator, body):
    project = operator.post("/api/projects", json={"name": "search"}).raise_for_status().json()["id"]

    refused = operator.patch(f"/api/projects/{project}", json=body)

    assert refused.status_code == 400
