"""Taking exchanges out of the history, or their texts out of them. The sums of their days stay: they are the ledger."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, any_, bindparam, case, delete, exists, func, literal, select, update
from sqlalchemy.orm import InstrumentedAttribute

from ai_proxy.storage import search
from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import Bodies, Conversation, Exchange, Feedback, IdempotentAnswer, Tag

_TEXTS: tuple[type[Any], ...] = (Bodies, IdempotentAnswer)
_ALL: tuple[type[Any], ...] = (Tag, Feedback, *_TEXTS)
_AT_ONCE = 200  # a statement has only so many parameters


async def remove(connection: Connection, ids: Sequence[str]) -> int:
    """Delete exchanges and all that hangs on them. Returns how many there were.

    Conversations shrink, or go when nothing is left of them; their forks go on with what is left.
    """
    return sum([await _remove(connection, ids[start : start + _AT_ONCE]) for start in range(0, len(ids), _AT_ONCE)])


async def forget_texts(connection: Connection, ids: Sequence[str]) -> int:
    """Take away question, answer, bodies, kept answers and words; what it cost stays. Returns how many had some."""
    parts = [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
    return sum([await _forget_texts(connection, part) for part in parts])


async def _remove(connection: Connection, ids: Sequence[str]) -> int:
    # First, because it needs the texts; and it takes SQLite's lock, so that what is read from here on stays so.
    await search.take_out(connection, ids)
    found = await _lock(connection, ids)
    existing = [row.id for row in found]
    await _drop_what_hangs_on(connection, found)
    touched = await _lock_conversations(connection, found)
    await connection.execute(delete(Exchange).where(_among(connection, Exchange.id, existing)))
    await _shrink(connection, touched, found)
    return len(found)


async def _forget_texts(connection: Connection, ids: Sequence[str]) -> int:
    await search.take_out(connection, ids)
    found = [row for row in await _lock(connection, ids) if row.texts != "none"]
    existing = [row.id for row in found]
    for table in _TEXTS:
        await connection.execute(delete(table).where(*_of(connection, table, found)))
    forgotten = update(Exchange).where(_among(connection, Exchange.id, existing))
    await connection.execute(forgotten.values(question="", answer="", texts="none"))
    return len(found)


def _among(connection: Connection, column: InstrumentedAttribute[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """That it has one of these values. PostgreSQL takes them as one array: to read 200 parameters costs it 5 ms."""
    if connection.dialect.name == "postgresql":
        return column == any_(literal(values, ARRAY(column.type)))
    return column.in_(values)


async def _lock(connection: Connection, ids: Sequence[str]) -> Sequence[Any]:
    """Those that are there. Nobody can hang anything on them from now on."""
    columns = (Exchange.id, Exchange.key_id, Exchange.conversation_id, Exchange.created_at, Exchange.texts)
    query = select(*columns).where(_among(connection, Exchange.id, ids))
    return (await connection.execute(query.order_by(Exchange.id).with_for_update())).all()


async def _drop_what_hangs_on(connection: Connection, found: Sequence[Any]) -> None:
    """Most have nothing. To ask for all at once is quicker: each statement takes time in which SQLite is locked."""
    hanging = {table: delete(table).where(*_of(connection, table, found)) for table in _ALL}
    query = select(*(exists().where(*_of(connection, table, found)) for table in hanging))
    there = (await connection.execute(query)).one()
    for statement in compress(hanging.values(), there):
        await connection.execute(statement)


def _of(connection: Connection, table: type[Any], found: Sequence[Any]) -> list[ColumnElement[bool]]:
    """The rows of these exchanges. Kept answers are found by their times, which have an index."""
    own = [_among(connection, table.exchange_id, [row.id for row in found])]
    if table is IdempotentAnswer:
        own.append(_among(connection, IdempotentAnswer.created_at, [row.created_at for row in found]))
    return own


async def _lock_conversations(connection: Connection, found: Sequence[Any]) -> Sequence[tuple[str, str]]:
    """Those of these exchanges, and those that were forked from them.

    In the rows' order, as they are written: two processes that lock them in different orders would wait for each other.
    """
    forked = _among(connection, Conversation.forked_from, [row.id for row in found])
    forks = await connection.execute(select(Conversation.key_id, Conversation.id).where(forked))
    pairs = {(row.key_id, row.conversation_id) for row in found if row.conversation_id is not None}
    pairs |= {(row.key_id, row.id) for row in forks}
    if not pairs:
        return []
    keys, identifiers = zip(*pairs, strict=True)
    query = select(Conversation.key_id, Conversation.id).where(
        _among(connection, Conversation.key_id, sorted(set(keys))),
        _among(connection, Conversation.id, sorted(set(identifiers))),
    )
    await connection.execute(query.order_by(Conversation.key_id, Conversation.id).with_for_update())
    return sorted(pairs)


# Nothing is added to the key, so that it is the index on conversations that answers, and not that on keys.
_left = (
    Exchange.conversation_id == Conversation.id,
    Exchange.key_id.concat("") == Conversation.key_id,
)
_there = select(Exchange.id)
_first = select(func.min(Exchange.id)).where(*_left).scalar_subquery()
_last = select(func.max(Exchange.id)).where(*_left).scalar_subquery()
_one = (Conversation.key_id == bindparam("of_key"), Conversation.id == bindparam("of_id"))
_shrunk = (
    update(Conversation)
    .where(*_one)
    .values(
        exchanges=Conversation.exchanges - bindparam("gone"),
        first_id=case(
            (_there.where(Exchange.id == Conversation.first_id).exists(), Conversation.first_id),
            else_=func.coalesce(_first, Conversation.first_id),
        ),
        last_id=case(
            (_there.where(Exchange.id == Conversation.last_id).exists(), Conversation.last_id),
            else_=func.coalesce(_last, Conversation.last_id),
        ),
    )
)
_emptied = delete(Conversation).where(*_one, Conversation.exchanges <= 0)


async def _shrink(connection: Connection, touched: Sequence[tuple[str, str]], found: Iterable[Any]) -> None:
    gone = Counter((row.key_id, row.conversation_id) for row in found)
    rows = [{"of_key": key_id, "of_id": identifier, "gone": gone[key_id, identifier]} for key_id, identifier in touched]
    if rows:
        await connection.execute(_shrunk, rows)
    if own := [{"of_key": row["of_key"], "of_id": row["of_id"]} for row in rows if row["gone"]]:
        await connection.execute(_emptied, own)
