"""Queries on conversations: what exchanges that belong together are, and what a question is sent along with."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    union,
    update,
)
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.engine import Row
from sqlalchemy.orm import InstrumentedAttribute

from ai_proxy.core import types
from ai_proxy.core.types import Turn
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.filters import MOST_WAYS, Visible
from ai_proxy.storage.statements import MakeInsert, PerDatabase
from ai_proxy.storage.tables import Bodies, Conversation, Exchange
from ai_proxy.storage.texts import readable, readable_bytes, readable_text

_MAX_TURNS = 1000
_MAX_FORKS = 20  # of forks, one after the other, that are followed back
_BEGINNING = 400  # characters of a question that may be a title; an encrypted one is read whole

# Written with the exchanges


def _insert_adding(make: MakeInsert) -> Insert:
    new = make(Conversation)
    first, last = new.excluded.first_id, new.excluded.last_id
    grown = {
        "first_id": case((first < Conversation.first_id, first), else_=Conversation.first_id),
        "last_id": case((last > Conversation.last_id, last), else_=Conversation.last_id),
        "exchanges": Conversation.exchanges + new.excluded.exchanges,
    }
    return new.on_conflict_do_update(index_elements=["key_id", "id"], set_=grown)


_count = PerDatabase(_insert_adding)


async def count(connection: Connection, exchanges: Sequence[types.Exchange]) -> None:
    """Count new exchanges into their conversations, in the transaction that writes them."""
    if found := [exchange for exchange in exchanges if exchange.conversation_id is not None]:
        await _count.write(connection, _rows(found))


def _rows(exchanges: Iterable[types.Exchange]) -> list[dict[str, Any]]:
    """In the rows' order: two processes that lock the same rows in different orders would wait for each other."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for exchange in exchanges:
        key = (exchange.key_id, exchange.conversation_id or "")
        row = rows.get(key)
        if row is None:
            rows[key] = _row(exchange)
        else:
            row["first_id"] = min(row["first_id"], exchange.id)
            row["last_id"] = max(row["last_id"], exchange.id)
            row["exchanges"] += 1
    return [rows[key] for key in sorted(rows)]


def _row(exchange: types.Exchange) -> dict[str, Any]:
    return {
        "key_id": exchange.key_id,
        "id": exchange.conversation_id,
        "user_id": exchange.user_id,
        "project_id": exchange.project_id,
        "title": None,
        "first_id": exchange.id,
        "last_id": exchange.id,
        "exchanges": 1,
        "parent_id": None,
        "forked_from": None,
    }


# What a question is sent along with


class _Part(NamedTuple):
    """A conversation until an exchange, or to its end; without a conversation, that exchange alone."""

    conversation_id: str | None
    until: str | None = None


async def earlier(database: Database, key_id: str, conversation_id: str, *, budget: int) -> Sequence[Turn]:
    """The completed exchanges of a conversation, oldest first: the newest of them whose texts fit into `budget`.

    Where a request does not fit, its question and answer may.

    A fork's are its own, and before them its parent's up to the exchange that it goes on after. Nothing is looked for
    before one whose request says what was before it.
    """
    turns: list[Turn] = []
    part = _Part(conversation_id)
    async with database.transaction() as connection:
        for _ in range(_MAX_FORKS):
            async with connection.stream(_turns(key_id, part, _MAX_TURNS - len(turns))) as rows:
                async for row in rows:
                    turn = _turn(database.cipher, row)
                    if not turn.question and turn.request is None:  # its key is gone
                        continue
                    has_all = turn.request is not None
                    if has_all and _size(turn) > budget:
                        turn = Turn(turn.question, turn.answer)
                    budget -= _size(turn)
                    if budget < 0:
                        return turns[::-1]
                    turns.append(turn)
                    if has_all:
                        return turns[::-1]
            origin = await _origin(connection, key_id, part)
            if origin is None or len(turns) == _MAX_TURNS:
                break
            part = origin
    return turns[::-1]


def _size(turn: Turn) -> int:
    return len(turn.request or turn.question) + len(turn.answer)


def _turn(cipher: Cipher | None, row: Row[Any]) -> Turn:
    return Turn(*readable(cipher, row), row.dialect, readable_bytes(cipher, row.texts, row.request))


def _turns(key_id: str, part: _Part, limit: int) -> Select[*tuple[Any, ...]]:
    query = (
        select(Exchange.question, Exchange.answer, Exchange.texts, Exchange.dialect, Bodies.request)
        .outerjoin(Bodies, and_(Bodies.exchange_id == Exchange.id, Exchange.dialect != "ask"))
        .where(Exchange.key_id == key_id, Exchange.status == "completed", Exchange.texts != "none")
    )
    if part.conversation_id is None:
        return query.where(Exchange.id == part.until)
    if part.until is not None:
        query = query.where(Exchange.id <= part.until)
    return query.where(Exchange.conversation_id == part.conversation_id).order_by(Exchange.id.desc()).limit(limit)


async def _origin(connection: Connection, key_id: str, part: _Part) -> _Part | None:
    """What a conversation was forked from."""
    if part.conversation_id is None:
        return None
    query = select(Conversation.parent_id, Conversation.forked_from).where(
        Conversation.key_id == key_id, Conversation.id == part.conversation_id, Conversation.forked_from.is_not(None)
    )
    row = (await connection.execute(query)).first()
    return None if row is None else _Part(row.parent_id, row.forked_from)


# As people see them


class Wanted(NamedTuple):
    """Which conversations; None is any. `visible` is None for who may see all."""

    key: str | None = None
    user: str | None = None
    project: str | None = None
    visible: Visible | None = None


def _columns() -> Select[Any]:
    """`question` is its first one, or the beginning of that."""
    beginning = case(
        (Exchange.texts == "plain", func.substr(Exchange.question, 1, _BEGINNING)), else_=Exchange.question
    )
    return select(
        Conversation.__table__, beginning.label("question"), func.coalesce(Exchange.texts, "none").label("texts")
    ).outerjoin(Exchange, and_(Exchange.id == Conversation.first_id, Exchange.key_id == Conversation.key_id))


async def page(connection: Connection, wanted: Wanted, *, before: str | None, limit: int) -> Sequence[Row[Any]]:
    """Those that went on last come first. Pass `last_id` of the last one as `before` to get the next page."""
    conditions, owners = tuple(_conditions(wanted)), _owners(wanted.visible)
    ways: list[tuple[ColumnElement[bool], ...]] = [(owner,) for owner in owners] or [conditions]
    if conditions and owners:  # by what is asked for, which is less than what may be seen
        ways = [(*conditions, or_(*owners))]
    queries = [_going_down(way, before, limit) for way in ways]
    places = union(*(select(*query.subquery().c) for query in queries)).subquery()
    newest = select(places).order_by(places.c.last_id.desc()).limit(limit).subquery()
    found = _columns().join(newest, and_(newest.c.key_id == Conversation.key_id, newest.c.id == Conversation.id))
    rows: Sequence[Row[Any]] = (await connection.execute(found.order_by(newest.c.last_id.desc()))).all()
    return rows


def _owners(visible: Visible | None) -> list[ColumnElement[bool]]:
    if visible is None:
        return []
    if len(visible.projects) >= MOST_WAYS:
        return [or_(Conversation.user_id == visible.user_id, Conversation.project_id.in_(visible.projects))]
    return [
        Conversation.user_id == visible.user_id,
        *(Conversation.project_id == project for project in visible.projects),
    ]


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.key is not None:
        yield Conversation.key_id == wanted.key
    if wanted.user is not None:
        yield Conversation.user_id == wanted.user
    if wanted.project is not None:
        yield Conversation.project_id == wanted.project


def _going_down(conditions: Iterable[ColumnElement[bool]], before: str | None, limit: int) -> Select[str, str, str]:
    query = select(Conversation.key_id, Conversation.id, Conversation.last_id).where(*conditions)
    if before is not None:
        query = query.where(Conversation.last_id < before)
    return query.order_by(Conversation.last_id.desc()).limit(limit)


async def find(
    connection: Connection, conversation_id: str, *, key: str | None, visible: Visible | None
) -> Sequence[Row[Any]]:
    """The conversations of this id, two at most: each key may have one."""
    query = _columns().where(Conversation.id == conversation_id).limit(2)
    if key is not None:
        query = query.where(Conversation.key_id == key)
    if visible is not None:
        query = query.where(or_(*_owners(visible)))
    rows: Sequence[Row[Any]] = (await connection.execute(query)).all()
    return rows


def question_of(database: Database, row: Row[Any]) -> str:
    """The first question of a conversation that was found here; "" if it is not kept."""
    return readable_text(database.cipher, row.texts, row.question or "")


async def fork(connection: Connection, exchange: Row[Any], conversation_id: str, place: str) -> None:
    """Make a conversation that goes on after this exchange. `place` is an identifier of now, for its place in lists."""
    new = {
        "key_id": exchange.key_id,
        "id": conversation_id,
        "user_id": exchange.user_id,
        "project_id": exchange.project_id,
        "first_id": exchange.id,
        "last_id": place,
        "exchanges": 0,
        "parent_id": exchange.conversation_id,
        "forked_from": exchange.id,
    }
    await connection.execute(insert(Conversation).values(new))


def _one(key_id: str, conversation_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Conversation.key_id == key_id, Conversation.id == conversation_id


async def rename(connection: Connection, key_id: str, conversation_id: str, title: str | None) -> None:
    await connection.execute(update(Conversation).where(*_one(key_id, conversation_id)).values(title=title))


async def remove_empty(connection: Connection, key_id: str, conversation_id: str) -> None:
    """Remove one that has no exchanges: not if there came one meanwhile."""
    left: InstrumentedAttribute[Any] = Exchange.conversation_id
    others = exists().where(left == conversation_id, Exchange.key_id == key_id)
    await connection.execute(delete(Conversation).where(*_one(key_id, conversation_id), ~others))


async def remove_empty_of(connection: Connection, user_id: str, *, before: str, most: int) -> int:
    """Remove at most `most` conversations of a user that have no exchanges. Returns how many these were."""
    own = (Conversation.key_id, Conversation.id)
    conditions = (Conversation.user_id == user_id, Conversation.exchanges <= 0, Conversation.last_id < before)
    empty = select(*own).where(*conditions).limit(most)
    return (await connection.execute(delete(Conversation).where(tuple_(*own).in_(empty)))).rowcount
