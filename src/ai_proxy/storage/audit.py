"""Queries on the audit log."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, insert, or_, select
from sqlalchemy.engine import Row

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import AuditEntry

_add = insert(AuditEntry)
# What a caller sends may be longer than its column. PostgreSQL would refuse it, and the change that it tells of.
_LONGEST = {"actor": 200, "target": 250, "address": 64, "request_id": 128}


async def add(connection: Connection, entry: dict[str, Any]) -> None:
    """Write one entry, in the transaction of what it tells."""
    cut = {name: entry[name][:longest] for name, longest in _LONGEST.items()}
    await connection.execute(_add, entry | cut)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries. `actor` is an identifier or a name; times are in microseconds, `since` is included."""

    action: str | None = None
    actor: str | None = None
    target: str | None = None
    since: int | None = None
    until: int | None = None


async def page(connection: Connection, wanted: Filter, *, before: str | None = None, limit: int) -> Sequence[Row[Any]]:
    """Newest first. Pass the last id of one page as `before` to get the next."""
    query = select(AuditEntry.__table__).where(*_conditions(wanted)).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return (await connection.execute(query)).all()


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.action is not None:
        found.append(AuditEntry.action == wanted.action)
    if wanted.actor is not None:
        found.append(or_(AuditEntry.actor_id == wanted.actor, AuditEntry.actor == wanted.actor))
    if wanted.target is not None:
        found.append(AuditEntry.target == wanted.target)
    if wanted.since is not None:
        found.append(AuditEntry.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(AuditEntry.created_at < wanted.until)
    return found
