"""The index of words in SQLite: FTS5, which keeps no texts of its own and knows no forms of words.

So a word is looked for by its stem: whatever begins with that. https://www.sqlite.org/fts5.html
"""

import time
from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, func, select

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.search_entry import Entry
from ai_proxy.storage.tables import Indexed
from ai_proxy.storage.words import Term, Words, stem

_ADD = "INSERT INTO search (rowid, words, facets) VALUES (?, ?, ?)"
_NUMBER = "INSERT INTO indexed (number, exchange_id) VALUES (?, ?)"
# Takes exactly what was put in: https://www.sqlite.org/fts5.html#the_delete_command
_REMOVE = "INSERT INTO search (search, rowid, words, facets) VALUES ('delete', ?, ?, ?)"
# What was written is merged in small parts, as many as it takes in the long run. By itself FTS5 would do it in large
# ones, and who writes then would wait for 80 ms: https://www.sqlite.org/fts5.html#the_merge_command
_MERGE = "INSERT INTO search (search, rank) VALUES ('merge', ?)"
_PAGES, _CHARACTERS = 8, 800  # so many pages, and one more for so many characters

_FIND = """
SELECT number, exchange_id FROM (SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid DESC LIMIT ?)
JOIN indexed ON number = rowid
"""
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM search WHERE search MATCH ? LIMIT ?)"
# The plus keeps the database from looking each number up on its own.
_RANK = """
SELECT rowid AS number, -bm25(search) AS rank FROM search
WHERE search MATCH ? AND rowid BETWEEN ? AND ? AND +rowid IN (SELECT value FROM json_each(?))
"""

# bm25 goes through all that has a word to see how rare it is. What so many have says little of any of them.
_COMMON = 20_000
_RANKED_TERMS = 8
# To count those that have a word takes as long as to find them, so what is known to be common is believed for a while.
_BELIEVED, _MOST_BELIEVED = 600.0, 1000  # seconds, and words


class Index:
    def __init__(self) -> None:
        self._common: WeakKeyDictionary[Engine, dict[str, float]] = WeakKeyDictionary()  # words, and until when

    async def add(self, connection: Connection, entries: Sequence[Entry]) -> None:
        last = await connection.scalar(select(func.coalesce(func.max(Indexed.number), 0)))
        numbered = list(enumerate(entries, (last or 0) + 1))
        await connection.exec_driver_sql(_ADD, [(number, entry.text, entry.facets) for number, entry in numbered])
        await connection.exec_driver_sql(_NUMBER, [(number, entry.exchange_id) for number, entry in numbered])
        await _merge(connection, entries)

    async def remove(self, connection: Connection, entries: Sequence[Entry]) -> None:
        await connection.exec_driver_sql(_REMOVE, [(entry.number, entry.text, entry.facets) for entry in entries])
        await _merge(connection, entries)

    async def find(
        self, connection: Connection, query: Words, facets: Sequence[Sequence[str]], *, newest: int
    ) -> Sequence[tuple[str, float]]:
        found = (await connection.exec_driver_sql(_FIND, (_match(query, facets), newest))).all()
        ranks = await self._ranks(connection, query, [row.number for row in found])
        return [(row.exchange_id, ranks.get(row.number, 0.0)) for row in found]

    async def _ranks(self, connection: Connection, query: Words, numbers: Sequence[int]) -> dict[int, float]:
        """How well these match, by those of the words that not everybody has."""
        if len(numbers) < 2:  # noqa: PLR2004 - one is the best
            return {}
        terms = [_in_words([_term(term)]) for term in query.wanted[:_RANKED_TERMS]]
        rare = [term for term in terms if not await self._is_common(connection, term)]
        if not rare:
            return {}
        parameters = (" AND ".join(rare), min(numbers), max(numbers), str(list(numbers)))
        return {row.number: row.rank for row in await connection.exec_driver_sql(_RANK, parameters)}

    async def _is_common(self, connection: Connection, term: str) -> bool:
        common = self._common.setdefault(connection.sync_engine, {})
        if common.get(term, 0.0) > time.monotonic():
            return True
        if await _count(connection, term) < _COMMON:
            return False
        if len(common) >= _MOST_BELIEVED:
            common.clear()
        common[term] = time.monotonic() + _BELIEVED
        return True


async def _merge(connection: Connection, entries: Sequence[Entry]) -> None:
    pages = _PAGES + sum(len(entry.text) for entry in entries) // _CHARACTERS
    await connection.exec_driver_sql(_MERGE, (pages,))


async def _count(connection: Connection, match: str) -> int:
    count: int = (await connection.exec_driver_sql(_COUNT, (match, _COMMON))).scalar_one()
    return count


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
