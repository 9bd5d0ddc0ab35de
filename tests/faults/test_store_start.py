"""S4 to S6, S9, S10, M7: databases that a server is started on, whatever state they are in."""

import os
import shutil
import signal
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests import ledger
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


def failed_start(directory, *, within: tuple[str, ...] = (), **settings) -> tuple[int, str, str]:
    """Start a server that is not to come up, in the command `within`. Returns its exit code, STDERR and STDOUT."""
    service = Service(directory, **settings)
    done = subprocess.run(
        [*within, *service.command],
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


def without_page_of(table: str, file: Path) -> bytes:
    """The whole file, with noise where the table begins."""
    with closing(sqlite3.connect(file)) as connection:
        sql = "select (rootpage - 1) * page_size, page_size from sqlite_master, pragma_page_size where name = ?"
        at, size = connection.execute(sql, (table,)).fetchone()
    whole = file.read_bytes()
    return whole[:at] + os.urandom(size) + whole[at + size :]


def files_of(service: Service) -> tuple[Path, Path]:
    """The database and its write-ahead log."""
    file = service.directory / "data" / "ai-proxy.db"
    return file, file.with_name("ai-proxy.db-wal")


def test_fault_s5_damage_that_the_start_comes_upon_stops_it_and_the_file_is_left_as_it_is(start):
    service = start()
    service.ask("before").raise_for_status()
    assert service.stop() == 0
    file, log = files_of(service)
    file.write_bytes(before := without_page_of("api_keys", file))

    code, stderr, stdout = failed_start(service.directory)

    assert code == 3
    assert stderr.startswith("ai-proxy: DATABASE_URL: the database cannot be used: ")
    assert len(stderr.splitlines()) == 1
    assert "Traceback" not in stdout
    assert (file.read_bytes(), log.exists()) == (before, False)


@pytest.fixture
def killed(start):
    """A server that was killed, so that the newest of its rows are in the write-ahead log alone."""
    service = start()
    service.ask("row 0").raise_for_status()
    assert service.stop() == 0
    service.start()
    for number in range(1, 10):
        service.ask(f"row {number}").raise_for_status()
    service.stop(signal.SIGKILL)
    return service


@pytest.mark.parametrize(
    ("damaged", "table"),
    [
        (lambda log: os.urandom(len(log)), None),
        (lambda log: os.urandom(len(log)), "exchanges"),
        (lambda log: bytes(32) + log[32:], None),
        (lambda log: log[:17] + bytes([log[17] ^ 1]) + log[18:], None),
    ],
    ids=["noise", "noise, and in the database too", "zeros at the beginning", "one bit"],
)
def test_fault_s5_a_damaged_log_stops_the_start_and_both_files_are_left_as_they_are(killed, damaged, table):
    file, log = files_of(killed)
    log.write_bytes(damaged(log.read_bytes()))
    if table is not None:
        file.write_bytes(without_page_of(table, shutil.copy(file, file.with_name("copy.db"))))
    before = file.read_bytes(), log.read_bytes()

    code, stderr, stdout = failed_start(killed.directory)
    backup = killed.run("db", "backup", "backup.db")

    assert code == 3
    assert stderr == "ai-proxy: DATABASE_URL: the database cannot be used: its log data/ai-proxy.db-wal is damaged\n"
    assert "Traceback" not in stdout
    assert backup.returncode == 1
    assert (file.read_bytes(), log.read_bytes()) == before


def test_fault_s5_a_damaged_log_is_set_aside_when_a_backup_is_restored(killed):
    file, log = files_of(killed)
    with closing(sqlite3.connect(shutil.copy(file, killed.directory / "backup.db"))) as backup:
        backup.execute("pragma journal_mode = delete")
    log.write_bytes(damaged := b"damaged" + log.read_bytes()[7:])

    restored = killed.run("db", "restore", "backup.db")
    [kept] = file.parent.glob("*.before-restore-*-wal")
    killed.start()

    assert restored.returncode == 0, restored.stderr
    assert kept.read_bytes() == damaged
    assert [row.question for row in ledger.rows(killed)] == ["row 0"]


def test_fault_s5_of_a_log_without_its_end_all_commits_before_that_are_there(killed):
    """So it is after a power cut, and nobody can tell one from the other."""
    file, log = files_of(killed)
    log.write_bytes(log.read_bytes()[: log.stat().st_size * 2 // 3])
    before = file.read_bytes()

    killed.start()
    found = [row.question for row in ledger.rows(killed)]
    killed.ask("after").raise_for_status()
    killed.stop(signal.SIGKILL)

    assert found == [f"row {number}" for number in range(len(found))]
    assert 1 < len(found) < 10
    assert file.read_bytes() == before


def test_fault_s5_rows_of_a_database_whose_damage_showed_later_are_in_the_one_that_was_restored(start):
    service = start(AI_PROXY_RECORDER__WAIT=0.1)
    service.ask("before").raise_for_status()
    assert service.run("db", "backup", "backup.db").returncode == 0
    assert service.stop() == 0
    file, _ = files_of(service)
    file.write_bytes(without_page_of("exchanges", file))

    service.start()
    answers = [service.ask(f"meanwhile {number}").status_code for number in range(3)]
    ready = service.client.get("/readyz")
    code = service.stop()
    restored = service.run("db", "restore", "backup.db")
    service.start()

    assert answers == [200] * 3
    assert (ready.status_code, ready.json()["checks"]["history"]) == (503, "spooling")
    assert (code, restored.returncode) == (0, 0)
    expected = ["before", "meanwhile 0", "meanwhile 1", "meanwhile 2"]
    service.eventually(lambda: [row.question for row in ledger.rows(service)] == expected)
    service.eventually(lambda: service.client.get("/readyz").status_code == 200)
    assert ledger.usage(service)[0] == ledger.usage(service)[1]


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


@pytest.fixture
def closed_directory(tmp_path):
    """One that a server may not write to, and what its command begins with, so that this holds if it is root's."""
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o555)
    if os.geteuid() != 0:
        return directory, ()
    as_others = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    if shutil.which("setpriv") is None or subprocess.run([*as_others, "true"], check=False).returncode:
        pytest.skip("needs setpriv: to root no directory is closed")
    shutil.chown(directory, "nobody")
    return directory, as_others


SECRET = {"AI_PROXY_SECRET": "the-tests-own-server-secret-0123456789"}


@pytest.mark.parametrize(
    ("path", "settings", "reason"),
    [
        (
            "x.db",
            SECRET,
            "DATABASE_URL: the database cannot be used: (sqlite3.OperationalError) unable to open database",
        ),
        ("x.db", {}, "AI_PROXY_SECRET is not set, and the secret file beside the data fails: Permission denied"),
        ("data/x.db", {}, "DATABASE_URL: cannot make the directory of the database: Permission denied"),
    ],
    ids=["no database", "no secret", "no directory"],
)
def test_fault_s6_a_directory_that_belongs_to_another_stops_the_start(
    tmp_path, closed_directory, path, settings, reason
):
    directory, within = closed_directory

    code, stderr, stdout = failed_start(
        tmp_path, within=within, DATABASE_URL=f"sqlite:///{directory}/{path}", **settings
    )

    assert code == 3
    assert stderr.startswith(f"ai-proxy: {reason}")
    assert len(stderr.splitlines()) == 1
    assert "Traceback" not in stdout
    assert list(directory.iterdir()) == []


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
