"""Reports of what was called and what it cost. An administrator sees all, others what is theirs."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.money import dollars
from ai_proxy.core.types import Actor
from ai_proxy.services import audit
from ai_proxy.services.days import day
from ai_proxy.storage import usage
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.records import SUMS
from ai_proxy.storage.usage import Question

DIMENSIONS = ("day", "key", "user", "project", "provider", "model")
FIGURES = (*SUMS[:-1], "cost_usd")  # the cost is the last of the sums
MAX_ROWS = 10_000

_NAMED = ("key", "user", "project")
_DAYS = 30
_FEW = 500  # rows: with more of them, calls would wait for a report


class Report(NamedTuple):
    """`columns` are the names that every item has. The days `first` to `last` are both in it."""

    first: str
    last: str
    columns: Sequence[str]
    items: Sequence[Mapping[str, Any]]
    total: Mapping[str, Any]


def question(first: str | None, last: str | None, group_by: str, filters: Mapping[str, str | None]) -> Question:
    """What a person asks: days such as `2026-11-23` (the last 30, if none are given), and names such as `day,model`.

    Raises `BadRequest`.
    """
    end = _today() if last is None else day(last, "to")
    begin = end - timedelta(days=min(_DAYS - 1, (end - date.min).days)) if first is None else day(first, "from")
    if begin > end:
        message = "from: must not be after to."
        raise BadRequest(message, param="from")
    return Question(
        first=begin.isoformat(),
        last=end.isoformat(),
        group_by=_dimensions(group_by),
        filters={name: value for name, value in filters.items() if value is not None},
    )


async def report(database: Database, actor: Actor, asked: Question) -> Report:
    """Raises `BadRequest` when there are too many rows."""
    visible_to = None if actor.role == "admin" else actor.user_id
    async with database.transaction() as connection:
        return await summed(connection, asked, visible_to=visible_to)


async def export(database: Database, actor: Actor, asked: Question) -> Report:
    """The same, to be carried away, which is noted first. The database's lock is not held while the rows are read."""
    found = await report(database, actor, asked)
    details = {"from": asked.first, "to": asked.last, "group_by": asked.group_by, "filters": asked.filters}
    async with database.transaction() as connection:
        await audit.note(connection, actor, "usage.export", "usage", rows=len(found.items), **details)
    return found


async def summed(connection: Connection, asked: Question, *, visible_to: str | None = None) -> Report:
    """The sums that are asked for, whoever asks. Raises `BadRequest` when there are too many rows."""
    rows = await usage.report(connection, asked, visible_to=visible_to, limit=MAX_ROWS + 1)
    if len(rows) > MAX_ROWS:
        message = f"There are more than {MAX_ROWS} rows: ask for fewer days, group by less, or filter."
        raise BadRequest(message, param="group_by")
    if len(rows) > _FEW:
        return await asyncio.to_thread(_report, asked, rows)
    return _report(asked, rows)


def _report(asked: Question, rows: Sequence[Sequence[Any]]) -> Report:
    words = _columns(asked.group_by)
    split = len(words)
    items = [
        {**{name: text or None for name, text in zip(words, row, strict=False)}, **_figures(row[split:])}
        for row in rows
    ]
    total = [sum(figure) for figure in zip(*(row[split:] for row in rows), strict=True)] or [0] * len(SUMS)
    return Report(asked.first, asked.last, [*words, *FIGURES], items, _figures(total))


def _figures(sums: Sequence[int]) -> dict[str, Any]:
    """The sums, in the order of `SUMS`, as they are shown."""
    *counts, cost = sums
    return {**dict(zip(FIGURES, counts, strict=False)), "cost_usd": dollars(cost)}


def _columns(group_by: Sequence[str]) -> list[str]:
    """What is grouped by; an identifier is followed by the name of what it stands for."""
    return [column for name in group_by for column in ((name, f"{name}_name") if name in _NAMED else (name,))]


def _dimensions(text: str) -> Sequence[str]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not set(names) <= set(DIMENSIONS):
        message = f"group_by: one or more of {', '.join(DIMENSIONS)}, with commas between them."
        raise BadRequest(message, param="group_by")
    return names


def _today() -> date:
    return datetime.fromtimestamp(time.time(), UTC).date()
