"""`ai-proxy db backup` and `ai-proxy db restore`: each row is there again, whoever writes meanwhile."""

import os
import sqlite3
import stat
import subprocess
import threading
from contextlib import closing

import pytest

from tests import postgres
from tests.service import AI_PROXY, Service, environment
from tests.stores import STORES, Store

CLIENT_PROGRAMS = {"PATH": f"{postgres.BIN}:{os.environ['PATH']}"}


@pytest.fixture
def run(tmp_path):
    """Runs `ai-proxy …` with a store's settings."""

    def run(store: Store, *words: str, **settings) -> subprocess.CompletedProcess:
        env = environment(**{**CLIENT_PROGRAMS, **store.settings, **settings})
        return subprocess.run(
            [AI_PROXY, *words], check=False, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100
        )

    return run


@pytest.fixture(params=STORES)
def stores(request, tmp_path) -> tuple[Store, Store]:
    """Two databases of one kind, both empty."""

    def new(name: str) -> Store:
        directory = tmp_path / name
        directory.mkdir()
        if request.param == "sqlite":
            return Store(f"sqlite:///{directory}/x.db", directory)
        return Store(request.getfixturevalue("postgres").new_database(), directory)

    return new("first"), new("second")


def rows(store: Store) -> list[tuple]:
    return list(store.query("select id, question, answer from exchanges order by id"))


def test_a_backup_under_load_is_restored_with_every_row_that_was_there(stores, start, run, tmp_path):
    first, second = stores
    service: Service = start(AI_PROXY_MOCK__TOKEN_DELAY=0, **first.settings)
    before = [service.ask(f"question {number}").json()["id"] for number in range(20)]
    over = threading.Event()
    asking = threading.Thread(target=lambda: [service.ask("more") for _ in range(10_000) if not over.is_set()])
    asking.start()

    done = run(first, "db", "backup", str(tmp_path / "backup"))
    over.set()
    asking.join()
    restored = run(second, "db", "restore", str(tmp_path / "backup"))

    assert (done.returncode, restored.returncode) == (0, 0), done.stderr + restored.stderr
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    found = rows(second)
    assert set(before) <= {row[0] for row in found}
    assert set(found) <= set(rows(first))
    assert second.query("select sum(calls) from daily_usage")[0][0] == len(found)
    assert not (tmp_path / "backup.part").exists()
    assert start(**second.settings).ask("again").status_code == 200


def test_both_say_what_is_not_in_the_file(stores, run, tmp_path):
    first, second = stores
    run(first, "db", "upgrade")

    told = [run(first, "db", "backup", "b").stdout, run(second, "db", "restore", "b").stdout]

    assert all("Not in it, and no key works without it: AI_PROXY_SECRET." in text for text in told)


def test_the_file_of_the_secret_is_named(tmp_path, run):
    store = Store(f"sqlite:///{tmp_path}/data/x.db", tmp_path / "data")
    run(store, "db", "upgrade")

    told = run(store, "db", "backup", "b", AI_PROXY_SECRET="").stdout

    assert f"no key works without it: the file {tmp_path}/data/secret." in told


def test_a_file_that_is_there_is_replaced_only_when_that_is_said(stores, run, tmp_path):
    first, _ = stores
    run(first, "db", "upgrade")
    (tmp_path / "b").write_text("precious")

    refused, forced = run(first, "db", "backup", "b"), run(first, "db", "backup", "b", "--force")

    assert (refused.returncode, refused.stderr) == (1, "ai-proxy: b is there already: say --force to replace it\n")
    assert forced.returncode == 0


def test_what_is_no_backup_is_not_restored(stores, run, tmp_path):
    first, _ = stores
    run(first, "db", "upgrade")
    (tmp_path / "b").write_text("nonsense")

    done = run(first, "db", "restore", "b")

    assert done.returncode == 1
    assert done.stderr.startswith("ai-proxy: ")
    assert len(done.stderr.splitlines()) == 1
    assert first.query("select version_num from alembic_version")


def test_nothing_is_restored_while_a_service_runs(stores, start, run):
    first, _ = stores
    service = start(**first.settings)
    service.ask("one")
    run(first, "db", "backup", "b")

    done = run(first, "db", "restore", "b", "--force")

    assert done.returncode == 1
    assert "is in use: stop the service first" in done.stderr
    assert service.ask("two").status_code == 200
    assert len(rows(first)) == 2


def test_a_backup_of_a_newer_version_is_refused(stores, run):
    first, second = stores
    run(first, "db", "upgrade")
    first.query("update alembic_version set version_num = '9999'")
    run(first, "db", "backup", "b")

    done = run(second, "db", "restore", "b")

    assert done.returncode == 1
    assert not second.file.exists()


def test_the_former_file_stays(tmp_path, run):
    store = Store(f"sqlite:///{tmp_path}/data/x.db", tmp_path / "data")
    store.file = tmp_path / "data" / "x.db"
    run(store, "db", "upgrade")
    run(store, "db", "backup", "b")
    store.query("insert into users (id, name, role, created_at) values ('u', 'later', 'member', 1)")

    done = run(store, "db", "restore", "b")

    assert done.returncode == 0, done.stderr
    (former,) = (tmp_path / "data").glob("x.db.before-restore-*")
    with closing(sqlite3.connect(former)) as connection:
        assert connection.execute("select count(*) from users where name = 'later'").fetchone() == (1,)
    assert store.query("select count(*) from users where name = 'later'") == [(0,)]


def test_a_damaged_database_gives_way_to_its_backup(tmp_path, run):
    store = Store(f"sqlite:///{tmp_path}/data/x.db", tmp_path / "data")
    run(store, "db", "upgrade")
    run(store, "db", "backup", "b")
    (tmp_path / "data" / "x.db").write_bytes(b"damaged" * 1000)

    done = run(store, "db", "restore", "b")

    assert done.returncode == 0, done.stderr
    assert store.query("select count(*) from exchanges") == [(0,)]


def test_a_damaged_backup_is_refused(tmp_path, run):
    store = Store(f"sqlite:///{tmp_path}/data/x.db", tmp_path / "data")
    run(store, "db", "upgrade")
    run(store, "db", "backup", "b")
    backup = tmp_path / "b"
    backup.write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])

    done = run(store, "db", "restore", "b")

    assert done.returncode == 1
    assert not list((tmp_path / "data").glob("*restor*"))


def test_a_server_with_rows_gives_way_only_when_that_is_said(postgres, tmp_path, start, run):
    store = Store(postgres.new_database(), tmp_path)
    service = start(**store.settings)
    service.ask("one")
    run(store, "db", "backup", "b")
    service.ask("two")
    service.stop()

    refused, forced = run(store, "db", "restore", "b"), run(store, "db", "restore", "b", "--force")

    assert (refused.returncode, forced.returncode) == (1, 0), forced.stderr
    assert "the database is not empty" in refused.stderr
    assert [row[1] for row in rows(store)] == ["one"]


def test_a_service_is_seen_by_whatever_name_the_address_gives_it(postgres, tmp_path, start, run):
    url = postgres.new_database()
    store = Store(f"{url}{'&' if '?' in url else '?'}application_name=gateway", tmp_path)
    start(**store.settings).ask("one")
    run(store, "db", "backup", "b")

    refused = run(store, "db", "restore", "b", "--force")

    assert (refused.returncode, "the database is in use" in refused.stderr) == (1, True), refused.stderr


def test_without_the_programs_of_the_server_it_is_one_clear_line(postgres, tmp_path, run):
    store = Store(postgres.new_database(), tmp_path)

    done = run(store, "db", "backup", "b", PATH="/nowhere")

    assert done.stderr.startswith("ai-proxy: pg_dump is not in the PATH")
    assert not (tmp_path / "b").exists()


def test_a_password_is_no_argument_of_the_programs(postgres, tmp_path, run):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pg_dump").write_text('#!/bin/sh\necho "$@" > arguments\necho "$PGPASSWORD" > password\nexit 1\n')
    (programs / "pg_dump").chmod(0o700)
    store = Store(postgres.new_database().replace("postgres@", "postgres:h%40rd@"), tmp_path)

    done = run(store, "db", "backup", "b", PATH=f"{programs}:/bin:/usr/bin")

    assert done.stderr == "ai-proxy: pg_dump: it failed and says nothing\n"
    assert "h@rd" not in (tmp_path / "arguments").read_text()
    assert (tmp_path / "password").read_text() == "h@rd\n"
