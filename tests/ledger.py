"""What is in the database, read without the server: quick, and possible when it is gone."""

import json
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


# The rows of `daily_usage` as the history has them.
SUMMED_UP = """
    select date(created_at / 1000000, 'unixepoch'), key_id, user_id, coalesce(project_id, ''), provider, model,
           count(*), sum(status = 'failed'), sum(cached),
           sum(status = 'completed' and cost is null and not cached and not mock), sum(input_tokens),
           sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens),
           coalesce(sum(cost), 0)
    from exchanges group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6
"""
DAYS = "select * from daily_usage order by day, key_id, user_id, project_id, provider, model"


def usage(service) -> tuple[list[tuple], list[tuple]]:
    """What `daily_usage` has, and what it must have."""
    with closing(_open(service)) as database:
        return database.execute(DAYS).fetchall(), database.execute(SUMMED_UP).fetchall()


def audit(service) -> list[dict]:
    """The entries of the audit log, newest first."""
    with closing(_open(service)) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute("select * from audit order by id desc")]
        return [{**entry, "details": json.loads(entry["details"])} for entry in found]


def change(service, statement: str, *parameters) -> None:
    """Make the database be as a test needs it. A running server may have it otherwise in mind for five seconds."""
    with closing(_open(service)) as database, database:
        database.execute(statement, parameters)


def _open(service) -> sqlite3.Connection:
    return sqlite3.connect(service.directory / "data" / "ai-proxy.db", timeout=10)
