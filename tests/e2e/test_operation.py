"""What an operator looks at: probes, metrics, the API's description, migrations, other ways to start."""

import json
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from ai_proxy.api.permissions import PERMISSIONS
from ai_proxy.schemas.ask import AskResponse
from ai_proxy.schemas.error import AnthropicErrorResponse, ErrorResponse
from ai_proxy.schemas.history import HistoryPage
from ai_proxy.storage import schema
from ai_proxy.storage.tables import Table
from tests.service import AI_PROXY, KEY, environment, free_port, read_all

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

    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db", isolation_level=None)) as database:
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
    assert after["aiproxy_records_lost_total"] == 0
    assert after["process_resident_memory_bytes"] > 0


def test_metrics_count_connections_that_were_refused(start):
    service = start(
        AI_PROXY_SERVER__MAX_CONNECTIONS=2,
        AI_PROXY_SERVER__HEADER_TIMEOUT=1,
        AI_PROXY_SERVER__MAX_HEADER_BYTES=1024,
        AI_PROXY_SERVER__MAX_BODY_BYTES=1024,
    )
    service.client.close()

    def refused(data: bytes) -> bytes:
        with service.raw(data) as connection:
            return read_all(connection)[:12]

    invalid = refused(b"nonsense\r\n\r\n")
    long = refused(b"GET /livez HTTP/1.1\r\nx: " + b"a" * 2000 + b"\r\n\r\n")
    slow = refused(b"GET /livez HTTP/1.1\r\n")
    with service.raw(), service.raw():
        too_many = refused(b"")
    service.client = service.client_with(KEY)
    found = service.eventually(lambda: _refused(service, 4))

    assert [invalid, long, slow, too_many] == [b"HTTP/1.1 %d" % status for status in (400, 431, 408, 503)]
    assert found.pop("unavailable") >= 1  # more if the two were still there when it was asked
    assert found == {"invalid_request": 1, "headers_too_large": 1, "request_timeout": 1}


def _refused(service, least: int) -> dict[str, float] | None:
    """Refused connections by code, when there are at least so many."""
    text = service.client.get("/metrics").text
    found = re.findall(r'^aiproxy_refused_connections_total{code="(\w+)"} (\S+)$', text, re.MULTILINE)
    return {code: float(number) for code, number in found} if len(found) >= least else None


def test_a_server_may_open_as_many_files_as_the_system_allows(start):
    command = ["sh", "-c", f"ulimit -Sn 100 && ulimit -Hn 1000 && exec {AI_PROXY} serve"]

    service = start(command=command, AI_PROXY_SERVER__MAX_CONNECTIONS=500)
    limits = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)

    [warning] = [line for line in service.log() if "files" in line["message"]]
    assert limits == (1000, 1000)
    assert (warning["level"], warning["limit"], warning["needed"]) == ("warning", 1000, 1100)


def test_metrics_name_no_key_and_no_path_of_a_client(mocked):
    mocked.client.get("/path-of-a-client")
    mocked.ask("ping", model="model-of-a-client")

    text = mocked.client.get("/metrics").text

    [key_id] = mocked.eventually(lambda: {line["key_id"] for line in mocked.request_log("/api/ask")[-1:]})
    assert "of-a-client" not in text
    assert KEY not in text
    assert key_id not in text


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

    undescribed = {"/", "/docs", "/openapi.json"}
    assert set(description["paths"]) == {path.replace(":path}", "}") for _, path in PERMISSIONS} - undescribed
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
        assert set(operation["responses"]) == {
            "200",
            *("400", "401", "404", "408", "413", "415", "422", "429"),
            *("500", "502", "503", "504"),
            *(["409"] if path == "/api/ask" else []),
        }
    by_key = [{"bearer": []}, {"header": []}]
    for path, ways in (("/api/ask", by_key), ("/api/streaming", by_key), ("/api/history", [*by_key, {"session": []}])):
        (operation,) = description["paths"][path].values()
        assert operation["security"] == ways
        for status, response in operation["responses"].items():
            if status != "200":
                error = response["content"]["application/json"]["schema"]
                assert error == {"$ref": "#/components/schemas/ErrorResponse"}
    assert set(description["paths"]["/api/history"]["get"]["responses"]) == {"200", "400", "401", "403", "500", "503"}
    assert {"AskResponse", "HistoryPage", "ErrorResponse"} <= set(description["components"]["schemas"])


def test_the_description_holds_together(mocked):
    text = mocked.client.get("/openapi.json").text
    description = json.loads(text)

    names = set(re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', text))
    operations = [operation for path in description["paths"].values() for operation in path.values()]

    assert description["openapi"].startswith("3.1")
    assert names == set(description["components"]["schemas"])
    assert text.count('"$ref"') == len(re.findall(r'"#/components/schemas/\w+"', text))
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert set(description["components"]["securitySchemes"]) == {"bearer", "header", "session"}


@pytest.mark.parametrize("model", [AskResponse, HistoryPage, ErrorResponse])
def test_the_description_has_examples_of_the_right_shape(mocked, model):
    schemas = mocked.client.get("/openapi.json").json()["components"]["schemas"]

    [example] = model.model_config["json_schema_extra"]["examples"]

    assert json.loads(model.model_validate(example).model_dump_json()) == example
    assert set(schemas[model.__name__]["examples"][0]) == {name for name in example if example[name] is not None}


@pytest.mark.parametrize(
    ("path", "shape", "overloaded"),
    [
        ("/v1/messages", "AnthropicErrorResponse", True),
        ("/v1/messages/count_tokens", "AnthropicErrorResponse", True),
        ("/v1/chat/completions", "ErrorResponse", False),
    ],
)
def test_errors_are_described_in_the_shape_that_their_clients_know(mocked, path, shape, overloaded):
    responses = mocked.client.get("/openapi.json").json()["paths"][path]["post"]["responses"]

    shapes = {said["content"]["application/json"]["schema"].get("$ref") for said in responses.values()}

    assert shapes == {None, f"#/components/schemas/{shape}"}
    assert ("529" in responses) is overloaded


def test_what_is_answered_is_what_is_described(mocked):
    answer, page = mocked.ask(), mocked.client.get("/api/history")
    error = mocked.client.get("/api/history", params={"limit": 0})
    theirs = mocked.client.post("/v1/messages", json={})

    assert json.loads(AskResponse.model_validate_json(answer.content).model_dump_json()) == answer.json()
    assert json.loads(HistoryPage.model_validate_json(page.content).model_dump_json()) == page.json()
    assert json.loads(ErrorResponse.model_validate_json(error.content).model_dump_json()) == error.json()
    assert json.loads(AnthropicErrorResponse.model_validate_json(theirs.content).model_dump_json()) == theirs.json()


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
        options = {"include_name": lambda name, kind, _: kind != "table" or not name.startswith("search")}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), Table.metadata)

    assert made.returncode == 0, made.stderr
    assert differences == []


@pytest.mark.parametrize("directory", ["src", "."])
def test_alembic_brings_the_database_to_head(tmp_path, directory):
    file = tmp_path / "x.db"

    done = run(BIN / "alembic", "upgrade", "head", cwd=ROOT / directory, DATABASE_URL=f"sqlite:///{file}")

    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("select version_num from alembic_version").fetchall() == [(schema.HEAD,)]


def test_alembic_takes_it_back(tmp_path):
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/x.db"}
    run(AI_PROXY, "db", "upgrade", cwd=tmp_path, **settings)

    done = run(BIN / "alembic", "downgrade", "base", cwd=ROOT, **settings)

    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "x.db")) as database:
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
    assert tables == [("alembic_version",)]


def test_the_schema_is_shown_and_brought_to_head_by_hand_where_the_start_must_not(tmp_path, start):
    refused = run(AI_PROXY, "serve", cwd=tmp_path, AI_PROXY_MIGRATE="false", PORT=free_port())
    before = run(AI_PROXY, "db", "current", cwd=tmp_path)
    upgraded = run(AI_PROXY, "db", "upgrade", cwd=tmp_path)
    after = run(AI_PROXY, "db", "current", cwd=tmp_path)
    service = start(tmp_path, AI_PROXY_MIGRATE="false")

    assert refused.returncode == 3
    assert refused.stderr == (
        "ai-proxy: AI_PROXY_MIGRATE is false, and the database is empty: run 'ai-proxy db upgrade'\n"
    )
    assert "Traceback" not in refused.stdout
    assert (before.returncode, before.stdout) == (1, f"database: empty\nneeded:   {schema.HEAD}\n")
    assert (upgraded.returncode, upgraded.stdout) == (0, f"The database is at {schema.HEAD}.\n")
    assert (after.returncode, after.stdout) == (0, f"database: {schema.HEAD}\nneeded:   {schema.HEAD}\n")
    assert service.client.get("/readyz").status_code == 200


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


def test_it_tells_its_version(tmp_path):
    assert run(AI_PROXY, "--version", cwd=tmp_path).stdout.startswith("ai-proxy 0.")
