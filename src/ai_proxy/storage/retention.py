"""How long rows are kept, and queries on those that are over."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import delete, func, select, tuple_

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.idempotency import LIFETIME
from ai_proxy.storage.tables import Conversation, Exchange, IdempotentAnswer, Project, SetupToken

_AS_SET = "as long as the settings `retention` and the exchange's project say"
_WITH_IT = "as long as its exchange"
_BY_HAND = "until somebody changes it"
_FOR_EVER = "for ever"

# Of every table. A new one must say how long its rows are kept, too.
KEPT: Mapping[str, str] = {
    "exchanges": _AS_SET,
    "conversations": "as long as one of its exchanges; a fork that has none yet, as long as if it were one",
    "bodies": _WITH_IT,
    "feedback": _WITH_IT,
    "tags": _WITH_IT,
    "unindexed": _WITH_IT,
    "indexed": _WITH_IT,
    "search": _WITH_IT,
    "idempotent_answers": "for 24 hours, or as long as its exchange",
    "sessions": "a while after their end, so that where people sign in from is known",
    "setup_tokens": "for an hour, or until the first administrator is made",
    "daily_usage": _FOR_EVER,  # it is the ledger
    "audit": _FOR_EVER,  # the database refuses to delete
    "users": _BY_HAND,
    "projects": _BY_HAND,
    "members": _BY_HAND,
    "api_keys": _FOR_EVER,  # revoked ones too: the history names them
    "limits": _BY_HAND,
    "budgets": _BY_HAND,
    "alembic_version": _FOR_EVER,
}

# A number that all who use the database agree upon: see storage/postgresql.py.
_TURN = 4_714_003


class Aim(msgspec.Struct, frozen=True):
    """What is to go: exchanges before an identifier, of one project or of all but some; or only their `texts`."""

    before: str
    project: str | None = None
    but: tuple[str, ...] = ()
    texts: bool = False


class Look(NamedTuple):
    """What was found in a part of the history. Look on `after` this; None if this was the end."""

    ids: Sequence[str]
    after: str | None


async def own_days(connection: Connection) -> dict[str, int]:
    """For how many days projects keep their history, of those that do not as all others do."""
    query = select(Project.id, Project.retention_days).where(Project.retention_days.is_not(None))
    return {row.id: row.retention_days for row in await connection.execute(query)}


async def look(connection: Connection, aim: Aim, *, after: str, limit: int) -> Look:
    """What is aimed at among the next `limit` exchanges, oldest first.

    Only indexes are read, but for texts: a row may be long.
    """
    columns = (Exchange.id, Exchange.texts) if aim.texts else (Exchange.id,)
    query = select(*columns).where(Exchange.id > after, Exchange.id < aim.before)
    if aim.project is not None:
        query = query.where(Exchange.project_id == aim.project)
    rows = (await connection.execute(query.order_by(Exchange.id).limit(limit))).all()
    if not rows:
        return Look((), None)
    others = await _of_projects(connection, aim.but, rows[0].id, rows[-1].id)
    ids = [row.id for row in rows if row.id not in others and not (aim.texts and row.texts == "none")]
    return Look(ids, rows[-1].id if len(rows) == limit else None)


async def _of_projects(connection: Connection, projects: Iterable[str], first: str, last: str) -> set[str]:
    among = list(projects)
    if not among:
        return set()
    query = select(Exchange.id).where(Exchange.project_id.in_(among), Exchange.id.between(first, last))
    return set(await connection.scalars(query))


async def is_my_turn(connection: Connection) -> bool:
    """Whether nobody else is removing anything, until this transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(await connection.scalar(select(func.pg_try_advisory_xact_lock(_TURN))))


async def drop_empty(connection: Connection, aim: Aim, *, most: int) -> int:
    """Delete at most `most` forks that nobody went on with. Returns how many these were."""
    own = (Conversation.key_id, Conversation.id)
    conditions = [Conversation.exchanges == 0, Conversation.last_id < aim.before]
    if aim.project is not None:
        conditions.append(Conversation.project_id == aim.project)
    if aim.but:
        conditions.append(func.coalesce(Conversation.project_id, "").not_in(aim.but))
    empty = select(*own).where(Conversation.forked_from.is_not(None), *conditions).limit(most)
    # Said again, because somebody may have gone on with one while its lock was waited for.
    still = delete(Conversation).where(tuple_(*own).in_(empty), Conversation.exchanges == 0)
    return (await connection.execute(still)).rowcount


async def drop_expired(connection: Connection, *, now: int, most: int) -> int:
    """Delete at most `most` answers that are kept no more, and setup tokens. Returns how many answers these were."""
    await connection.execute(delete(SetupToken).where(SetupToken.expires_at <= now))
    own = (IdempotentAnswer.key_id, IdempotentAnswer.idempotency_key)
    expired = select(*own).where(IdempotentAnswer.created_at <= now - LIFETIME).limit(most)
    return (await connection.execute(delete(IdempotentAnswer).where(tuple_(*own).in_(expired)))).rowcount
