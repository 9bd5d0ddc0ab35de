"""The database: the transactions it hands out, and the errors of a database that is away.

SQLite or PostgreSQL: what is one's own is in the file of that name.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from ai_proxy.core.exceptions import DatabaseUnavailable, Unstorable
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.sqlite import SQLite

T = TypeVar("T")

Connection = AsyncConnection

log = structlog.get_logger()

_POOL_SIZE = 5  # SQLite has one writer, and readers are short
_POOL_TIMEOUT = 5.0
_LOCK_PATIENCE, _LOCK_PAUSE = 10.0, 0.1  # seconds that a lock may last, and between two tries


class Kind(Protocol):
    """What one kind of database does in its own way.

    `patience` is how many seconds a transaction may take, None if waits end by themselves. `one_writer` is whether only
    one can write at a time.
    """

    beginning_of_change: tuple[str, ...]
    beginning_of_migration: tuple[str, ...]
    patience: float | None
    one_writer: bool

    def readers(self, **pool: Any) -> AsyncEngine: ...
    def engine(self, **pool: Any) -> AsyncEngine: ...
    def was_replaced(self) -> bool: ...
    def follow(self) -> None: ...
    def is_busy(self, error: BaseException) -> bool: ...
    def is_away(self, error: BaseException) -> bool: ...
    def is_passing(self, error: BaseException) -> bool: ...
    def log_bytes(self) -> int: ...
    async def close(self) -> None: ...


class Database:
    """Use as an async context manager: connections are closed at its end, for at most `closing_time` seconds.

    `patience` is how many seconds a transaction may take, instead of what is usual for this kind of database. `cipher`
    is what the texts in it are encrypted with, if they are.
    """

    def __init__(
        self,
        url: str,
        *,
        directory: Path,
        closing_time: float = 5.0,
        patience: float | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        self.cipher = cipher
        self._closing_time = closing_time
        self._kind = _kind_of(url, directory)
        self._patience = self._kind.patience if patience is None else patience
        self._readers = self._kind.readers(
            pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=_POOL_TIMEOUT, pool_use_lifo=True
        )
        # The history is written on a connection of its own, so that readers cannot keep it waiting.
        self._writer = self._kind.engine(pool_size=1, max_overflow=0)

    async def __aenter__(self) -> "Database":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._dispose()
        await self._kind.close()

    @property
    def log_bytes(self) -> int:
        """How long the log is that is written ahead of a file, which grows while somebody reads for long."""
        return self._kind.log_bytes()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One connection, one transaction, for reading and for changes in one statement. Raises `DatabaseUnavailable`.

        It is committed here, and nowhere else.
        """
        async with self._begin(self._readers) as connection:
            yield connection

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """The same, for what is read and then changed: nobody else who does so changes anything in between."""
        async with self._begin(self._readers) as connection:
            await _execute(connection, self._kind.beginning_of_change)
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """The same for the one writer of the history. Raises `Unstorable` too.

        What is not a row's own fault is one of the database's, whatever it is: other rows would fail for it as well.
        """
        try:
            async with self._begin(self._writer) as connection:
                yield connection
        except (DataError, IntegrityError) as error:
            message = "the database refuses the row"
            raise Unstorable(message) from error
        except DBAPIError as error:
            raise self._away(error) from error

    @asynccontextmanager
    async def background(self) -> AsyncIterator[AsyncConnection]:
        """The same for changes that nobody waits for. Where one writes at a time, they stand in that one's line.

        Who waits for SQLite's lock instead tries again after pauses that grow, and so does the history meanwhile.
        """
        async with self._begin(self._writer if self._kind.one_writer else self._readers) as connection:
            yield connection

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """The same for a migration, on a connection that nobody uses afterwards.

        The lock is taken at once, so that one process migrates at a time; a migration that fails leaves nothing behind.
        """
        with self._unavailable(whatever=True):
            await self._follow()
            async with self._kind.engine(poolclass=NullPool).connect() as connection:
                await _execute(connection, self._kind.beginning_of_migration)
                yield connection
                await connection.commit()

    @asynccontextmanager
    async def _begin(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        with self._unavailable():
            await self._follow()
            async with asyncio.timeout(self._patience), engine.begin() as connection:
                yield connection

    async def _follow(self) -> None:
        """Open the database anew when its file was replaced."""
        if self._kind.was_replaced():
            await self._dispose()
            self._kind.follow()

    @contextmanager
    def _unavailable(self, *, whatever: bool = False) -> Iterator[None]:
        """Errors of a database that is locked, full, read-only, damaged or gone, as ours; or all that it may raise.

        Their messages stay inside: they show SQL.
        """
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
            raise self._away(error) from error
        except DBAPIError as error:
            if whatever or error.connection_invalidated or (error.orig and self._kind.is_away(error.orig)):
                raise self._away(error) from error
            raise

    def _away(self, error: Exception) -> DatabaseUnavailable:
        away = DatabaseUnavailable("The database cannot be reached at the moment: try again in a few seconds.")
        if not error.args:  # of our own clock
            error.args = ("the database does not answer",)
        cause = getattr(error, "orig", None)
        away.busy = cause is not None and self._kind.is_busy(cause)
        timed_out = isinstance(error, TimeoutError | PoolTimeoutError)
        away.passing = away.busy or timed_out or self._kind.is_passing(cause or error)
        return away

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


async def _execute(connection: AsyncConnection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        await connection.exec_driver_sql(statement)


def _kind_of(url: str, directory: Path) -> Kind:
    if not url.startswith("postgresql"):
        return SQLite(url, directory)
    # Imported here for its driver: a start with SQLite should not pay for that.
    from ai_proxy.storage.postgresql import PostgreSQL  # noqa: PLC0415

    return PostgreSQL(url)
