"""Statements that insert or leave, insert or add: each database has its own `insert` for them."""

from collections.abc import Callable, Sequence
from importlib import import_module
from operator import itemgetter
from typing import Any

from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.compiler import SQLCompiler

from ai_proxy.storage.engine import Connection

# Both databases' inserts take the same clauses; the type is that of one of them.
MakeInsert = Callable[[type[DeclarativeBase]], Insert]
Build = Callable[[MakeInsert], Insert]


class PerDatabase:
    """A statement that is built once for each kind of database, with that one's own `insert`.

    Call it with the connection that it is for: `await connection.execute(_add(connection), rows)`.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        self._built: dict[str, Insert] = {}
        self._compiled: dict[str, SQLCompiler] = {}

    async def write(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Execute it for rows that have the same names. Returns how many are new.

        The driver gets the values as they are, which must be such as it takes: SQLAlchemy's look at each of them costs
        18 µs for a row of the history, a twentieth of a call.
        """
        name = connection.dialect.name
        if (compiled := self._compiled.get(name)) is None:
            statement = self(connection).compile(dialect=connection.dialect, column_keys=list(rows[0]))
            compiled = self._compiled[name] = statement
        order = compiled.positiontup
        values: Any = rows if order is None else list(map(itemgetter(*order), rows))
        options = {"preserve_rowcount": True}
        result = await connection.exec_driver_sql(str(compiled), values, execution_options=options)
        return result.rowcount

    def __call__(self, connection: Connection) -> Insert:
        name = connection.dialect.name
        if (statement := self._built.get(name)) is None:
            dialect: Any = import_module(f"sqlalchemy.dialects.{name}")
            statement = self._built[name] = self._build(dialect.insert)
        return statement


def insert_ignoring(table: type[DeclarativeBase]) -> PerDatabase:
    """Insert rows; one that is there already stays as it is. The result's `rowcount` is how many are new."""

    def build(insert: MakeInsert) -> Insert:
        return insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)

    return PerDatabase(build)


def insert_adding(table: type[DeclarativeBase], *, dimensions: tuple[str, ...], sums: tuple[str, ...]) -> PerDatabase:
    """Insert rows; where there is one of the same `dimensions`, its `sums` grow by those of the new one."""

    def build(insert: MakeInsert) -> Insert:
        new = insert(table)
        grown = {name: table.__table__.c[name] + new.excluded[name] for name in sums}
        return new.on_conflict_do_update(index_elements=dimensions, set_=grown)

    return PerDatabase(build)
