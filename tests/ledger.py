"""What is in the database, read without the server: quick, and possible when it is gone."""

import sqlite3
from contextlib import closing
from typing import NamedTuple


class Row(NamedTuple):
    id: str
    question: str
    answer: str
    status: str
    error: str | None


def count(service) -> int:
    """How many exchanges are recorded."""
    with closing(_open(service)) as database:
        return database.execute("select count(*) from exchanges").fetchone()[0]


def rows(service, question: str | None = None) -> list[Row]:
    """Oldest first: the exchanges with this question, or all of them."""
    fields = ", ".join(Row._fields)
    with closing(_open(service)) as database:
        found = database.execute(f"select {fields} from exchanges order by id")  # noqa: S608 - our own names
        return [row for row in map(Row._make, found) if question in {None, row.question}]


def _open(service) -> sqlite3.Connection:
    return sqlite3.connect(service.directory / "data" / "ai-proxy.db", timeout=10)
