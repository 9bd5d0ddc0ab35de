"""The database: its engine, the transactions it hands out, and the errors of a database that is away."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ai_proxy.core.exceptions import DatabaseUnavailable

_POOL_SIZE = 5  # SQLite has one writer, and readers are short
_POOL_TIMEOUT = 5.0
_BUSY_TIMEOUT_MS = 2000
_DRIVER_PATIENCE = 0.5


class Database:
    """Use as an async context manager: connections are closed at its end."""

    def __init__(self, url: str, *, directory: Path) -> None:
        _make(directory)
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT,
            pool_use_lifo=True,
            hide_parameters=True,  # they are texts of callers, and errors are logged
        )
        # The history is written on a connection of its own, so that readers cannot keep it waiting.
        self._writer: AsyncEngine = create_async_engine(url, pool_size=1, max_overflow=0, hide_parameters=True)
        for engine in (self.engine, self._writer):
            event.listen(engine.sync_engine, "connect", _tune_sqlite)
        self._path = (self.engine.url.database or "").removeprefix("file:")
        self._file: tuple[int, int] | None = None

    async def __aenter__(self) -> "Database":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._dispose()
        await asyncio.to_thread(_await_driver)

    async def _dispose(self) -> None:
        await self.engine.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One connection, one transaction: committed here, and nowhere else. Raises `DatabaseUnavailable`."""
        async with self._begin(self.engine) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """The same for the one writer of the history."""
        async with self._begin(self._writer) as connection:
            yield connection

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


@contextmanager
def unavailable() -> Iterator[None]:
    """Errors of a database that is locked, full, read-only, damaged or gone, as ours.

    Their messages stay inside: they show SQL.
    """
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _away() from error
    except DBAPIError as error:
        if type(error) is not DatabaseError and not error.connection_invalidated:  # its subclasses are about the row
            raise
        raise _away() from error


def _away() -> DatabaseUnavailable:
    return DatabaseUnavailable("The database cannot be reached at the moment: try again in a few seconds.")


def _await_driver() -> None:
    """The driver ends the threads of connections that failed to open by itself. They must not find the loop closed."""
    for thread in threading.enumerate():
        if thread.name.endswith("(_connection_worker_thread)"):
            thread.join(_DRIVER_PATIENCE)


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
    cursor.close()
