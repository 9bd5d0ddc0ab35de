"""Queries on the audit log."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Row

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import AuditEntry

_add = insert(AuditEntry)


async def add(connection: Connection, entry: dict[str, Any]) -> None:
    """Write one entry, in the transaction of what it tells."""
    await connection.execute(_add, entry)


async def page(
    connection: Connection, *, before: str | None = None, action: str | None = None, limit: int = 50
) -> Sequence[Row[Any]]:
    """Newest first. Pass the last id of one page as `before` to get the next."""
    query = select(AuditEntry.__table__).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    if action is not None:
        query = query.where(AuditEntry.action == action)
    return (await connection.execute(query)).all()
