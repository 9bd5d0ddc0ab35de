"""Queries on what people note of exchanges: feedback and tags."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.engine import Row

from ai_proxy.storage import texts
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.statements import MakeInsert, PerDatabase
from ai_proxy.storage.tables import Feedback, Tag


class Opinion(msgspec.Struct, frozen=True):
    """Feedback as it can be read: a `comment` whose key is gone is None. `thumb` is 1 or -1."""

    thumb: int | None
    score: float | None
    comment: str | None
    user_id: str
    created_at: int


class Remarks(msgspec.Struct, frozen=True):
    """Of one exchange: its feedback, and its tags in their order."""

    feedback: Opinion | None = None
    tags: tuple[str, ...] = ()


async def of(database: Database, connection: Connection, ids: Sequence[str]) -> dict[str, Remarks]:
    """Those of exchanges that have any."""
    feedback = select(Feedback.__table__).where(Feedback.exchange_id.in_(ids))
    tags = select(Tag.__table__).where(Tag.exchange_id.in_(ids)).order_by(Tag.tag)
    given = {row.exchange_id: _opinion(database, row) for row in await connection.execute(feedback)}
    tagged: dict[str, list[str]] = {}
    for row in await connection.execute(tags):
        tagged.setdefault(row.exchange_id, []).append(row.tag)
    return {
        identifier: Remarks(given.get(identifier), tuple(tagged.get(identifier, ())))
        for identifier in given.keys() | tagged.keys()
    }


def _opinion(database: Database, row: Row[Any]) -> Opinion:
    return Opinion(row.thumb, row.score, texts.opened(database.cipher, row.comment), row.user_id, row.created_at)


async def set_feedback(database: Database, connection: Connection, feedback: dict[str, Any]) -> None:
    """In place of what there was."""
    comment = texts.sealed(database.cipher, feedback["comment"])
    await connection.execute(_set(connection), feedback | {"comment": comment})


def _insert_or_replace(insert: MakeInsert) -> Insert:
    new = insert(Feedback)
    columns = [column.name for column in Feedback.__table__.columns if not column.primary_key]
    return new.on_conflict_do_update(
        index_elements=["exchange_id"], set_={name: new.excluded[name] for name in columns}
    )


_set = PerDatabase(_insert_or_replace)


async def remove_feedback(connection: Connection, exchange_id: str) -> None:
    await connection.execute(delete(Feedback).where(Feedback.exchange_id == exchange_id))


async def set_tags(connection: Connection, exchange_id: str, tags: Sequence[str]) -> None:
    """In place of those there were."""
    await connection.execute(delete(Tag).where(Tag.exchange_id == exchange_id))
    if tags:
        await connection.execute(insert(Tag), [{"exchange_id": exchange_id, "tag": tag} for tag in tags])
