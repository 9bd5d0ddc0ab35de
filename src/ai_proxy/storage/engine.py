"""The database: its engine, the transactions it hands out, and the errors of a database that is away."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ai_proxy.core.exceptions import DatabaseUnavailable

_POOL_SIZE = 5  # SQLite has one writer, and readers are short
_POOL_TIMEOUT = 5.0
_BUSY_TIMEOUT_MS = 2000


class Database:
    """Use as an async context manager: connections are closed at its end."""

    def __init__(self, url: str, *, directory: Path) -> None:
        _make(directory)
        self.engine: AsyncEngine = create_async_engine(
            url, pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=_POOL_TIMEOUT
        )
        event.listen(self.engine.sync_engine, "connect", _tune_sqlite)

    async def __aenter__(self) -> "Database":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One connection, one transaction: committed here, and nowhere else. Raises `DatabaseUnavailable`."""
        with unavailable():
            async with self.engine.begin() as connection:
                yield connection


@contextmanager
def unavailable() -> Iterator[None]:
    """Errors of a database that is locked, full, read-only or gone, as ours. Its message stays inside: it shows SQL."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _away() from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise _away() from error


def _away() -> DatabaseUnavailable:
    return DatabaseUnavailable("The database cannot be reached at the moment: try again in a few seconds.")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
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
