"""S1 to S4: what happens to calls and their rows while the database is locked, full, read-only or gone."""

import asyncio
import json
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests import ledger
from tests.service import Service
from tests.upstream import completion

WAIT = 0.3  # seconds that an answer waits for its row


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A server whose answers wait only shortly for their rows. It survives what these tests do to its database."""
    service = Service(tmp_path_factory.mktemp("patient"), AI_PROXY_RECORDER__WAIT=WAIT).start()
    yield service
    assert service.stop() == 0
    service.client.close()


@pytest.fixture(scope="module")
def tight(tmp_path_factory, scripted_pair):
    """A server that holds four rows at most in memory, and few in its spool."""
    service = Service(
        tmp_path_factory.mktemp("tight"),
        OPENAI_API_KEY="sk-upstream",
        OPENAI_BASE_URL=scripted_pair[1].url,
        AI_PROXY_RECORDER__WAIT=0.1,
        AI_PROXY_RECORDER__CAPACITY=4,
        AI_PROXY_RECORDER__SPOOL_MAX_BYTES=3000,
    )
    service.configure(providers={"openai": {"models": ["small"]}})  # so that it is not asked for them
    yield service.start()
    assert service.stop() == 0
    service.client.close()


@pytest.fixture
def upstream(scripted_pair):
    upstream = scripted_pair[1]
    upstream.handler = completion()
    upstream.connections.clear()
    return upstream


def behind(upstream) -> dict:
    """The settings of a server in front of a scripted provider."""
    return {
        "OPENAI_API_KEY": "sk-upstream",
        "OPENAI_BASE_URL": upstream.url,
        "AI_PROXY_DEFAULT_MODEL": "small",
    }


def database(service: Service):
    return service.directory / "data" / "ai-proxy.db"


@contextmanager
def locked(service: Service, *, kind: str = "EXCLUSIVE"):
    """Another process, this one, holds the lock that writers need."""
    connection = sqlite3.connect(database(service), isolation_level=None, timeout=5)
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def stored(service: Service, beginning: str = "") -> list[str]:
    """The questions in the database, as another process sees them."""
    with closing(sqlite3.connect(f"file:{database(service)}?mode=ro", uri=True)) as connection:
        found = sorted(row[0] for row in connection.execute("select question from exchanges"))
    return [question for question in found if question.startswith(beginning)]


def identifiers(service: Service) -> list[str]:
    with closing(sqlite3.connect(f"file:{database(service)}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("select id from exchanges")]


def history_lines(log: list[dict]) -> list[dict]:
    return [line for line in log if line["message"].startswith("history: ")]


def is_back(lines: list[dict]) -> bool:
    return bool(lines) and lines[-1]["message"] == "history: the database is back"


# S1: locked


@pytest.mark.parametrize("kind", ["EXCLUSIVE", "IMMEDIATE"])
def test_fault_s1_known_keys_get_their_answers_while_the_database_is_locked(patient, kind):
    patient.ask("known key").raise_for_status()
    questions = [f"while {kind} {number}" for number in range(8)]

    with locked(patient, kind=kind), ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        answers = list(pool.map(patient.ask, questions))
        took = time.monotonic() - began
        during = stored(patient, f"while {kind}")

    assert [answer.status_code for answer in answers] == [200] * 8
    assert WAIT * 0.9 < took < WAIT + 1.5
    assert during == []
    patient.eventually(lambda: stored(patient, f"while {kind}") == questions)


def test_fault_s1_rows_outlast_a_long_lock_and_the_server_says_so(patient):
    before = len(patient.log())
    with locked(patient):
        patient.ask("long lock: a call").raise_for_status()
        not_ready = patient.eventually(
            lambda: (response := patient.client.get("/readyz")).status_code == 503 and response, 10
        )
        began = time.monotonic()
        late = patient.client.post("/api/streaming", json={"question": "long lock: a stream"})
        took = time.monotonic() - began
        metrics = patient.client.get("/metrics").text

    patient.eventually(lambda: stored(patient, "long lock") == ["long lock: a call", "long lock: a stream"], 10)
    patient.eventually(lambda: patient.client.get("/readyz").status_code == 200)
    assert not_ready.json()["checks"] == {"database": "ok", "history": "spooling"}
    assert "event: done" in late.text
    assert took < 1.5  # it is not asked again
    assert "aiproxy_records_waiting 0.0" in metrics
    assert "aiproxy_records_spooled 2.0" in metrics
    told = patient.eventually(lambda: is_back(told := history_lines(patient.log()[before:])) and told)
    away = [line for line in told if line["message"] == "history: the database is away, records go to the spool"]
    assert away[0]["reason"] == "a transaction takes longer than answers may wait"


def test_fault_s1_a_response_that_is_on_its_way_to_the_database_is_not_called_unknown(patient):
    with locked(patient):
        given = patient.client.post("/v1/responses", json={"model": "mock", "input": "ping"}).json()
        place = f"/v1/responses/{given['id']}"
        meanwhile = patient.client.get(place)

    assert (meanwhile.status_code, meanwhile.json()["error"]["code"]) == (503, "database_unavailable")
    patient.eventually(lambda: patient.client.get(place).status_code == 200, 10)
    patient.client.delete(place).raise_for_status()
    assert patient.client.get(place).status_code == 404


def test_fault_s1_a_key_that_nobody_used_yet_works_while_the_database_is_locked(patient):
    wrong_key = {"authorization": "Bearer a-key-that-nobody-has-ever-made"}

    with patient.client_with(patient.new_key("new")) as newcomer, locked(patient):
        right = newcomer.post("/api/ask", json={"question": "may I?"})
        wrong = newcomer.post("/api/ask", json={"question": "may I?"}, headers=wrong_key)

    assert right.status_code == 200
    assert wrong.status_code == 401


def test_fault_s1_calls_that_there_is_no_room_for_are_refused_before_the_provider_is_asked(tight, upstream):
    with locked(tight):
        taken: list[str] = []
        while (answer := tight.ask(question := f"locked {len(taken)}")).status_code == 200:
            taken.append(question)
        refused = [answer, tight.client.post("/api/streaming", json={"question": "locked"})]
        asked = len(upstream.connections)
    tight.eventually(lambda: stored(tight, "locked") == taken, 10)
    after = tight.ask("locked no more")

    assert asked == len(taken) > 2
    for response in refused:
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "history_full"
        assert int(response.headers["retry-after"]) > 0
    assert after.status_code == 200
    assert stored(tight, "locked") == [*taken, "locked no more"]


def test_fault_s1_whoever_is_killed_while_the_database_is_locked_has_every_answer_in_the_history_once(start):
    service = start(AI_PROXY_RECORDER__WAIT=WAIT)
    service.ask("killed: before").raise_for_status()

    with locked(service):
        questions = [f"killed: {number}" for number in range(20)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(service.ask, questions))
        service.process.kill()
        service.process.wait()
        during = stored(service, "killed")
    again = start(service.directory)
    again.eventually(lambda: len(stored(again, "killed")) == 21, 10)
    again.ask("killed: after").raise_for_status()

    assert [answer.status_code for answer in answers] == [200] * 20
    assert during == ["killed: before"]
    assert stored(again, "killed") == sorted([*questions, "killed: before", "killed: after"])
    assert len(ledger.usage(again)[0]) == 1
    assert ledger.usage(again)[0] == ledger.usage(again)[1]
    assert list((service.directory / "data" / "spool").glob("*.spool")) == []


def test_fault_s1_long_texts_outlast_a_lock_and_a_kill_whole(start, upstream):
    service = start(AI_PROXY_RECORDER__WAIT=3, **behind(upstream))  # a busy disk takes its time for 50 MB
    upstream.handler = completion("pong " * 600_000)  # 3 MB
    bodies = [{"model": "small", "messages": [{"role": "user", "content": f"{n} ping " * 500_000}]} for n in range(4)]

    with locked(service):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda body: service.client.post("/v1/chat/completions", json=body), bodies))
        service.process.kill()
        service.process.wait()
        during = stored(service)
    again = start(service.directory)
    again.eventually(lambda: len(stored(again)) == 4, 20)
    found = [again.client.get(f"/api/history/{identifier}").json() for identifier in identifiers(again)]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert during == []
    assert sorted(json.dumps(row["request"]) for row in found) == sorted(json.dumps(body) for body in bodies)
    assert {json.dumps(row["response"]) for row in found} == {json.dumps(answers[0].json())}


def test_fault_s1_a_stop_while_the_database_is_locked_loses_nothing(start):
    service = start(AI_PROXY_RECORDER__WAIT=WAIT)

    with locked(service):
        service.ask("stopped: 1").raise_for_status()
        service.ask("stopped: 2").raise_for_status()
        code = service.stop()
    again = start(service.directory)

    assert code == 0
    again.eventually(lambda: stored(again, "stopped") == ["stopped: 1", "stopped: 2"])
    assert ledger.usage(again)[0] == ledger.usage(again)[1]


# S2, S3: full


@contextmanager
def file_size_limit(service: Service):
    """No file of the server may grow any more."""
    sizes = [path.stat().st_size for path in database(service).parent.iterdir()]
    before = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (max(sizes), before[1]))
    try:
        yield
    finally:
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def full_file_system(service: Service):
    """Not a byte is left on the database's file system."""
    filler = database(service).parent / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture
def small_file_system(tmp_path):
    """A directory for a server, whose `data` is a file system of 16 megabytes. Its provider is not asked for models."""
    (tmp_path / "ai-proxy.toml").write_text('providers = {openai = {models = ["small"]}}')
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", data], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield tmp_path
    subprocess.run(["umount", "--lazy", data], check=True)


def test_fault_s2_s3_rows_go_to_the_spool_while_the_databases_files_cannot_grow(start):
    service = start(AI_PROXY_RECORDER__WAIT=0.1)
    service.ask("full: before").raise_for_status()

    with file_size_limit(service):
        answers = [service.ask(f"full: meanwhile {number}") for number in range(4)]
        readable = service.history(limit=1)
        during = stored(service, "full")

    assert [answer.status_code for answer in answers] == [200] * 4
    assert [item["question"] for item in readable] == during == ["full: before"]
    expected = ["full: before", *(f"full: meanwhile {number}" for number in range(4))]
    service.eventually(lambda: stored(service, "full") == expected, 10)
    service.eventually(lambda: service.client.get("/readyz").status_code == 200)


def test_fault_s2_no_call_is_admitted_while_the_file_system_is_full(small_file_system, start, scripted_pair):
    upstream = scripted_pair[1]
    upstream.handler = completion()
    upstream.connections.clear()
    service = start(small_file_system, **behind(upstream), AI_PROXY_RECORDER__WAIT=0.1)
    service.ask("full: before").raise_for_status()

    with full_file_system(service):
        noticed = service.ask("full: noticed")
        refused = [service.ask("full: refused") for _ in range(3)]
        asked = len([connection for connection in upstream.connections if connection.body])  # not for its models
        readable = service.history()
        ready = service.client.get("/readyz")

    assert noticed.status_code == 200
    assert [response.status_code for response in refused] == [503] * 3
    assert refused[0].json()["error"]["code"] == "history_full"
    assert asked == 2
    assert readable[-1]["question"] == "full: before"
    assert (ready.status_code, ready.json()["checks"]["history"]) == (503, "failing")
    service.eventually(lambda: stored(service, "full") == ["full: before", "full: noticed"], 10)
    service.eventually(lambda: service.ask("full: after").status_code == 200)


def test_fault_s3_calls_that_run_as_the_disk_fills_are_answered_and_kept(small_file_system, start, scripted_pair):
    upstream = scripted_pair[1]
    go_on = threading.Event()

    async def handle(connection):
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        await completion()(connection)

    upstream.handler = handle
    upstream.connections.clear()
    service = start(small_file_system, **behind(upstream), AI_PROXY_RECORDER__WAIT=0.1)
    questions = [f"running: {number}" for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(service.ask, question) for question in questions]
        service.eventually(lambda: len(upstream.connections) == 8)
        with full_file_system(service):
            go_on.set()
            answers = [call.result() for call in running]
            service.process.kill()  # nothing is in memory alone
            service.process.wait()
    again = start(small_file_system, **behind(upstream))
    again.eventually(lambda: stored(again, "running") == questions, 10)

    assert [answer.status_code for answer in answers] == [200] * 8
    assert ledger.usage(again)[0] == ledger.usage(again)[1]


# S4: read-only


@contextmanager
def immutable(*paths: Path):
    """Not even root can write to these."""
    if subprocess.run(["chattr", "+i", *paths], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make files immutable")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *paths], check=True)


def files_of_database(service: Service) -> list[Path]:
    """Those that it is written to. (The third one is only shared memory.)"""
    return [database(service), database(service).with_name("ai-proxy.db-wal")]


def test_fault_s4_rows_go_to_the_spool_while_the_database_cannot_be_written(patient):
    patient.ask("read-only: before").raise_for_status()

    with immutable(*files_of_database(patient)):
        answers = [patient.ask(f"read-only: meanwhile {number}").status_code for number in range(5)]
        readable = patient.history(limit=1)
        ready = patient.client.get("/readyz")

    assert answers == [200] * 5
    assert [item["question"] for item in readable] == ["read-only: before"]
    assert (ready.status_code, ready.json()["checks"]["history"]) == (503, "spooling")
    patient.eventually(lambda: len(stored(patient, "read-only")) == 6, 10)


def test_fault_s4_no_call_is_begun_while_nothing_can_be_written(tight, upstream):
    tight.ask("all read-only: before").raise_for_status()

    with immutable(*files_of_database(tight), tight.directory / "data" / "spool"):
        answers = [tight.ask(f"all read-only: meanwhile {number}").status_code for number in range(5)]
        readable = tight.history(limit=1)
        ready = tight.client.get("/readyz")

    assert answers == [200, 503, 503, 503, 503]  # the first one notices it
    assert [item["question"] for item in readable] == ["all read-only: before"]
    assert (ready.status_code, ready.json()["checks"]["history"]) == (503, "failing")
    tight.eventually(lambda: len(stored(tight, "all read-only")) == 2, 10)


# The file is gone


def test_the_database_may_be_away_for_a_while(patient):
    patient.ask("known key").raise_for_status()
    data, away = patient.directory / "data", patient.directory / "away"
    new = patient.client_with(patient.new_key("another"))

    data.rename(away)
    known = patient.ask("while it was away")
    unknown = new.post("/api/ask", json={"question": "may I?"})
    ready = patient.client.get("/readyz")
    recreated = data.exists()
    away.rename(data)

    new.close()
    assert known.status_code == 200
    assert unknown.status_code == 503
    assert unknown.json()["error"]["code"] == "database_unavailable"
    assert int(unknown.headers["retry-after"]) > 0
    assert (ready.status_code, recreated) == (503, False)
    patient.eventually(lambda: stored(patient, "while it was away") == ["while it was away"])
    assert patient.client.get("/readyz").status_code == 200


def test_a_restored_backup_is_written_to(patient):
    patient.ask("backup: in it").raise_for_status()
    file, backup = database(patient), patient.directory / "backup.db"
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    patient.ask("backup: after it").raise_for_status()

    for path in file.parent.glob("ai-proxy.db*"):
        path.unlink()
    backup.rename(file)
    patient.ask("backup: after the restoration").raise_for_status()

    expected = ["backup: after the restoration", "backup: in it"]
    patient.eventually(lambda: stored(patient, "backup") == expected)
    assert [item["question"] for item in patient.history(limit=2)] == expected


def test_a_deleted_database_is_not_replaced_by_an_empty_one(start):
    service = start(AI_PROXY_RECORDER__WAIT=0.1)
    service.ask("before").raise_for_status()

    shutil.rmtree(service.directory / "data")
    answer = service.ask("after")
    ready = service.client.get("/readyz")
    history = service.client.get("/api/history")
    service.process.kill()

    assert answer.status_code == 200
    assert ready.status_code == 503
    assert (history.status_code, history.json()["error"]["code"]) == (503, "database_unavailable")
    assert not (service.directory / "data").exists()
