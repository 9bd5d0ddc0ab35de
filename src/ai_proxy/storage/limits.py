"""Queries on limits and budgets. They are set in the transaction of what tells of it."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Row

from ai_proxy.core.types import Budget, Limit, Period
from ai_proxy.storage import tables
from ai_proxy.storage.engine import Connection
from ai_proxy.storage.subjects import visible_to


async def limit_of(connection: Connection, subject: str) -> Limit | None:
    query = select(tables.Limit.__table__).where(tables.Limit.subject == subject)
    row = (await connection.execute(query)).first()
    return None if row is None else Limit(**row._mapping)


async def limits(connection: Connection, *, visible: str | None = None) -> Sequence[Limit]:
    """Those that the user `visible` may see, None for all."""
    query = select(tables.Limit.__table__).order_by(tables.Limit.subject)
    if visible is not None:
        query = query.where(visible_to(visible, tables.Limit.subject))
    return [Limit(**row._mapping) for row in await connection.execute(query)]


async def set_limit(connection: Connection, limit: Limit) -> None:
    """In place of the one that the subject has, if it has one."""
    await remove_limit(connection, limit.subject)
    values = {
        "subject": limit.subject,
        "requests_per_minute": limit.requests_per_minute,
        "tokens_per_minute": limit.tokens_per_minute,
        "concurrent": limit.concurrent,
    }
    await connection.execute(insert(tables.Limit), values)


async def remove_limit(connection: Connection, subject: str) -> None:
    await connection.execute(delete(tables.Limit).where(tables.Limit.subject == subject))


async def budget_of(connection: Connection, subject: str, period: Period) -> Budget | None:
    query = select(tables.Budget.__table__).where(tables.Budget.subject == subject, tables.Budget.period == period)
    row = (await connection.execute(query)).first()
    return None if row is None else budget_from(row)


async def budgets(connection: Connection, *, visible: str | None = None) -> Sequence[Budget]:
    """Those that the user `visible` may see, None for all."""
    query = select(tables.Budget.__table__).order_by(tables.Budget.subject, tables.Budget.period)
    if visible is not None:
        query = query.where(visible_to(visible, tables.Budget.subject))
    return [budget_from(row) for row in await connection.execute(query)]


async def set_budget(connection: Connection, budget: Budget) -> None:
    """In place of the one that the subject has for the period, if it has one."""
    await remove_budget(connection, budget.subject, budget.period)
    values = {
        "subject": budget.subject,
        "period": budget.period,
        "amount": budget.amount,
        "alerts": json.dumps(budget.alerts),
    }
    await connection.execute(insert(tables.Budget), values)


async def remove_budget(connection: Connection, subject: str, period: Period) -> None:
    change = delete(tables.Budget).where(tables.Budget.subject == subject, tables.Budget.period == period)
    await connection.execute(change)


def budget_from(row: Row[Any]) -> Budget:
    return Budget(**{**row._mapping, "alerts": tuple(json.loads(row.alerts))})
