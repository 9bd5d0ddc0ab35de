"""The index of words in PostgreSQL: stems of words, Russian and English, and the facets beside them.

https://www.postgresql.org/docs/current/textsearch.html
"""

from collections.abc import Sequence

from sqlalchemy import text

from ai_proxy.storage import words
from ai_proxy.storage.engine import Connection
from ai_proxy.storage.search_entry import Entry
from ai_proxy.storage.words import Term, Words

# A vector has a megabyte at most, and a text of one-letter words takes more room there than it does itself.
_LONGEST = 400_000  # bytes

# The configuration `russian` takes words of Latin letters for English ones.
_ADD = text("""
WITH given AS (
    SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:texts AS text[]), CAST(:facets AS text[])) AS t (id, text, facets)
), numbered AS (
    INSERT INTO indexed (exchange_id) SELECT id FROM given ORDER BY id RETURNING number, exchange_id
)
INSERT INTO search (number, words)
SELECT number, to_tsvector('russian', text) || array_to_tsvector(string_to_array(facets, ' '))
FROM numbered JOIN given ON id = exchange_id
""")
_REMOVE = text("DELETE FROM search WHERE number = ANY (:numbers)")

# Words that everybody uses are not in the index. If there are no others, nothing can be found.
_FIND = text("""
SELECT (SELECT exchange_id FROM indexed WHERE indexed.number = counted.number),
    CASE WHEN matches < :few OR pg_column_size(words) < :short
    THEN ts_rank_cd(words, to_tsquery('russian', :wanted), 1) ELSE 0 END
FROM (
    SELECT number, words, count(*) OVER () AS matches FROM (
        SELECT number, words FROM search
        WHERE words @@ (
            to_tsquery('russian', :wanted) && CAST(:facets AS tsquery) && !! to_tsquery('russian', :unwanted)
        ) AND numnode(to_tsquery('russian', :wanted)) > 0
        ORDER BY number DESC LIMIT :newest
    ) AS newest
) AS counted
""")
# How to look for a word depends on how many have it, and a plan for any word does not know that.
_PLAN_FOR_THESE_WORDS = "SET LOCAL plan_cache_mode = force_custom_plan"
_FEW, _SHORT = 200, 20_000  # matches that are ranked whatever their size, and bytes of those that always are


class Index:
    async def add(self, connection: Connection, entries: Sequence[Entry]) -> None:
        given = {
            "ids": [entry.exchange_id for entry in entries],
            "texts": [_cut(" ".join(words.split(entry.text))) for entry in entries],
            "facets": [" ".join(map(_facet, entry.facets.split())) for entry in entries],
        }
        await connection.execute(_ADD, given)

    async def remove(self, connection: Connection, entries: Sequence[Entry]) -> None:
        await connection.execute(_REMOVE, {"numbers": [entry.number for entry in entries]})

    async def find(
        self, connection: Connection, query: Words, facets: Sequence[Sequence[str]], *, newest: int
    ) -> Sequence[tuple[str, float]]:
        given = {
            "wanted": " & ".join(map(_term, query.wanted)),
            "unwanted": " | ".join(map(_term, query.unwanted)),
            "facets": " & ".join(f"({' | '.join(map(_facet, values))})" for values in facets),
            "newest": newest,
            "few": _FEW,
            "short": _SHORT,
        }
        await connection.exec_driver_sql(_PLAN_FOR_THESE_WORDS)
        return [(identifier, rank) for identifier, rank in await connection.execute(_FIND, given)]


def _term(term: Term) -> str:
    phrase = " <-> ".join(term.words)
    return f"({phrase}:*)" if term.last == "beginning" else f"({phrase})"


def _facet(token: str) -> str:
    """As no word begins: both are in one vector, and may be asked for by their beginning."""
    return f"={token}"


def _cut(text: str) -> str:
    return text if len(text) * 4 <= _LONGEST else text.encode()[:_LONGEST].decode(errors="ignore")
