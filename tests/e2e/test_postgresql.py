"""A service on PostgreSQL, as an operator and clients see it; most of its storage is tested in tests/storage."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine

from ai_proxy.core.databases import normalized
from ai_proxy.storage import schema
from ai_proxy.storage.tables import Table
from tests.postgres import Postgres
from tests.service import AI_PROXY, Service, environment
from tests.stores import SECRET, Store

ROOT = Path(__file__).parents[2]
ALEMBIC = str(Path(sys.executable).parent / "alembic")
WAIT = 0.3  # seconds that an answer waits for its row


@pytest.fixture
def server():
    """A database server that the test may stop."""
    with Postgres() as server:
        yield server


@pytest.fixture
def empty(postgres, tmp_path):
    return Store(postgres.new_database(), tmp_path)


def run(*command: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, check=False, cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=60
    )


def test_it_answers_and_keeps_what_it_answered(start, empty):
    service = start(**empty.settings)

    asked = service.ask("a question").raise_for_status().json()
    streamed = service.client.post("/api/streaming", json={"question": "as a stream"})
    called = service.client.post(
        "/v1/chat/completions", json={"model": "mock", "messages": [{"role": "user", "content": "nul: \x00"}]}
    )

    assert (streamed.status_code, called.status_code) == (200, 200)
    questions = [item["question"] for item in service.history()]
    assert questions[1:] == ["as a stream", "a question"]
    assert "nul: \N{REPLACEMENT CHARACTER}" in questions[0]
    assert service.history()[-1]["id"] == asked["id"]
    assert empty.query("select sum(calls) from daily_usage") == [(3,)]
    assert {path.name for path in (service.directory / "data").iterdir()} <= {"spool", "seen-keys"}


def test_a_conversation_goes_on(start, empty):
    service = start(**empty.settings)
    first = service.ask("one", conversation_id="0" * 8 + "-0000-7000-8000-" + "0" * 12).json()

    second = service.ask("two", conversation_id=first["conversation_id"])

    assert second.status_code == 200
    assert second.json()["usage"]["input_tokens"] > first["usage"]["input_tokens"]


def test_an_answer_is_kept_under_its_idempotency_key(start, empty):
    service = start(**empty.settings)
    ask = {"json": {"question": "once"}, "headers": {"idempotency-key": "one"}}
    first = service.client.post("/api/ask", **ask)
    service.stop()
    service.start()

    second = service.client.post("/api/ask", **ask)

    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    assert len(service.history()) == 1


def test_keys_made_by_hand_work_on_every_process_and_stop_when_revoked(start, empty):
    first, second = start(**empty.settings), start(**empty.settings)
    key_id, key = re.findall(r"(?:id|key): +(\S+)", first.run("keys", "create", "shared").stdout)

    with first.client_with(key) as one, second.client_with(key) as two:
        asked = [client.post("/api/ask", json={"question": "ping"}).status_code for client in (one, two)]
        seen = two.get("/api/history").json()["items"]
        second.run("keys", "revoke", key_id)

        second.eventually(lambda: two.get("/api/history").status_code == 401, 6)
        first.eventually(lambda: one.get("/api/history").status_code == 401, 6)

    listed = json.loads(first.run("keys", "list", "--json").stdout)
    assert asked == [200, 200]
    assert len(seen) == 2
    assert [row["name"] for row in listed if row["revoked_at"]] == ["shared"]


def test_two_processes_that_start_at_once_migrate_once(tmp_path_factory, empty):
    services = [Service(tmp_path_factory.mktemp("twin"), **empty.settings) for _ in range(2)]

    with ThreadPoolExecutor() as pool:
        list(pool.map(Service.start, services))

    answered = [service.ask().status_code for service in services]
    stopped = [service.stop() for service in services]
    for service in services:
        service.client.close()
    assert (answered, stopped) == ([200, 200], [0, 0])
    assert empty.query("select count(*) from users where name = 'operator'") == [(1,)]
    assert empty.query("select count(*) from api_keys") == [(1,)]


def test_records_outlast_a_restart_of_the_database_and_so_does_the_service(start, server, tmp_path):
    store = Store(server.new_database(), tmp_path)
    service = start(AI_PROXY_RECORDER__WAIT=WAIT, **store.settings)
    service.ask("before").raise_for_status()
    server.stop()
    during = service.ask("during")
    with service.client_with("a-key-that-nobody-has-ever-made") as stranger:
        nobody = stranger.post("/api/ask", json={"question": "who?"})
    listing = service.client.get("/api/history")
    not_ready = service.client.get("/readyz")
    server.start()

    service.eventually(lambda: service.client.get("/readyz").status_code == 200, 10)

    service.eventually(lambda: len(service.history()) == 2, 10)
    assert during.status_code == 200
    assert nobody.status_code == 503
    assert (listing.status_code, listing.json()["error"]["code"]) == (503, "database_unavailable")
    assert not_ready.status_code == 503
    assert service.ask("after").status_code == 200
    assert [item["question"] for item in service.history()] == ["after", "during", "before"]


def test_a_start_without_the_server_serves_and_does_not_show_the_password(start):
    service = start(DATABASE_URL="postgresql://user:canary@127.0.0.1:9/name", AI_PROXY_SECRET=SECRET)

    asked = service.ask().status_code
    ready = service.client.get("/readyz").status_code
    stopped = service.stop()

    assert (asked, ready, stopped) == (200, 503, 0)
    assert re.search(r"^The database cannot be reached: .*refused", service.stderr(), re.MULTILINE)
    assert "canary" not in service.stderr() + json.dumps(service.log())


@pytest.mark.parametrize(
    ("place", "reason"),
    [("/no_such_database?host={server}", "does not exist"), ("/postgres?host={server}&user=nobody_there", "role")],
)
def test_a_server_that_will_not_have_us_stops_the_start_with_a_line_without_the_password(postgres, place, reason):
    url = f"postgresql://postgres:canary@{place.format(server=postgres.directory)}"

    done = run(AI_PROXY, "serve", DATABASE_URL=url, AI_PROXY_SECRET=SECRET, PORT=0)

    assert done.returncode != 0
    assert re.fullmatch(rf"ai-proxy: DATABASE_URL: the database cannot be used: .*FATAL: .*{reason}.*\n", done.stderr)
    assert "canary" not in done.stdout + done.stderr


def test_the_password_is_not_shown_with_the_settings():
    done = run(AI_PROXY, "config", "show", DATABASE_URL="postgres://user:canary@db/name", AI_PROXY_SECRET=SECRET)

    assert "postgresql+psycopg://user:…@db/name" in done.stdout
    assert "canary" not in done.stdout + done.stderr


# The schema


def test_migrations_make_the_tables_that_the_code_describes(empty):
    made = run(AI_PROXY, "db", "upgrade", **empty.settings)

    with create_engine(normalized(empty.url), poolclass=NullPool).connect() as connection:
        options = {"include_name": lambda name, kind, _: kind != "table" or name != "search"}  # each has its own
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), Table.metadata)

    assert made.returncode == 0, made.stderr
    assert differences == []


def test_alembic_brings_the_database_to_head_and_takes_it_back(empty):
    there = run(ALEMBIC, "upgrade", "head", **empty.settings)
    revision = empty.query("select version_num from alembic_version")

    back = run(ALEMBIC, "downgrade", "base", **empty.settings)

    assert (there.returncode, back.returncode) == (0, 0), there.stderr + back.stderr
    assert revision == [(schema.HEAD,)]
    assert empty.tables() == ["alembic_version"]


def test_alembic_prints_sql_that_makes_the_same_tables(empty):
    printed = run(ALEMBIC, "upgrade", "head", "--sql", **empty.settings)

    empty.query(printed.stdout)

    assert empty.query("select version_num from alembic_version") == [(schema.HEAD,)]
    assert "exchanges" in empty.tables()
