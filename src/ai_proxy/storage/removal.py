"""Taking exchanges out of the history, or their texts out of them. The sums of their days stay: they are the ledger."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, delete, exists, func, or_, select, update

from ai_proxy.storage import search
from ai_proxy.storage.engine import Connection
from ai_proxy.storage.statements import Prepared, among
from ai_proxy.storage.tables import Bodies, Conversation, Exchange, Feedback, IdempotentAnswer, Tag

_AT_ONCE = 200  # so that what is read about them is not much


def _of_these(table: type[Any]) -> ColumnElement[bool]:
    """The rows of the exchanges `ids`. Kept answers are found by their times, which have an index."""
    own = among(table.exchange_id, "ids")
    return and_(own, among(IdempotentAnswer.created_at, "times")) if table is IdempotentAnswer else own


_TEXTS: tuple[type[Any], ...] = (Bodies, IdempotentAnswer)
_ALL: tuple[type[Any], ...] = (Tag, Feedback, *_TEXTS)

_found = Prepared(
    select(Exchange.id, Exchange.key_id, Exchange.conversation_id, Exchange.created_at, Exchange.texts)
    .where(among(Exchange.id, "ids"))
    .order_by(Exchange.id)
    .with_for_update()
)
_hanging = Prepared(select(*(exists().where(_of_these(table)) for table in _ALL)))
_drop = {table: Prepared(delete(table).where(_of_these(table))) for table in _ALL}
_delete = Prepared(delete(Exchange).where(among(Exchange.id, "ids")))
_forget = Prepared(update(Exchange).where(among(Exchange.id, "ids")).values(question="", answer="", texts="none"))
_talks = Prepared(
    select(Conversation.key_id, Conversation.id, Conversation.forked_from)
    .where(
        or_(
            and_(among(Conversation.key_id, "keys"), among(Conversation.id, "talks")),
            among(Conversation.forked_from, "ids"),
        )
    )
    .order_by(Conversation.key_id, Conversation.id)
    .with_for_update()
)


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
    await _delete.execute(connection, ids=existing)
    await _shrink(connection, touched, found)
    return len(found)


async def _forget_texts(connection: Connection, ids: Sequence[str]) -> int:
    await search.take_out(connection, ids)
    found = [row for row in await _lock(connection, ids) if row.texts != "none"]
    for table in _TEXTS:
        await _drop[table].execute(connection, **_ids_and_times(found))
    await _forget.execute(connection, ids=[row.id for row in found])
    return len(found)


async def _lock(connection: Connection, ids: Sequence[str]) -> Sequence[Any]:
    """Those that are there. Nobody can hang anything on them from now on."""
    rows: Sequence[Any] = (await _found.execute(connection, ids=list(ids))).all()
    return rows


async def _drop_what_hangs_on(connection: Connection, found: Sequence[Any]) -> None:
    """Most have nothing. To ask for all at once is quicker: each statement takes time in which SQLite is locked."""
    these = _ids_and_times(found)
    there = (await _hanging.execute(connection, **these)).one()
    for statement in compress(_drop.values(), there):
        await statement.execute(connection, **these)


def _ids_and_times(found: Sequence[Any]) -> dict[str, list[Any]]:
    return {"ids": [row.id for row in found], "times": [row.created_at for row in found]}


async def _lock_conversations(connection: Connection, found: Sequence[Any]) -> Sequence[tuple[str, str]]:
    """Those of these exchanges, and those that were forked from them.

    In the rows' order, as they are written: two processes that lock them in different orders would wait for each other.
    """
    ids = [row.id for row in found]
    pairs = {(row.key_id, row.conversation_id) for row in found if row.conversation_id is not None}
    keys, talks = (sorted({pair[part] for pair in pairs}) for part in (0, 1))
    rows = await _talks.execute(connection, keys=keys, talks=talks, ids=ids)
    forked_from = set(ids)
    return sorted(pairs | {(row.key_id, row.id) for row in rows if row.forked_from in forked_from})


# Nothing is added to the key, so that it is the index on conversations that answers, and not that on keys.
_left = (
    Exchange.conversation_id == Conversation.id,
    Exchange.key_id.concat("") == Conversation.key_id,
)
_there = select(Exchange.id)
_first = select(func.min(Exchange.id)).where(*_left).scalar_subquery()
_last = select(func.max(Exchange.id)).where(*_left).scalar_subquery()
_one = (Conversation.key_id == bindparam("of_key"), Conversation.id == bindparam("of_id"))
_shrunk = Prepared(
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
_emptied = Prepared(delete(Conversation).where(*_one, Conversation.exchanges <= 0))


async def _shrink(connection: Connection, touched: Sequence[tuple[str, str]], found: Iterable[Any]) -> None:
    gone = Counter((row.key_id, row.conversation_id) for row in found)
    rows = [{"of_key": key_id, "of_id": identifier, "gone": gone[key_id, identifier]} for key_id, identifier in touched]
    if rows:
        await _shrunk.execute_each(connection, rows)
    if own := [{"of_key": row["of_key"], "of_id": row["of_id"]} for row in rows if row["gone"]]:
        await _emptied.execute_each(connection, own)
