"""Queries on the API keys. Only digests are stored."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, exists, func, insert, or_, select, update
from sqlalchemy.engine import Row

from ai_proxy.core import apikeys
from ai_proxy.core.types import OPERATOR_ID, Limit, Principal
from ai_proxy.storage import tables
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.limits import budget_from
from ai_proxy.storage.statements import insert_ignoring
from ai_proxy.storage.tables import ApiKey, DailyUsage, Exchange, Member, Project, User

ENDED = 0  # as `previous_until`: the former secret ended at once, and is kept so that it never comes back

_add = insert_ignoring(ApiKey)


async def find(database: Database, digest: str) -> Principal | None:
    """Whose key has this digest, and what it may do. None if nobody's, or if it is revoked or its user disabled.

    A key of a project works while the project is not archived and the key's user is a member of it, or administers.
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
        budgets=tuple(map(budget_from, budgets)),
    )


_found = (
    select(ApiKey.__table__, User.role, Project.keep_texts)
    .join(User, User.id == ApiKey.user_id)
    .outerjoin(Project, Project.id == ApiKey.project_id)
    .outerjoin(Member, and_(Member.project_id == ApiKey.project_id, Member.user_id == ApiKey.user_id))
    .where(
        or_(
            ApiKey.digest == bindparam("digest"),
            and_(ApiKey.previous_digest == bindparam("digest"), ApiKey.previous_until > ENDED),
        ),
        ApiKey.revoked_at.is_(None),
        User.disabled_at.is_(None),
        Project.archived_at.is_(None),
        or_(ApiKey.project_id.is_(None), User.role == "admin", Member.user_id.is_not(None)),
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
        keep_texts=row.keep_texts is not False,  # None where there is no project
    )


async def any_exist(database: Database) -> bool:
    async with database.transaction() as connection:
        return bool(await connection.scalar(select(exists(select(ApiKey.id)))))


async def add(database: Database, *, key_id: str, name: str, digest: str, hint: str, created_at: int) -> bool:
    """Store a key of the operator's. False if this digest is that of a key, or was before its last rotation."""
    values = {"id": key_id, "name": name, "digest": digest, "hint": hint, "created_at": created_at}
    values |= {"user_id": OPERATOR_ID, "scopes": json.dumps(apikeys.DEFAULT_SCOPES), "labels": "{}"}
    async with database.changing() as connection:
        if await connection.scalar(_was, {"digest": digest}):
            return False
        result = await connection.execute(_add(connection), values)
    return bool(result.rowcount)


async def id_of(database: Database, digest: str) -> str | None:
    """The id of the key that has this digest, or had it, whether it still works or not."""
    query = select(ApiKey.id).where(or_(ApiKey.digest == digest, ApiKey.previous_digest == digest))
    async with database.transaction() as connection:
        found: str | None = await connection.scalar(query)
    return found


_was = select(exists().where(ApiKey.previous_digest == bindparam("digest")))


async def insert_key(connection: Connection, values: dict[str, Any]) -> None:
    await connection.execute(insert(ApiKey).values(values))


async def get(connection: Connection, key_id: str, *, user_id: str | None = None) -> Row[Any] | None:
    """A key as it is listed. With `user_id`, only if it is that user's."""
    query = _listed.where(ApiKey.id == key_id)
    if user_id is not None:
        query = query.where(ApiKey.user_id == user_id)
    return (await connection.execute(query)).first()


async def page(
    connection: Connection,
    *,
    user_id: str | None = None,
    project_id: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Sequence[Row[Any]]:
    """Keys, oldest first, revoked ones too. Pass the last id of one page as `after` to get the next."""
    query = _listed.order_by(ApiKey.id).limit(limit)
    if user_id is not None:
        query = query.where(ApiKey.user_id == user_id)
    if project_id is not None:
        query = query.where(ApiKey.project_id == project_id)
    if after is not None:
        query = query.where(ApiKey.id > after)
    return (await connection.execute(query)).all()


# The time of a key's newest exchange is in the exchange's id, which the index on (key_id, id) has at its end.
_newest = select(func.max(Exchange.id)).where(Exchange.key_id == ApiKey.id).scalar_subquery()
# It may have been removed. The sums of its day stay.
_last_day = select(func.max(DailyUsage.day)).where(DailyUsage.key_id == ApiKey.id).scalar_subquery()
_listed = (
    select(
        ApiKey.__table__,
        User.name.label("user"),
        User.role.label("role"),
        Project.name.label("project"),
        _newest.label("newest"),
        _last_day.label("last_day"),
    )
    .join(User, User.id == ApiKey.user_id)
    .outerjoin(Project, Project.id == ApiKey.project_id)
)


async def change(connection: Connection, key_id: str, **values: Any) -> None:
    await connection.execute(update(ApiKey).where(ApiKey.id == key_id).values(values))
