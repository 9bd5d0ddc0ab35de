"""Exchanges with all that hangs on them, to be carried from one database to another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import case, func, insert, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from ai_proxy.core import types
from ai_proxy.storage import history, records, remarks
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.history import Entry
from ai_proxy.storage.tables import ApiKey, Bodies, Conversation, Project, Tag, User
from ai_proxy.storage.texts import opened, readable_bytes, sealed

_BATCH_BYTES = 8 * 2**20  # of bodies that are in memory at a time, or those of one exchange if they are longer


class Origin(msgspec.Struct, frozen=True):
    """What is known of a conversation beside its exchanges."""

    title: str | None = None
    parent_id: str | None = None
    forked_from: str | None = None


class Whole(NamedTuple):
    """An exchange with all that hangs on it; its bodies are in the exchange. `readable`: its texts can be read here."""

    entry: Entry
    origin: Origin | None
    readable: bool


async def read(database: Database, connection: Connection, ids: Sequence[str], *, bodies: bool = True) -> list[Whole]:
    """These exchanges, in their order, as far as they fit into memory. Some that are gone may be left out."""
    entries = await history.read(database, connection, ids)
    if bodies:
        entries = await _fitting(connection, entries)
        await _put_bodies(database, connection, entries)
    origins = await _origins(database, connection, entries)
    return [Whole(entry, origins.get(_place(entry.exchange)), _is_readable(database, entry)) for entry in entries]


async def _fitting(connection: Connection, entries: list[Entry]) -> list[Entry]:
    size = func.length(Bodies.request) + func.coalesce(func.length(Bodies.response), 0)
    query = select(Bodies.exchange_id, size.label("size")).where(Bodies.exchange_id.in_(_ids(entries)))
    sizes = {row.exchange_id: row.size for row in await connection.execute(query)}
    budget = _BATCH_BYTES
    for index, entry in enumerate(entries):
        budget -= sizes.get(entry.exchange.id, 0)
        if budget < 0 and index:
            return entries[:index]
    return entries


async def _put_bodies(database: Database, connection: Connection, entries: Sequence[Entry]) -> None:
    by_id = {entry.exchange.id: entry for entry in entries}
    query = select(Bodies.__table__).where(Bodies.exchange_id.in_(by_id))
    for row in await connection.execute(query):
        exchange, texts = by_id[row.exchange_id].exchange, by_id[row.exchange_id].texts
        exchange.request = readable_bytes(database.cipher, texts, row.request)
        exchange.response = readable_bytes(database.cipher, texts, row.response)
        exchange.response_id = row.response_id


async def _origins(
    database: Database, connection: Connection, entries: Sequence[Entry]
) -> Mapping[tuple[str, str], Origin]:
    ids = {entry.exchange.conversation_id for entry in entries} - {None}
    if not ids:
        return {}
    known = (Conversation.title.is_not(None), Conversation.forked_from.is_not(None))
    query = select(Conversation.__table__).where(Conversation.id.in_(ids), or_(*known))
    found = await connection.execute(query)
    cipher = database.cipher
    return {(row.key_id, row.id): Origin(opened(cipher, row.title), row.parent_id, row.forked_from) for row in found}


def _ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.exchange.id for entry in entries]


def _place(exchange: types.Exchange) -> tuple[str, str]:
    return exchange.key_id, exchange.conversation_id or ""


def _is_readable(database: Database, entry: Entry) -> bool:
    """Not if they were encrypted with a key that is gone."""
    if entry.texts != "encrypted":
        return True
    exchange = entry.exchange
    return database.cipher is not None and bool(exchange.question or exchange.answer or exchange.request)


# What comes in


class Arrival(NamedTuple):
    """An exchange that comes from elsewhere. `feedback` is a row of that table. `alone`: it is a whole conversation."""

    exchange: types.Exchange
    tags: Sequence[str] = ()
    feedback: dict[str, Any] | None = None
    origin: Origin | None = None
    alone: bool = False


async def add(database: Database, arrivals: Sequence[Arrival]) -> int:
    """Write those that are not there yet, with all that hangs on them, in one transaction. Returns how many."""
    by_id = {arrival.exchange.id: arrival for arrival in arrivals}

    async def remark(connection: Connection, new: Sequence[types.Exchange]) -> None:
        await _add_remarks(database, connection, [by_id[exchange.id] for exchange in new])

    return len(await records.add_new(database, [arrival.exchange for arrival in by_id.values()], remark))


async def _add_remarks(database: Database, connection: Connection, arrivals: Sequence[Arrival]) -> None:
    tags = [{"exchange_id": arrival.exchange.id, "tag": tag} for arrival in arrivals for tag in arrival.tags]
    if tags:
        await connection.execute(insert(Tag), tags)
    origins: dict[tuple[str, str], Origin] = {}
    for arrival in arrivals:
        if arrival.feedback is not None:
            await remarks.set_feedback(database, connection, arrival.feedback)
        if arrival.origin is not None:
            origins.setdefault(_place(arrival.exchange), arrival.origin)
    for place in sorted(origins):
        await _set_origin(database, connection, place, origins[place])


async def _set_origin(database: Database, connection: Connection, place: tuple[str, str], origin: Origin) -> None:
    """What a conversation is said to be here already, stays."""
    key_id, identifier = place
    title = sealed(database.cipher, origin.title)
    values: dict[Any, Any] = {Conversation.title: func.coalesce(Conversation.title, title)}
    if origin.forked_from is not None:
        given = func.coalesce(Conversation.forked_from, origin.forked_from)
        earlier = case((Conversation.first_id < given, Conversation.first_id), else_=given)
        values |= {
            Conversation.parent_id: case(
                (Conversation.forked_from.is_(None), origin.parent_id), else_=Conversation.parent_id
            ),
            Conversation.forked_from: given,
            Conversation.first_id: earlier,
        }
    one = (Conversation.key_id == key_id, Conversation.id == identifier)
    await connection.execute(update(Conversation).where(*one).values(values))


async def conversations_there(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of these conversations that are there, whose key's ever they are."""
    return set(await connection.scalars(select(Conversation.id).where(Conversation.id.in_(ids))))


_OWNERS: dict[str, InstrumentedAttribute[str]] = {"key": ApiKey.id, "user": User.id, "project": Project.id}


async def owners_there(connection: Connection, kind: str, ids: Iterable[str]) -> set[str]:
    """Those of these keys, users or projects that are there."""
    column = _OWNERS[kind]
    return set(await connection.scalars(select(column).where(column.in_(list(ids)))))


async def projects_without_texts(connection: Connection) -> set[str]:
    """Projects that do not want texts to be kept."""
    return set(await connection.scalars(select(Project.id).where(Project.keep_texts.is_(False))))


class Key(NamedTuple):
    id: str
    name: str


async def keys_named(connection: Connection, text: str, *, of: Sequence[str] | None = None) -> list[Key]:
    """The key with this identifier, whose ever it is; else the keys of this name, two at most.

    `of`: of these users' alone, and not those that are revoked.
    """
    query = select(ApiKey.id, ApiKey.name)
    named = query.where(ApiKey.name == text)
    if of is not None:
        named = named.where(ApiKey.user_id.in_(of), ApiKey.revoked_at.is_(None))
    found = (await connection.execute(query.where(ApiKey.id == text))).all()
    if not found:
        found = (await connection.execute(named.order_by(ApiKey.id).limit(2))).all()
    return [Key(*row) for row in found]


async def first_key(connection: Connection, user_id: str) -> Key | None:
    """The oldest key of a user."""
    query = select(ApiKey.id, ApiKey.name).where(ApiKey.user_id == user_id).order_by(ApiKey.id).limit(1)
    row = (await connection.execute(query)).first()
    return None if row is None else Key(*row)
