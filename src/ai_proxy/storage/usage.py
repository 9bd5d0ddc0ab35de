"""Queries on the sums of days: what was used and what it cost. The history itself is never looked through."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Select, case, cast, func, or_, select
from sqlalchemy.engine import Row

from ai_proxy.core.types import SERVICE, Period, Spending
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.records import SUMS
from ai_proxy.storage.tables import ApiKey, DailyUsage, Member, Project, User

_COLUMNS = {
    "day": DailyUsage.day,
    "key": DailyUsage.key_id,
    "user": DailyUsage.user_id,
    "project": DailyUsage.project_id,
    "provider": DailyUsage.provider,
    "model": DailyUsage.model,
}
_NAMED: Mapping[str, type[ApiKey | User | Project]] = {"key": ApiKey, "user": User, "project": Project}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be summed up: of which days (as `2026-11-23`, both included), by what, and of whom.

    `filters` are values of the same names that `group_by` may have.
    """

    first: str = ""
    last: str = "9999-12-31"
    group_by: Sequence[str] = ()
    filters: Mapping[str, str] = {}


async def report(
    connection: Connection, question: Question, *, visible_to: str | None, limit: int
) -> Sequence[Row[Any]]:
    """At most `limit` rows: what is grouped by (an identifier is followed by its name), and the sums, as in `SUMS`.

    `visible_to` is the user who must have made the calls, or be a member of their project; None for all.
    """
    grouped = _grouped(question, visible_to).limit(limit).subquery()
    query = select().select_from(grouped).order_by(*(grouped.c[name] for name in question.group_by))
    for name in question.group_by:
        query = query.add_columns(grouped.c[name])
        if table := _NAMED.get(name):
            query = query.add_columns(table.name.label(f"{name}_name"))
            query = query.outerjoin_from(grouped, table, table.id == grouped.c[name])
    return (await connection.execute(query.add_columns(*(grouped.c[name] for name in SUMS)))).all()


def _grouped(question: Question, visible_to: str | None) -> Select[*tuple[Any, ...]]:
    columns = [_COLUMNS[name].label(name) for name in question.group_by]
    sums = [_total(DailyUsage.__table__.c[name]).label(name) for name in SUMS]
    query = select(*columns, *sums).where(DailyUsage.day.between(question.first, question.last))
    for name, value in question.filters.items():
        query = query.where(_COLUMNS[name] == value)
    if visible_to is not None:
        query = query.where(_visible_to(visible_to))
    return query.group_by(*(_COLUMNS[name] for name in question.group_by)) if columns else query


def _total(amount: ColumnElement[int]) -> ColumnElement[int]:
    """A sum of nothing is 0, and one of whole numbers a whole number, which it is not everywhere."""
    return cast(func.coalesce(func.sum(amount), 0), BigInteger)


def _visible_to(user_id: str) -> ColumnElement[bool]:
    own_projects = select(Member.project_id).where(Member.user_id == user_id)
    return or_(DailyUsage.user_id == user_id, DailyUsage.project_id.in_(own_projects))


async def spending(database: Database, now: int) -> dict[str, Spending]:
    """What every key, user and project and the service have spent, in nano-dollars.

    `now` is in microseconds since the epoch: it says which day, week and month are the current ones.
    """
    owners = (DailyUsage.key_id, DailyUsage.user_id, DailyUsage.project_id)
    async with database.transaction() as connection:
        rows = (await connection.execute(select(*owners, *_spent(now)).group_by(*owners))).all()
    found: dict[str, list[int]] = {}
    for key, user, project, *amounts in rows:
        subjects = (f"key:{key}", f"user:{user}", f"project:{project}" if project else None, SERVICE)
        for subject in filter(None, subjects):
            found[subject] = [a + b for a, b in zip(found.get(subject, _NOTHING), amounts, strict=True)]
    return {subject: Spending(*amounts) for subject, amounts in found.items()}


_NOTHING = (0, 0, 0, 0)
_PERIODS: Sequence[Period] = ("day", "week", "month", "total")  # as Spending has them


def _spent(now: int) -> list[ColumnElement[int]]:
    begin = beginnings(now)
    return [_total(case((DailyUsage.day >= begin[period], DailyUsage.cost), else_=0)) for period in _PERIODS]


def beginnings(now: int) -> dict[Period, str]:
    """The first days (UTC) of the current periods. A week begins on Monday. `now` is in microseconds."""
    today = datetime.fromtimestamp(now / 1_000_000, UTC).date()
    return {
        "day": today.isoformat(),
        "week": (today - timedelta(days=today.weekday())).isoformat(),
        "month": today.replace(day=1).isoformat(),
        "total": "",
    }
