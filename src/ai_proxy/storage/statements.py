"""Statements that are compiled once, and those that each database has its own form of.

To have SQLAlchemy look at a statement and its values takes it a millisecond, in which SQLite's one writer is kept from
others; at a row of the history 18 µs, a twentieth of a call.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from operator import itemgetter
from typing import Any

from sqlalchemy import ARRAY, Boolean, ClauseElement, ColumnElement, CursorResult, bindparam
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from ai_proxy.storage.engine import Connection

# Both databases' inserts take the same clauses; the type is that of one of them.
MakeInsert = Callable[[type[DeclarativeBase]], Insert]
Build = Callable[[MakeInsert], Insert]


class Prepared:
    """A statement whose values go to the driver as they are: numbers, texts, and lists of them for `among`."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, SQLCompiler] = {}

    async def execute(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        compiled = self._for(connection.dialect)
        return await connection.exec_driver_sql(str(compiled), _as_driver_takes(compiled, values))

    async def execute_each(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Once for each of the rows."""
        compiled = self._for(connection.dialect)
        await connection.exec_driver_sql(str(compiled), [_as_driver_takes(compiled, row) for row in rows])

    def _for(self, dialect: Dialect) -> SQLCompiler:
        if (compiled := self._compiled.get(dialect.name)) is None:
            made: Any = self._statement.compile(dialect=dialect)
            compiled = self._compiled[dialect.name] = made
        return compiled


def _as_driver_takes(compiled: SQLCompiler, values: Mapping[str, Any]) -> Any:
    """By name, or in the statement's order where the driver wants that: SQLite's, which takes a list as JSON."""
    given = {**compiled.params, **values}
    if (order := compiled.positiontup) is None:
        return given
    return tuple(json.dumps(value) if isinstance(value := given[name], list) else value for name in order)


class _Among(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """It is a condition by itself: SQLite would not use an index for `... = 1`."""
        return self


def among(column: InstrumentedAttribute[Any], name: str) -> ColumnElement[bool]:
    """That it has one of the values that a `Prepared` statement gets as `name`.

    One parameter, however many values there are: to read 200 takes PostgreSQL 5 ms.
    """
    return _Among(column, bindparam(name, type_=ARRAY(column.type)))


@compiles(_Among, "sqlite")
def _in_json(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - nobody's words


@compiles(_Among, "postgresql")
def _in_array(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


class PerDatabase:
    """An insert that is built once for each kind of database, with that one's own `insert`.

    Call it with the connection that it is for: `await connection.execute(_add(connection), rows)`.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        self._built: dict[str, Insert] = {}
        self._compiled: dict[str, SQLCompiler] = {}

    async def write(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Execute it for rows that have the same names. Returns how many are new.

        The driver gets the values as they are, which must be such as it takes.
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
