"""What is PostgreSQL's own: a server that may be far, gone or silent, and texts without NUL.

Imported only where the settings name such a server, because the driver takes its time to load.
"""

import re
from typing import Any, cast

import psycopg
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_CONNECT_TIMEOUT = 5  # seconds
_STATEMENT_TIMEOUT_MS = 10_000
_LOCK_TIMEOUT_MS = 2000  # as long as SQLite's
_PATIENCE = 20.0  # seconds that one transaction may take: a server that was stopped times nothing out itself

# Keys of advisory locks are any numbers that all who use the database agree upon:
# https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
_CHANGES, _MIGRATIONS = 4_714_001, 4_714_002

_READ_ONLY = "25006"  # read_only_sql_transaction
# The server says so of itself, and again when it changes (since version 14):
# https://www.postgresql.org/docs/current/libpq-status.html#LIBPQ-PQPARAMETERSTATUS
_SIGNS_OF_READ_ONLY = (b"in_hot_standby", b"default_transaction_read_only")
_USED = "used"

_BUSY = frozenset({"55P03", "40P01", "40001"})  # lock_not_available, deadlock_detected, serialization_failure
# undefined_table, undefined_column, invalid_schema_name, insufficient_privilege: the database, not the row
_AWAY = frozenset({"42P01", "42703", "3F000", "42501"})

# Connections, resources, an operator's intervention, a server that is a standby as yet; what is busy
_PASSING = re.compile(f"08|53|57(?!P04)|{_READ_ONLY}|55P03|40")
# Errors in connecting have no code, only a text. A server that says something there will not have us, but for these.
_REFUSED = re.compile(
    r"FATAL:(?!.*(starting up|shutting down|recovery mode|not yet accepting|too many|slots are reserved"
    r"|no more connections|terminating connection|server_login|query_wait_timeout))"
    r"|support SSL|certificate verify|certificate file|SSL error|no password supplied|authentication method"
)

_USUAL = {
    "connect_timeout": _CONNECT_TIMEOUT,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
    "application_name": "ai-proxy",
}


class PostgreSQL:
    """A database on a server. What the URL says of a connection goes before what is usual here."""

    # Whoever reads in order to change takes turns, as with SQLite: the lock is given back when the transaction ends.
    beginning_of_change: tuple[str, ...] = (f"SELECT pg_advisory_xact_lock({_CHANGES})",)
    beginning_of_migration: tuple[str, ...] = (
        "SET LOCAL statement_timeout = 0",
        f"SELECT pg_advisory_xact_lock({_MIGRATIONS})",
    )
    patience: float | None = _PATIENCE
    one_writer = False

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        said = self._url.query
        limits = f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} -c lock_timeout={_LOCK_TIMEOUT_MS}"
        self._arguments: dict[str, Any] = {name: value for name, value in _USUAL.items() if name not in said}
        self._arguments["options"] = f"{limits} {said.get('options', '')}".strip()
        _check({name: value for name, value in said.items() if isinstance(value, str)})

    def readers(self, **pool: Any) -> AsyncEngine:
        """Connections are tried before they are used, so that a server that was restarted costs no caller an error."""
        return self.engine(pool_pre_ping=True, **pool)

    def engine(self, **pool: Any) -> AsyncEngine:
        # Parameters are texts of callers, and errors are logged.
        engine = create_async_engine(self._url, hide_parameters=True, connect_args=self._arguments, **pool)
        event.listen(engine.sync_engine, "connect", _without_nul)
        event.listen(engine.sync_engine, "checkout", _not_again_if_read_only)
        event.listen(engine.sync_engine, "handle_error", _without_details)
        event.listen(engine.sync_engine, "handle_error", _leave_read_only)
        return engine

    def was_replaced(self) -> bool:
        return False

    def follow(self) -> None:
        """There is no file to follow."""

    @staticmethod
    def is_busy(error: BaseException) -> bool:
        """Whether this is a lock that another process holds."""
        return getattr(error, "sqlstate", None) in _BUSY

    @staticmethod
    def is_away(error: BaseException) -> bool:
        """Whether an error that is not of a class for this tells of a database that is away."""
        return isinstance(error, psycopg.InternalError) or getattr(error, "sqlstate", None) in _AWAY

    @staticmethod
    def is_passing(error: BaseException) -> bool:
        """Whether it may be there again by itself."""
        code = getattr(error, "sqlstate", None)
        return not _REFUSED.search(str(error)) if code is None else bool(_PASSING.match(code))

    def log_bytes(self) -> int:
        """It is the server's affair."""
        return 0

    async def close(self) -> None:
        """Connections are all there is to close."""


class _TextDumper(StrDumperUnknown):
    """PostgreSQL has no NUL in its texts: https://www.postgresql.org/docs/current/datatype-character.html"""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\x00", "\ufffd"))


def _without_nul(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cast("Any", connection).driver_connection.adapters.register_dumper(str, _TextDumper)


def _not_again_if_read_only(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
    """A connection to a server that is read-only is used once: another server may be at that address by now.

    Whoever only reads gets no error there, and would go on reading what was so when it was demoted.
    """
    told = cast("Any", connection).driver_connection.pgconn.parameter_status
    if record.info.get(_USED) and any(told(sign) == b"on" for sign in _SIGNS_OF_READ_ONLY):
        raise DisconnectionError
    record.info[_USED] = True


def _leave_read_only(context: ExceptionContext) -> None:
    """Who is to write and cannot is at the wrong server: SQLAlchemy then makes all connections of the pool anew."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


def _without_details(context: ExceptionContext) -> None:
    """Errors are logged, and those of the server repeat the row in a line of its own."""
    error = context.original_exception
    first = str(error).partition("\n")[0]
    if isinstance(error, psycopg.Error) and context.sqlalchemy_exception is not None:
        error.args = (first,)
        context.sqlalchemy_exception.args = (f"({type(error).__module__}.{type(error).__qualname__}) {first}",)


def _check(query: dict[str, str]) -> None:
    """Exits with a clear line if the driver does not know what the URL says of a connection."""
    try:
        psycopg.conninfo.make_conninfo("", **query)
    except psycopg.Error as error:
        message = f"ai-proxy: DATABASE_URL: {str(error).strip()}"
        raise SystemExit(message) from None
