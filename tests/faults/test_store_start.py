"""S4 to S6, S9, S10, M7: databases that a server is started on, whatever state they are in."""

import os
import shutil
import signal
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.service import Service, environment

FILL = """
    with numbers(n) as (select 1 union all select n + 1 from numbers where n < 500)
    insert into exchanges (id, key_id, question, answer, model, provider, mock, status,
                           input_tokens, output_tokens, usage_estimated, duration_ms, created_at)
    select printf('%036d', n), printf('%036d', n), hex(randomblob(900)), '', '', '', 0, 'completed', 0, 0, 0, 0, 0
    from numbers
"""


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """The file of a database at the current schema. Copy it."""
    directory = tmp_path_factory.mktemp("empty")
    assert Service(directory).run("db", "upgrade").returncode == 0
    return directory / "data" / "ai-proxy.db"


def failed_start(directory, **settings) -> tuple[int, str, str]:
    """Start a server that is not to come up. Returns its exit code, STDERR and STDOUT."""
    service = Service(directory, **settings)
    done = subprocess.run(
        service.command,
        check=False,
        cwd=directory,
        env=environment(**service.settings),
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stderr, done.stdout


# S5, S6, S9: it does not start


def test_fault_s5_a_damaged_database_stops_the_start_and_is_left_as_it_is(tmp_path, empty_database):
    whole = empty_database.read_bytes()
    damaged = {
        "noise": os.urandom(20_000),
        "cut short": whole[:1500],
        "broken schema": whole[:100] + os.urandom(4096 - 100) + whole[4096:],
    }

    def try_to_start(name: str) -> tuple[int, str, str]:
        (tmp_path / f"{name}.db").write_bytes(damaged[name])
        return failed_start(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/{name}.db")

    with ThreadPoolExecutor() as pool:
        results = dict(zip(damaged, pool.map(try_to_start, damaged), strict=True))

    for name, (code, stderr, stdout) in results.items():
        assert code == 3, name
        assert stderr.startswith("ai-proxy: DATABASE_URL: the database cannot be used: ")
        assert len(stderr.splitlines()) == 1
        assert "Traceback" not in stdout
        assert (tmp_path / f"{name}.db").read_bytes() == damaged[name], name


def test_fault_s5_damage_in_the_middle_is_an_error_of_the_database_and_loses_no_row(start, tmp_path, empty_database):
    file = shutil.copy(empty_database, tmp_path / "damaged.db")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(FILL)
    whole, intact = file.read_bytes(), empty_database.stat().st_size
    file.write_bytes(whole[:intact] + os.urandom(len(whole) - intact))

    service = start(tmp_path, AI_PROXY_RECORDER__WAIT=0.1, DATABASE_URL=f"sqlite:///{file}")
    history = service.client.get("/api/history", params={"limit": 200})
    answers = [service.ask("meanwhile").status_code for _ in range(3)]
    metrics = service.client.get("/metrics").text
    service.process.kill()

    assert (history.status_code, history.json()["error"]["code"]) == (503, "database_unavailable")
    assert answers == [200] * 3
    assert "aiproxy_records_lost_total 0.0" in metrics
    assert "aiproxy_records_spooled 3.0" in metrics


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a-file/history.db", "cannot make the directory of the database"),
        ("a-directory", "unable to open database file"),
    ],
)
def test_fault_s6_a_place_where_no_database_can_be_stops_the_start(tmp_path, path, reason):
    (tmp_path / "a-file").write_text("mine")
    (tmp_path / "a-directory").mkdir()

    code, stderr, stdout = failed_start(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/{path}")

    assert code == 3
    assert stderr.startswith("ai-proxy: DATABASE_URL: ")
    assert reason in stderr
    assert len(stderr.splitlines()) == 1
    assert "Traceback" not in stdout
    assert (tmp_path / "a-file").read_text() == "mine"


def test_fault_s9_a_database_of_a_newer_version_stops_the_start_and_is_left_as_it_is(tmp_path, empty_database):
    file = shutil.copy(empty_database, tmp_path / "newer.db")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    before = file.read_bytes()

    code, stderr, stdout = failed_start(tmp_path, DATABASE_URL=f"sqlite:///{file}")

    assert code == 3
    assert stderr.startswith("ai-proxy: DATABASE_URL: ")
    assert "9999" in stderr
    assert len(stderr.splitlines()) == 1
    assert "Traceback" not in stdout
    assert file.read_bytes() == before


# S10, M7: several processes


def test_fault_s10_m7_processes_that_start_at_once_share_a_fresh_database(tmp_path, start):
    with ThreadPoolExecutor() as pool:
        services = list(pool.map(lambda _: start(tmp_path), range(2)))

    for number, service in enumerate(services):
        service.ask(f"to server {number}").raise_for_status()
    histories = [[item["question"] for item in service.history()] for service in services]
    codes = [service.stop(signal.SIGTERM) for service in services]

    assert histories == [["to server 1", "to server 0"]] * 2
    assert codes == [0, 0]
    assert len(list((tmp_path / "data").glob("*secret*"))) == 1


def test_fault_s4_a_database_that_cannot_be_written_stops_the_start(tmp_path, empty_database):
    code, stderr, _ = failed_start(tmp_path, DATABASE_URL=f"sqlite:///file:{empty_database}?mode=ro&uri=true")

    assert code == 3
    assert stderr.splitlines() == [
        "ai-proxy: DATABASE_URL: the database cannot be used: "
        "(sqlite3.OperationalError) attempt to write a readonly database"
    ]
