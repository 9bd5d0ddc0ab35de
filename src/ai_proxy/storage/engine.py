"""The database: its engine, the transactions it hands out, and the errors of a database that is away."""

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from ai_proxy.core.exceptions import DatabaseUnavailable

T = TypeVar("T")

Connection = AsyncConnection

log = structlog.get_logger()

# How the threads of the driver's connections are named, after a function of the driver's own:
# https://github.com/omnilib/aiosqlite/blob/v0.22.1/aiosqlite/core.py#L48
DRIVER_THREAD = "(_connection_worker_thread)"

_POOL_SIZE = 5  # SQLite has one writer, and readers are short
_POOL_TIMEOUT = 5.0
_BUSY_TIMEOUT_MS = 2000
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DRIVER_PATIENCE = 0.5
_LOCK_PATIENCE, _LOCK_PAUSE = 10.0, 0.1  # seconds that a lock may last, and between two tries


class Database:
    """Use as an async context manager: connections are closed at its end, for at most `closing_time` seconds."""

    def __init__(self, url: str, *, directory: Path, closing_time: float = 5.0) -> None:
        _make(directory)
        self._closing_time = closing_time
        self._url = url
        self._readers = self._engine(
            pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=_POOL_TIMEOUT, pool_use_lifo=True
        )
        # The history is written on a connection of its own, so that readers cannot keep it waiting.
        self._writer = self._engine(pool_size=1, max_overflow=0)
        self._path = (self._readers.url.database or "").removeprefix("file:")
        self._file: tuple[int, int] | None = None

    async def __aenter__(self) -> "Database":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._dispose()
        await asyncio.to_thread(_await_driver)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One connection, one transaction, for reading and for changes in one statement. Raises `DatabaseUnavailable`.

        It is committed here, and nowhere else.
        """
        async with self._begin(self._readers) as connection:
            yield connection

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """The same, for what is read and then changed: nobody else changes anything in between."""
        async with self._begin(self._readers) as connection:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """The same for the one writer of the history."""
        async with self._begin(self._writer) as connection:
            yield connection

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """The same for a migration, on a connection that nobody uses afterwards.

        The lock is taken at once, so that one process migrates at a time; a migration that fails leaves nothing behind.
        Foreign keys do not hold: to change a table is to make it anew, and to drop it while rows refer to it
        (https://www.sqlite.org/lang_altertable.html#otheralter).
        """
        with unavailable():
            await self._follow_file()
            async with self._engine(poolclass=NullPool).connect() as connection:
                await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                await connection.commit()

    @asynccontextmanager
    async def _begin(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        with unavailable():
            await self._follow_file()
            async with engine.begin() as connection:
                yield connection

    async def _follow_file(self) -> None:
        """Open the database anew when its file was replaced, and never make a new one in place of one that is gone.

        What is written through connections to the old file would be lost.
        """
        found = _identity(self._path)
        if self._file is None:
            self._file = found
        elif found != self._file:
            await self._dispose()
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "the database file is gone")
            self._file = found

    def _engine(self, **pool: Any) -> AsyncEngine:
        # Parameters are texts of callers, and errors are logged.
        engine = create_async_engine(self._url, hide_parameters=True, **pool)
        event.listen(engine.sync_engine, "connect", _tune_sqlite)
        return engine

    async def _dispose(self) -> None:
        """Close the connections that are not in use. A disk that does not answer holds nobody up for ever."""
        closing = [asyncio.ensure_future(engine.dispose()) for engine in (self._readers, self._writer)]
        closed, stuck = await asyncio.wait(closing, timeout=self._closing_time)
        if stuck:
            log.error("database: connections that could not be closed are left", seconds=self._closing_time)
        for task in stuck:
            task.cancel()
        for task in closed:
            task.result()


async def outlast_lock(work: Callable[[], Awaitable[T]]) -> T:
    """Do something with the database, again and again while another process holds its lock, for at most 10 s.

    Raises `DatabaseUnavailable`. What is done must be harmless when it is done a second time after a failure.
    """
    give_up = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            return await work()
        except DatabaseUnavailable as error:
            if not error.busy or time.monotonic() > give_up:
                raise
        await asyncio.sleep(_LOCK_PAUSE)


@contextmanager
def unavailable() -> Iterator[None]:
    """Errors of a database that is locked, full, read-only, damaged or gone, as ours.

    Their messages stay inside: they show SQL.
    """
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _away(error) from error
    except DBAPIError as error:
        if type(error) is not DatabaseError and not error.connection_invalidated:  # its subclasses are about the row
            raise
        raise _away(error) from error


def _away(error: Exception) -> DatabaseUnavailable:
    away = DatabaseUnavailable("The database cannot be reached at the moment: try again in a few seconds.")
    code: int | None = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    away.busy = code is not None and code & 0xFF in _BUSY  # above are the details: https://www.sqlite.org/rescode.html
    return away


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
    """The directory of the database, for its owner alone: what people ask is in it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"ai-proxy: DATABASE_URL: cannot make the directory of the database: {error.strerror}"
        raise SystemExit(message) from None


def _tune_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Readers beside a writer (WAL); a commit survives the process's death and costs no fsync (NORMAL)."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
