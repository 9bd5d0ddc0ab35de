"""The audit: what clients got, what the provider was asked, and what the database has must be one and the same."""

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tests.service import Service
from tests.soak.load import Journal, plain
from tests.soak.provider import answer_to, token_of
from tests.stores import Store

_ROWS = "select id, question, answer, status, error, conversation_id from exchanges order by id"
_SUMS = """
    created_at / 86400000000, key_id, user_id, coalesce(project_id, ''), provider, model, count(*),
    sum(case when status = 'failed' then 1 else 0 end), sum(case when cached then 1 else 0 end),
    sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens),
    coalesce(sum(cost), 0)
"""
_SUMMED = f"select {_SUMS} from exchanges group by 1, 2, 3, 4, 5, 6"  # noqa: S608 - our own
_DAYS = """
    select day, key_id, user_id, project_id, provider, model, calls, failed, cached, input_tokens, output_tokens,
           cache_read_tokens, cache_write_tokens, reasoning_tokens, cost
    from daily_usage
"""
_COUNTED = "select id, exchanges from conversations"
_WORDS = "select exchange_id from unindexed union all select exchange_id from indexed"


class Row(NamedTuple):
    id: str
    question: str
    answer: str
    status: str
    error: str | None
    conversation_id: str | None


def metric(service: Service, name: str) -> float:
    """The sum of all that is counted under this name."""
    text = service.client.get("/metrics").text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def calls(service: Service) -> dict[str, int]:
    """How many there were since its start, by what became of them."""
    text = service.client.get("/metrics").text
    found: Counter[str] = Counter()
    for outcome, value in re.findall(r'^aiproxy_calls_total{outcome="(.*?)".*} (\S+)$', text, re.MULTILINE):
        found[outcome] += int(float(value))
    return dict(found)


def wait_until_settled(service: Service, seconds: float = 60) -> None:
    """Until no call runs any more and all rows are in the database."""
    waiting = ("aiproxy_records_waiting", "aiproxy_records_spooled")
    service.eventually(lambda: not any(metric(service, name) for name in waiting), seconds, pause=0.1)


def rows(store: Store) -> list[Row]:
    return [Row(*found) for found in store.query(_ROWS)]


def problems(store: Store, journal: Journal, asked: Counter[str]) -> list[str]:
    """What does not agree; there must be nothing. `asked` is the provider's log. Call it when all is settled."""
    found = rows(store)
    return [
        *journal.wrong,
        *_of_answers(found, journal, asked),
        *_of_rows(found, journal),
        *_of_sums(store),
        *_of_conversations(store, found),
        *_of_words(store, found),
    ]


def unrecorded(store: Store, asked: Counter[str]) -> list[str]:
    """Calls that the provider got and the history has not: there are none of a process that was not killed."""
    there = {token_of(row.question) for row in rows(store)}
    return [f"{token} was asked of the provider, and there is no row" for token in sorted(asked.keys() - there)]


def refusal_problems(journal: Journal) -> list[str]:
    """A call that needs the database, for its conversation or budget, is told so; nobody else is refused anything."""
    return [
        f"{refusal.token} was refused with {refusal.status}: {refusal.body[:200]}"
        for refusal in journal.refused
        if refusal.status != 503 or json.loads(refusal.body)["error"]["code"] != "database_unavailable"
    ]


def _of_answers(found: list[Row], journal: Journal, asked: Counter[str]) -> list[str]:
    by_token = {token_of(row.question): row for row in found}
    wrong = []
    for token, identifier in journal.answered.items():
        row = by_token.get(token)
        if row is None:
            wrong.append(f"{token} was answered and is not in the history")
        elif (row.status, row.error, row.answer) != ("completed", None, answer_to(token)):
            wrong.append(f"{token} was answered; in the history it is {row.status}, {row.error}, {row.answer[:80]!r}")
        elif identifier is not None and identifier != plain(row.id):
            wrong.append(f"{token} is {identifier} for the client and {row.id} in the history")
        if not asked[token]:
            wrong.append(f"{token} was answered, and the provider was not asked")
    return wrong


def _of_rows(found: list[Row], journal: Journal) -> list[str]:
    tokens = Counter(token_of(row.question) for row in found)
    return [
        *(f"{token} is {times} times in the history" for token, times in tokens.items() if times > 1),
        *(f"{token} is in the history and was never asked" for token in tokens.keys() - journal.asked),
        *(f"{row.id} has the state {row.status}" for row in found if row.status not in _STATES),
    ]


_STATES = {"completed", "cancelled", "failed"}


def _of_sums(store: Store) -> list[str]:
    first = datetime(1970, 1, 1, tzinfo=UTC).date()
    must_be = sorted((str(first + timedelta(days=int(day))), *map(_value, rest)) for day, *rest in store.query(_SUMMED))
    is_so = sorted(tuple(map(_value, row)) for row in store.query(_DAYS))
    return [] if is_so == must_be else [f"daily_usage is {is_so}, and the rows add up to {must_be}"]


def _value(value: object) -> object:
    return value if isinstance(value, str) else int(value)


def _of_conversations(store: Store, found: list[Row]) -> list[str]:
    must_be = Counter(row.conversation_id for row in found if row.conversation_id is not None)
    is_so = dict(store.query(_COUNTED))
    wrong = {name for name in must_be.keys() | is_so if must_be.get(name) != is_so.get(name)}
    return [f"conversation {name}: {is_so.get(name)} counted, {must_be.get(name)} there" for name in sorted(wrong)]


def _of_words(store: Store, found: list[Row]) -> list[str]:
    """Each row is in the index of words, or waits for it."""
    known = Counter(identifier for (identifier,) in store.query(_WORDS))
    odd = [row.id for row in found if known[row.id] != 1]
    return [f"{len(odd)} rows are not once in the index of words or before it, {odd[0]} for one"] if odd else []


def as_text(wrong: list[str]) -> str:
    return json.dumps(wrong[:20], indent=1, ensure_ascii=False) + f"\n{len(wrong)} in all"
