"""Queries on the API keys. Only digests are stored."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, exists, or_, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Row

from ai_proxy.core.types import OPERATOR_ID, Budget, Limit, Principal
from ai_proxy.storage import tables
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import ApiKey, User


async def find(database: Database, digest: str) -> Principal | None:
    """Whose key has this digest, and what it may do. None if nobody's, or if it is revoked or its user disabled.

    A key's former secret is found until `previous_until`, which is then when this expires; what has expired is found.
    """
    async with database.transaction() as connection:
        row = (await connection.execute(_found, {"digest": digest})).first()
        if row is None:
            return None
        principal = _principal(row, former=row.digest != digest)
        held = {"subjects": principal.subjects}
        limits = (await connection.execute(_limits, held)).all()
        budgets = (await connection.execute(_budgets, held)).all()
    return msgspec.structs.replace(
        principal,
        limits=tuple(Limit(**row._mapping) for row in limits),
        budgets=tuple(Budget(**{**row._mapping, "alerts": tuple(json.loads(row.alerts))}) for row in budgets),
    )


_found = (
    select(ApiKey.__table__, User.role)
    .join(User, User.id == ApiKey.user_id)
    .where(
        or_(ApiKey.digest == bindparam("digest"), ApiKey.previous_digest == bindparam("digest")),
        ApiKey.revoked_at.is_(None),
        User.disabled_at.is_(None),
    )
)
_limits = select(tables.Limit.__table__).where(tables.Limit.subject.in_(bindparam("subjects", expanding=True)))
_budgets = select(tables.Budget.__table__).where(tables.Budget.subject.in_(bindparam("subjects", expanding=True)))


def _principal(row: Row[Any], *, former: bool) -> Principal:
    ends = [at for at in (row.expires_at, row.previous_until if former else None) if at is not None]
    return Principal(
        key_id=row.id,
        name=row.name,
        user_id=row.user_id,
        project_id=row.project_id,
        role=row.role,
        scopes=frozenset(json.loads(row.scopes)),
        models=None if row.models is None else tuple(json.loads(row.models)),
        expires_at=min(ends, default=None),
    )


async def any_exist(database: Database) -> bool:
    async with database.transaction() as connection:
        return bool(await connection.scalar(select(exists(select(ApiKey.id)))))


async def add(database: Database, *, key_id: str, name: str, digest: str, hint: str, created_at: int) -> bool:
    """Store a key. False if one with this digest was there already, which is then left as it is."""
    values = {"id": key_id, "name": name, "digest": digest, "hint": hint, "created_at": created_at}
    values |= {"user_id": OPERATOR_ID, "scopes": '["calls", "history"]', "labels": "{}"}
    async with database.transaction() as connection:
        result = await connection.execute(insert(ApiKey).values(values).on_conflict_do_nothing())
    return bool(result.rowcount)


async def all_keys(database: Database) -> Sequence[Row[str, str, str, int, int | None]]:
    """Every key, oldest first: id, name, hint, created_at, revoked_at."""
    query = select(ApiKey.id, ApiKey.name, ApiKey.hint, ApiKey.created_at, ApiKey.revoked_at).order_by(ApiKey.id)
    async with database.transaction() as connection:
        return (await connection.execute(query)).all()


async def revoke(database: Database, key_id: str, *, revoked_at: int) -> bool:
    """False if there is no such key that is not revoked yet."""
    change = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=revoked_at)
    async with database.transaction() as connection:
        return bool((await connection.execute(change)).rowcount)
