"""Statements that insert or leave, insert or add: each database has its own `insert` for them."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.orm import DeclarativeBase

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
