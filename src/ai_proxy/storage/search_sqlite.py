"""The index of words in SQLite: FTS5, which keeps no texts of its own and knows no forms of words.

So a word is looked for by its stem: whatever begins with that. https://www.sqlite.org/fts5.html

It is in parts, each a table of its own. FTS5 merges what was written, and cannot stop in the middle of a word: of one
that each of a million rows has, everybody would wait until all of it is written anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from msgspec.structs import replace
from sqlalchemy import func, select

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.search_entry import Entry
from ai_proxy.storage.tables import Indexed
from ai_proxy.storage.words import Term, Words, stem

_ROWS = 2**16  # of a part, by their numbers
# Contentless: the texts are where they are. https://www.sqlite.org/fts5.html#contentless_tables
_MAKE = """
CREATE VIRTUAL TABLE IF NOT EXISTS {part}
USING fts5(words, facets, content='', tokenize='unicode61 remove_diacritics 2')
"""
_PARTS = "SELECT name FROM sqlite_master WHERE name GLOB 'search_[0-9]*' AND sql GLOB 'CREATE VIRTUAL TABLE*'"
_DROP = "DROP TABLE {part}"

_ADD = "INSERT INTO {part} (rowid, words, facets) VALUES (?, ?, ?)"
_NUMBER = "INSERT INTO indexed (number, exchange_id) VALUES (?, ?)"
# Takes exactly what was put in: https://www.sqlite.org/fts5.html#the_delete_command
_REMOVE = "INSERT INTO {part} ({part}, rowid, words, facets) VALUES ('delete', ?, ?, ?)"
# What was written is merged by whoever writes, in small steps, as many as it takes in the long run. By itself FTS5
# would take large ones: https://www.sqlite.org/fts5.html#the_merge_command
_NO_MERGES = "INSERT INTO {part} ({part}, rank) VALUES ('automerge', 0)"
_MERGE = "INSERT INTO {part} ({part}, rank) VALUES ('merge', ?)"
_PAGES, _BYTES = 8, 500  # so many pages, and one more for so many bytes

_FIND = """
SELECT number, exchange_id FROM (SELECT rowid FROM {part} WHERE {part} MATCH ? ORDER BY rowid DESC LIMIT ?)
JOIN indexed ON number = rowid
"""
# The plus keeps the database from looking each number up on its own.
_RANK = """
SELECT rowid AS number, -bm25({part}) AS rank FROM {part}
WHERE {part} MATCH ? AND rowid BETWEEN ? AND ? AND +rowid IN (SELECT value FROM json_each(?))
"""
_RANKED_TERMS = 8


class Index:
    async def add(self, connection: Connection, entries: Sequence[Entry]) -> None:
        last = await connection.scalar(select(func.coalesce(func.max(Indexed.number), 0))) or 0
        numbered = [replace(entry, number=number) for number, entry in enumerate(entries, last + 1)]
        for part, group in _by_part(numbered):
            if not last or last // _ROWS != group[0].number // _ROWS:
                await _begin(connection, part)
            await _write(connection, _ADD, part, group)
        await connection.exec_driver_sql(_NUMBER, [(entry.number, entry.exchange_id) for entry in numbered])

    async def remove(self, connection: Connection, entries: Sequence[Entry]) -> None:
        for part, group in _by_part(sorted(entries, key=attrgetter("number"))):
            await _write(connection, _REMOVE, part, group)

    async def find(
        self, connection: Connection, query: Words, facets: Sequence[Sequence[str]], *, newest: int
    ) -> Sequence[tuple[str, float]]:
        await _hold(connection)
        match = _match(query, facets)
        found: list[tuple[str, float]] = []
        for part in await _parts(connection):
            rows = (await connection.exec_driver_sql(_FIND.format(part=part), (match, newest - len(found)))).all()
            ranks = await _ranks(connection, part, query, [row.number for row in rows])
            found += ((row.exchange_id, ranks.get(row.number, 0.0)) for row in rows)
            if len(found) >= newest:
                break
        return found


def _by_part(entries: Iterable[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Of entries in the order of their numbers."""
    for place, group in groupby(entries, key=lambda entry: entry.number // _ROWS):
        yield f"search_{place}", list(group)


async def _hold(connection: Connection) -> None:
    """What there is now: the driver lets each statement see what there is then, and parts come and go."""
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is not None and not driver.in_transaction:
        await connection.exec_driver_sql("BEGIN")


async def _parts(connection: Connection) -> list[str]:
    """The newest first."""
    names = (await connection.exec_driver_sql(_PARTS)).scalars()
    return sorted(names, key=_place, reverse=True)


def _place(part: str) -> int:
    return int(part.removeprefix("search_"))


async def _begin(connection: Connection, part: str) -> None:
    """Make a part, if there is none, and drop those that have nothing any more."""
    await connection.exec_driver_sql(_MAKE.format(part=part))
    await connection.exec_driver_sql(_NO_MERGES.format(part=part))
    for other in await _parts(connection):
        first = _place(other) * _ROWS
        rest = select(Indexed.number).where(Indexed.number.between(first, first + _ROWS - 1)).limit(1)
        if other != part and await connection.scalar(rest) is None:
            await connection.exec_driver_sql(_DROP.format(part=other))


async def _write(connection: Connection, statement: str, part: str, entries: Sequence[Entry]) -> None:
    rows = [(entry.number, entry.text, entry.facets) for entry in entries]
    await connection.exec_driver_sql(statement.format(part=part), rows)
    size = sum(len(entry.text.encode()) + len(entry.facets) for entry in entries)
    await connection.exec_driver_sql(_MERGE.format(part=part), (_PAGES + size // _BYTES,))


async def _ranks(connection: Connection, part: str, query: Words, numbers: Sequence[int]) -> dict[int, float]:
    """How well these match, in terms of how well those of their part do: each table has measures of its own."""
    if len(numbers) < 2:  # noqa: PLR2004 - one is as good as all
        return dict.fromkeys(numbers, 1.0)
    match = " AND ".join(_in_words([_term(term)]) for term in query.wanted[:_RANKED_TERMS])
    parameters = (match, min(numbers), max(numbers), str(list(numbers)))
    found = {row.number: row.rank for row in await connection.exec_driver_sql(_RANK.format(part=part), parameters)}
    usual = sum(found.values()) / len(numbers)
    return {number: rank / usual for number, rank in found.items()}


def _match(query: Words, facets: Sequence[Sequence[str]]) -> str:
    wanted = [_in_words(map(_term, query.wanted), " AND ")]
    wanted += [f"facets : ({' OR '.join(_quoted(word) for word in words)})" for words in facets]
    match = f"({' AND '.join(wanted)})"
    return f"{match} NOT {_in_words(map(_term, query.unwanted), ' OR ')}" if query.unwanted else match


def _in_words(terms: Iterable[str], operator: str = "") -> str:
    return f"words : ({operator.join(terms)})"


def _term(term: Term) -> str:
    *before, last = term.words
    found = stem(last) if term.last == "forms" else last if term.last == "beginning" else None
    phrase = _quoted(" ".join((*before, found or last)))
    return f"{phrase} *" if found else phrase


def _quoted(text: str) -> str:
    return f'"{text}"'  # of letters and digits
