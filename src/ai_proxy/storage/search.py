"""The index of words: filled in the background, asked by those who look for something in the history.

An exchange goes in some time after it was recorded: `unindexed` names those that are yet to come. How the index is
kept is each database's own: `search_sqlite`, `search_postgresql`. Texts that are encrypted, or not kept, are not in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import Select, bindparam, delete, func, select
from sqlalchemy.engine import Row

from ai_proxy.storage import facets as facets_of
from ai_proxy.storage import search_postgresql, search_sqlite, words
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.search_entry import Entry
from ai_proxy.storage.statements import Prepared, among
from ai_proxy.storage.tables import Exchange, Indexed, Unindexed
from ai_proxy.storage.words import Words

_LONGEST_TEXT = 100_000  # characters of a question, or of an answer: what is further on is not found
_BATCH = 50_000  # characters: as long as they take, SQLite's one writer waits
_READ_AT_ONCE = 25  # rows, each of which may be as long as two texts
_PAGE = 50  # the same, where few are long


class Index(Protocol):
    """What one kind of database does in its own way. `find` has one word of each list of facets."""

    async def add(self, connection: Connection, entries: Sequence[Entry]) -> None: ...
    async def remove(self, connection: Connection, entries: Sequence[Entry]) -> None: ...
    async def find(
        self, connection: Connection, query: Words, facets: Sequence[Sequence[str]], *, newest: int
    ) -> Sequence[tuple[str, float]]: ...


_INDEXES: Mapping[str, Index] = {"sqlite": search_sqlite.Index(), "postgresql": search_postgresql.Index()}


class Moved(msgspec.Struct, frozen=True):
    """How many exchanges came into the index, and whether others were left for the next time."""

    count: int
    more: bool


def _texts(*columns: Any) -> Select[*tuple[Any, ...]]:
    """What the entries of the index are made of: the same when they are put in and when they are taken out.

    The facets are the last.
    """
    return select(
        *columns,
        func.substr(Exchange.question, 1, _LONGEST_TEXT).label("question"),
        func.substr(Exchange.answer, 1, _LONGEST_TEXT).label("answer"),
        Exchange.texts,
        *facets_of.COLUMNS.values(),
    )


_to_come = Prepared(
    _texts(Unindexed.exchange_id)
    .outerjoin(Exchange, Exchange.id == Unindexed.exchange_id)
    .where(Unindexed.exchange_id > bindparam("after"))
    .order_by(Unindexed.exchange_id)
    .limit(_PAGE)
)
_not_to_come = Prepared(delete(Unindexed).where(among(Unindexed.exchange_id, "ids")))
_not_indexed = Prepared(delete(Indexed).where(among(Indexed.exchange_id, "ids")))
_indexed = Prepared(
    _texts(Indexed.exchange_id, Indexed.number)
    .join(Exchange, Exchange.id == Indexed.exchange_id)
    .where(among(Indexed.exchange_id, "ids"))
)
# It may have been removed since it was read; and what another process has in its hands is left to it.
_free = select(Unindexed.exchange_id).where(among(Unindexed.exchange_id, "ids")).with_for_update(skip_locked=True)
_take = Prepared(delete(Unindexed).where(Unindexed.exchange_id.in_(_free)).returning(Unindexed.exchange_id))


async def index_next(database: Database, *, most: int) -> Moved:
    """Move at most `most` exchanges into the index, the oldest first; long texts make it fewer.

    Several processes may do so at once: none is indexed twice. Raises `DatabaseUnavailable`.
    """
    rows, more = await _next(database, most)
    if not rows:
        return Moved(0, more=False)
    entries = {row.exchange_id: _entry(row) if row.texts == "plain" else None for row in rows}
    async with database.background() as connection:
        taken = await _take.execute(connection, ids=list(entries))
        identifiers = sorted(taken.scalars())
        if new := [entry for identifier in identifiers if (entry := entries[identifier])]:
            await _index_of(connection).add(connection, new)
    return Moved(len(identifiers), more)


async def skip_next(database: Database) -> str | None:
    """Give up the oldest exchange that is not in the index yet. Returns its identifier."""
    oldest = select(func.min(Unindexed.exchange_id)).scalar_subquery()
    async with database.transaction() as connection:
        statement = delete(Unindexed).where(Unindexed.exchange_id == oldest).returning(Unindexed.exchange_id)
        identifier: str | None = await connection.scalar(statement)
        return identifier


async def take_out(connection: Connection, ids: Sequence[str]) -> None:
    """Take exchanges out of the index, and out of those that are to come, before they or their texts are changed.

    What is in the index is worked out anew from the texts.
    """
    index, ids = _index_of(connection), sorted(ids)
    # First, because it waits for another process that is just moving them into the index.
    await _not_to_come.execute(connection, ids=ids)
    for start in range(0, len(ids), _READ_AT_ONCE):
        rows = await _indexed.execute(connection, ids=ids[start : start + _READ_AT_ONCE])
        if entries := [_entry(row, number=row.number) for row in rows]:
            await index.remove(connection, entries)
    await _not_indexed.execute(connection, ids=ids)


async def find(
    connection: Connection, query: str, facets: Mapping[str, Sequence[str]], *, newest: int
) -> list[tuple[str, float]]:
    """Identifiers of exchanges that have these words, and how well they match: the best first, then the newest.

    Only the `newest` matches are looked at. `facets` are values that an exchange must have: alternatives under each of
    the names `key`, `user`, `project`, `model`, `provider`, `status` and `conversation`; `visible` holds alternatives
    of different names, such as `user:ID`. What is encrypted is not found. Raises `BadRequest`: see `words.parse`.
    """
    parsed = words.parse(query)
    alternatives = facets_of.alternatives(facets)
    if not all(alternatives):
        return []
    found = await _index_of(connection).find(connection, parsed, alternatives, newest=newest)
    return sorted(found, key=lambda hit: (hit[1], hit[0]), reverse=True)


def _index_of(connection: Connection) -> Index:
    return _INDEXES[connection.dialect.name]


async def _next(database: Database, most: int) -> tuple[list[Row[Any]], bool]:
    """The oldest with their texts, until these are long together; and whether there are more."""
    found: list[Row[Any]] = []
    room = _BATCH
    async with database.transaction() as connection:
        while len(found) < most and room > 0:
            after = found[-1].exchange_id if found else ""
            page = (await _to_come.execute(connection, after=after)).all()
            for row in page:
                if len(found) == most or room <= 0:
                    return found, True
                found.append(row)
                room -= len(row.question or "") + len(row.answer or "")
            if len(page) < _PAGE:
                return found, False
    return found, True


def _entry(row: Row[Any], *, number: int = 0) -> Entry:
    text = words.folded(f"{row.question}\n{row.answer}")
    return Entry(row.exchange_id, text, " ".join(facets_of.of(row[-len(facets_of.COLUMNS) :])), number)
