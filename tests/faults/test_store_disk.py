"""S7, S8, S10: a disk that fails, a log that grows, and processes that share a database and its spool."""

import re
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests import ledger
from tests.stores import Store

# fsync and fdatasync fail for files whose path contains what is in the file that $FSYNC_FAILS names.
FAILING_FSYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int descriptor) {
    char link[64], path[4096], wanted[256];
    const char *control = getenv("FSYNC_FAILS");
    int file = control ? open(control, O_RDONLY) : -1;
    if (file < 0) return 0;
    ssize_t length = read(file, wanted, sizeof wanted - 1);
    close(file);
    if (length <= 0) return 0;
    wanted[length] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, wanted) != NULL;
}

static int sync_with(const char *name, int descriptor) {
    if (fails(descriptor)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(descriptor);
}

int fsync(int descriptor) { return sync_with("fsync", descriptor); }
int fdatasync(int descriptor) { return sync_with("fdatasync", descriptor); }
"""


@pytest.fixture(scope="module")
def failing_fsync(tmp_path_factory):
    """A library that a server is started with."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    directory = tmp_path_factory.mktemp("library")
    source, library = directory / "fsync.c", directory / "fsync.so"
    source.write_text(FAILING_FSYNC)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def failing(start, failing_fsync, tmp_path):
    """A server, and the file that says whose fsync fails."""
    control = tmp_path / "fails"
    service = start(tmp_path, LD_PRELOAD=failing_fsync, FSYNC_FAILS=control, AI_PROXY_RECORDER__WAIT=0.5)
    yield service, control
    control.unlink(missing_ok=True)


def questions(service) -> list[str]:
    return sorted(row.question for row in ledger.rows(service))


def test_fault_s7_a_failed_fsync_of_the_database_is_no_commit_and_the_row_is_in_the_spool(failing):
    service, control = failing
    service.ask("before").raise_for_status()

    control.write_text("ai-proxy.db-wal")
    answers = [service.ask(f"meanwhile {number}").status_code for number in range(3)]
    during = questions(service)
    ready = service.client.get("/readyz")
    metrics = service.client.get("/metrics").text
    control.unlink()

    assert answers == [200] * 3
    assert during == ["before"]
    assert "aiproxy_records_spooled 3.0" in metrics
    assert (ready.status_code, ready.json()["checks"]["history"]) == (503, "spooling")
    service.eventually(lambda: questions(service) == ["before", "meanwhile 0", "meanwhile 1", "meanwhile 2"])
    assert ledger.usage(service)[0] == ledger.usage(service)[1]
    [away] = [line for line in service.log() if line["message"].startswith("history: the database is away")]
    assert away["reason"] == "(sqlite3.OperationalError) disk I/O error"


def test_fault_s7_a_row_whose_fsync_failed_is_in_the_history_once_after_a_crash(failing, start):
    service, control = failing
    service.ask("before").raise_for_status()

    control.write_text("ai-proxy.db-wal")
    service.ask("meanwhile").raise_for_status()
    service.process.kill()
    service.process.wait()
    again = start(service.directory)

    again.eventually(lambda: questions(again) == ["before", "meanwhile"])
    again.eventually(lambda: not list((service.directory / "data" / "spool").glob("*.spool")))
    assert questions(again) == ["before", "meanwhile"]
    assert ledger.usage(again)[0] == ledger.usage(again)[1]


def test_fault_s7_where_every_fsync_fails_no_call_is_begun_and_the_server_says_so(failing):
    service, control = failing
    service.ask("before").raise_for_status()

    control.write_text("/data/")
    noticing = service.ask("meanwhile")
    refused = service.ask("later")
    ready = service.client.get("/readyz")
    metrics = service.client.get("/metrics").text
    control.unlink()

    assert noticing.status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "history_full")
    assert (ready.status_code, ready.json()["checks"]["history"]) == (503, "failing")
    assert "aiproxy_records_waiting 1.0" in metrics
    service.eventually(lambda: questions(service) == ["before", "meanwhile"])
    service.eventually(lambda: service.client.get("/readyz").status_code == 200)


def write_ahead_log(service) -> float:
    """How long it is, as the server says."""
    return float(re.search(r"^aiproxy_wal_bytes (\S+)$", service.client.get("/metrics").text, re.MULTILINE)[1])


def ask_much(service, calls: int) -> None:
    for _ in range(calls):
        body = {"model": "mock", "messages": [{"role": "user", "content": "x" * 500_000}]}
        service.client.post("/v1/chat/completions", json=body).raise_for_status()


def test_fault_s8_a_long_reader_makes_the_log_grow_only_as_long_as_it_reads(start):
    service = start()
    ask_much(service, 10)
    usual = write_ahead_log(service)

    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db", isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from exchanges").fetchone()
        ask_much(service, 20)
        grown = write_ahead_log(service)
    ask_much(service, 20)

    assert usual < 16 * 2**20
    assert grown > usual + 16 * 2**20
    assert write_ahead_log(service) < grown + 8 * 2**20  # as much again would be 24 or more


def test_fault_s10_a_process_stores_what_another_one_that_died_had_in_its_spool(tmp_path, start):
    first, second = (start(tmp_path, AI_PROXY_RECORDER__WAIT=0.3) for _ in range(2))
    first.ask("before").raise_for_status()

    with closing(sqlite3.connect(tmp_path / "data" / "ai-proxy.db", isolation_level=None)) as owner:
        owner.execute("begin immediate")
        for number in range(5):
            first.ask(f"first {number}").raise_for_status()
            second.ask(f"second {number}").raise_for_status()
        first.stop(signal.SIGKILL)
    second.ask("after").raise_for_status()

    expected = sorted(["before", "after", *(f"{name} {number}" for name in ("first", "second") for number in range(5))])
    second.eventually(lambda: questions(second) == expected, 10)
    second.eventually(lambda: not list((tmp_path / "data" / "spool").glob("*.spool")), 10)
    assert ledger.usage(second)[0] == ledger.usage(second)[1]


def test_fault_s4_a_place_where_nothing_can_be_written_is_no_hindrance_with_a_database_elsewhere(
    postgres, start, tmp_path
):
    (tmp_path / "data").write_text("no directory")
    store = Store(postgres.new_database(), tmp_path)
    service = start(tmp_path, **store.settings, AI_PROXY_RECORDER__WAIT=0.3)
    service.ask("before").raise_for_status()

    with store.locked():
        answers = [service.ask(f"meanwhile {number}").status_code for number in range(3)]
        ready = service.client.get("/readyz")

    assert answers == [200, 503, 503]  # the first one notices it
    assert ready.json()["checks"]["history"] == "failing"
    expected = [("before",), ("meanwhile 0",)]
    service.eventually(lambda: store.query("select question from exchanges order by id") == expected, 10)
    service.eventually(lambda: service.client.get("/readyz").status_code == 200)
