"""What an operator looks at: probes, metrics, the API's description, migrations, other ways to start."""

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from ai_proxy.storage import schema
from ai_proxy.storage.tables import Table
from tests.service import AI_PROXY, KEY, environment

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command, cwd, **settings):
    return subprocess.run(
        command, cwd=cwd, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False
    )


def test_it_is_alive_and_ready_without_a_key(mocked):
    mocked.client.headers.pop("authorization")
    try:
        alive, ready = mocked.client.get("/livez"), mocked.client.get("/readyz")
    finally:
        mocked.client.headers["authorization"] = f"Bearer {KEY}"

    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert ready.json() == {"status": "ok", "checks": {"database": "ok", "history": "ok"}}


def test_it_is_not_ready_when_the_schema_is_not_at_head(start):
    service = start()

    with sqlite3.connect(service.directory / "data" / "ai-proxy.db") as database:
        database.execute("update alembic_version set version_num = '0000'")
    ready = service.client.get("/readyz")

    assert ready.status_code == 503
    assert ready.json()["checks"]["database"].startswith("not migrated")


def test_metrics_count_requests_calls_and_tokens(mocked):
    before = _samples(mocked.client.get("/metrics").text)

    mocked.ask("ping")
    mocked.client.post("/api/streaming", json={"question": "ping"})
    mocked.client.get("/no/such/path")
    after = _samples(mocked.client.get("/metrics").text)

    def grown(name):
        return after.get(name, 0) - before.get(name, 0)

    assert grown('aiproxy_requests_total{method="POST",route="/api/ask",status="200"}') == 1
    assert grown('aiproxy_requests_total{method="GET",route="other",status="404"}') == 1
    assert grown('aiproxy_upstream_requests_total{outcome="completed",provider="mock"}') == 2
    assert grown('aiproxy_tokens_total{direction="output",provider="mock"}') == 24
    assert grown('aiproxy_time_to_first_token_seconds_count{provider="mock"}') == 1
    assert after["aiproxy_records_waiting"] == 0
    assert after["aiproxy_records_lost"] == 0
    assert after["process_resident_memory_bytes"] > 0


def test_metrics_name_no_key_and_no_path_of_a_client(mocked):
    mocked.client.get("/path-of-a-client")
    mocked.ask("ping", model="model-of-a-client")

    text = mocked.client.get("/metrics").text

    assert "of-a-client" not in text
    assert KEY not in text


def _samples(text):
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_docs_page_needs_no_other_host(mocked):
    page = mocked.client.get("/docs")

    assets = re.findall(r"""(?:href|src)=["']([^"']+)["']""", page.text)
    assert len(assets) >= 3
    assert not [asset for asset in assets if not asset.startswith("/")]
    assert [mocked.client.get(asset).status_code for asset in assets] == [200] * len(assets)
    assert "https://" not in re.sub(r"<script[^>]*>.*?</script>", "", page.text, flags=re.DOTALL)


def test_the_description_is_complete(mocked):
    description = mocked.client.get("/openapi.json").json()

    assert set(description["paths"]) == {
        "/api/ask",
        "/api/streaming",
        "/api/history",
        "/livez",
        "/readyz",
        "/metrics",
    }
    for path in ("/api/ask", "/api/streaming"):
        operation = description["paths"][path]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert set(body["properties"]) == {
            "question",
            "model",
            "system",
            "temperature",
            "max_tokens",
            "conversation_id",
        }
        assert body["examples"]
        assert {"200", "400", "401", "408", "413", "415", "429", "502", "503", "504"} <= set(operation["responses"])
    for path in ("/api/ask", "/api/streaming", "/api/history"):
        (operation,) = description["paths"][path].values()
        assert operation["security"] == [{"bearer": []}, {"header": []}]
        assert "422" not in operation["responses"]
        error = operation["responses"]["401"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/ErrorResponse"}
    assert {"AskResponse", "HistoryPage", "ErrorResponse"} <= set(description["components"]["schemas"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "not_found"), ("DELETE", "/api/ask", 405, "method_not_allowed")],
)
def test_what_the_framework_refuses_has_the_same_envelope(mocked, method, path, status, code):
    response = mocked.client.request(method, path)

    error = response.json()["error"]
    assert response.status_code == status
    assert (error["code"], error["source"]) == (code, "client")
    assert error["request_id"] == response.headers["x-request-id"]
    if status == 405:
        assert response.headers["allow"] == "POST"


def test_the_schema_constant_is_the_newest_revision():
    config = Config()
    config.set_main_option("script_location", str(schema.SCRIPTS))

    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_migrations_make_the_tables_that_the_code_describes(tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/x.db"
    made = run(AI_PROXY, "db", "upgrade", cwd=tmp_path, DATABASE_URL=url)

    with create_engine(f"sqlite:///{tmp_path}/x.db").connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Table.metadata)

    assert made.returncode == 0, made.stderr
    assert differences == []


@pytest.mark.parametrize("directory", ["src", "."])
def test_alembic_migrates_up_and_down(tmp_path, directory):
    settings = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/x.db"}

    up = run(BIN / "alembic", "upgrade", "head", cwd=ROOT / directory, **settings)
    at_head = run(AI_PROXY, "db", "current", cwd=tmp_path, **settings)
    down = run(BIN / "alembic", "downgrade", "base", cwd=ROOT / directory, **settings)
    empty = run(AI_PROXY, "db", "current", cwd=tmp_path, **settings)

    assert up.returncode == 0, up.stderr
    assert at_head.returncode == 0
    assert down.returncode == 0, down.stderr
    assert empty.returncode == 1


def test_alembic_prints_sql_without_a_database(tmp_path):
    done = run(BIN / "alembic", "upgrade", "head", "--sql", cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert "CREATE TABLE exchanges" in done.stdout


def test_uvicorn_serves_it_from_src_as_the_assignment_says(start, tmp_path):
    """A copy of src/, so that its .env and its data are this test's own."""
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / ".env.example", source / ".env")
    migrated = run(BIN / "alembic", "upgrade", "head", cwd=source)

    service = start(source, command=[str(BIN / "uvicorn"), "main:ozon_app", "--port", "{port}"])
    answer = service.ask("ping")

    assert migrated.returncode == 0, migrated.stderr
    assert answer.status_code == 200
    assert service.history()[0]["question"] == "ping"
    assert service.eventually(lambda: service.request_log("/api/ask"))[0]["status"] == 200


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["keys", "--help"], ["keys", "create", "--help"]])
def test_help_is_there(tmp_path, words):
    done = run(AI_PROXY, *words, cwd=tmp_path)

    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_help_shows_examples(tmp_path):
    assert "ai-proxy serve --port 9000" in run(AI_PROXY, "serve", "--help", cwd=tmp_path).stdout
    assert "ai-proxy keys create laptop" in run(AI_PROXY, "keys", "create", "--help", cwd=tmp_path).stdout


def test_it_tells_its_version(tmp_path):
    assert run(AI_PROXY, "--version", cwd=tmp_path).stdout.startswith("ai-proxy 0.")
