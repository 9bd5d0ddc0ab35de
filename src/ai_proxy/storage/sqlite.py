"""What is SQLite's own: a file that may be replaced, one writer at a time, and a driver with threads."""

import asyncio
import errno
import os
import sqlite3
import struct
import threading
import time
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

# How the threads of the driver's connections are named, after a function of the driver's own:
# https://github.com/omnilib/aiosqlite/blob/v0.22.1/aiosqlite/core.py#L48
DRIVER_THREAD = "(_connection_worker_thread)"

_BUSY_TIMEOUT_MS = 2000
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DRIVER_PATIENCE = 0.5
_LOG_KEPT = 64 * 2**20  # bytes of the write-ahead log that stay when it begins anew
_LOG_LONG = 256 * 2**20  # bytes that are worth a warning
_LOG_LOOK = 10.0  # seconds between two looks at it
# How it begins, and in which order of bytes its checksums are made: https://www.sqlite.org/fileformat2.html#walformat
_LOG_HEADER = 32  # bytes
_LOG_ORDERS = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}

log = structlog.get_logger()


class SQLite:
    """A database in a file in `directory`, which is made for its owner alone: what people ask is in it."""

    beginning_of_change: tuple[str, ...] = ("BEGIN IMMEDIATE",)
    # To change a table is to make it anew, and to drop it while rows refer to it, so foreign keys do not hold
    # (https://www.sqlite.org/lang_altertable.html#otheralter).
    beginning_of_migration: tuple[str, ...] = ("PRAGMA foreign_keys = OFF", "BEGIN IMMEDIATE")
    patience: float | None = None  # every wait has an end of its own: see busy_timeout
    one_writer = True

    def __init__(self, url: str, directory: Path) -> None:
        _make(directory)
        self._url = url
        self._path = (make_url(url).database or "").removeprefix("file:")
        if is_log_damaged(self._path):
            message = f"ai-proxy: DATABASE_URL: the database cannot be used: its log {self._path}-wal is damaged"
            raise SystemExit(message)
        self._file: tuple[int, int] | None = None
        self._log_looked = 0.0
        self._log_is_long = False

    def readers(self, **pool: Any) -> AsyncEngine:
        return self.engine(**pool)

    def engine(self, **pool: Any) -> AsyncEngine:
        # Parameters are texts of callers, and errors are logged.
        engine = create_async_engine(self._url, hide_parameters=True, **pool)
        event.listen(engine.sync_engine, "connect", _tune)
        return engine

    def was_replaced(self) -> bool:
        """Whether open connections lead to another file than is there now: what they write would be lost."""
        self._watch_log()
        found = _identity(self._path)
        if self._file is None:
            self._file = found
        return found != self._file

    def follow(self) -> None:
        """Take the file that is there now. Raises `FileNotFoundError`: none is made in place of one that is gone."""
        found = _identity(self._path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the database file is gone")
        self._file = found

    def log_bytes(self) -> int:
        """How long the write-ahead log is. It begins anew when nobody reads what is before its end."""
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0

    def _watch_log(self) -> None:
        now = time.monotonic()
        if now - self._log_looked < _LOG_LOOK:
            return
        self._log_looked = now
        was_long, self._log_is_long = self._log_is_long, self.log_bytes() > _LOG_LONG
        if self._log_is_long and not was_long:
            log.warning("database: somebody reads for very long, so the write-ahead log grows", bytes=self.log_bytes())

    @staticmethod
    def is_busy(error: BaseException) -> bool:
        """Whether this is a lock that another process holds."""
        code: int | None = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _BUSY  # above are the details: https://www.sqlite.org/rescode.html

    @staticmethod
    def is_away(error: BaseException) -> bool:
        """Whether an error that is not of a class for this tells of a database that is away."""
        return type(error) is sqlite3.DatabaseError  # its subclasses are about the row

    @staticmethod
    def is_passing(_: BaseException) -> bool:
        """Whether it may be there again by itself: only a lock passes, and that is busy."""
        return False

    async def close(self) -> None:
        await asyncio.to_thread(_await_driver)


def is_log_damaged(path: str) -> bool:
    """Whether the write-ahead log does not begin as one: SQLite would take it for empty, and write over what is in it.

    No crash leaves it so: its beginning is on the disk before anything follows.
    """
    try:
        with open(f"{path}-wal", "rb") as file:
            header, more = file.read(_LOG_HEADER), file.read(1)
    except OSError:
        return False
    return bool(more) and not _is_log_header(header)


def _is_log_header(header: bytes) -> bool:
    order = _LOG_ORDERS.get(header[:4])
    if order is None:
        return False
    first = second = 0
    for one, other in struct.iter_unpack(f"{order}2I", header[:-8]):
        first = (first + one + second) % 2**32
        second = (second + other + first) % 2**32
    return header[-8:] == struct.pack(">2I", first, second)


def _await_driver() -> None:
    """The driver ends the threads of connections that failed to open by itself. They must not find the loop closed."""
    give_up = time.monotonic() + _DRIVER_PATIENCE
    for thread in threading.enumerate():
        if thread.name.endswith(DRIVER_THREAD):
            thread.join(max(0.0, give_up - time.monotonic()))


def _identity(path: str) -> tuple[int, int] | None:
    """Which file is at this path now; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"ai-proxy: DATABASE_URL: cannot make the directory of the database: {error.strerror}"
        raise SystemExit(message) from None


def _tune(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Readers beside a writer (WAL); a commit survives a power cut too, and costs an fsync (FULL)."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
