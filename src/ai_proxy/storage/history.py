"""Queries on the history."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Row

from ai_proxy.core import types
from ai_proxy.storage import filters, remarks
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.filters import Wanted
from ai_proxy.storage.remarks import Remarks
from ai_proxy.storage.tables import Bodies, Exchange
from ai_proxy.storage.texts import ENCRYPTED, readable, readable_bytes

_PAGE_CHARACTERS = 8 * 2**20  # of question and answer on one page, or one exchange if that is longer

_attempts = msgspec.json.Decoder(list[types.Attempt])


class Entry(NamedTuple):
    """An exchange as the history has it. `texts`: whether question, answer and bodies are `plain`, `encrypted`, or
    `none` if they were not kept; here they can be read in any case.
    """

    exchange: types.Exchange
    texts: str
    remarks: Remarks


class Page(NamedTuple):
    """`before` is that of the next page, None if this is the last one."""

    entries: Sequence[Entry]
    before: str | None


async def page(
    database: Database, connection: Connection, wanted: Wanted, *, before: str | None = None, limit: int
) -> Page:
    """Exchanges, newest first. Pass `before` of one page to get the next.

    Long texts make a page shorter than `limit`; so do filters that no index knows, and then it may be empty.
    """
    ids, following = await filters.newest(connection, wanted, before=before, limit=limit)
    entries = await read(database, connection, ids)
    if entries and len(entries) < len(ids):
        following = entries[-1].exchange.id
    return Page(entries, following)


async def read(database: Database, connection: Connection, ids: Sequence[str]) -> list[Entry]:
    """These exchanges, in their order, as far as their texts fit on a page."""
    fitting = await _fitting(connection, ids) if ids else ()
    if not fitting:
        return []
    rows = await connection.execute(select(Exchange.__table__).where(Exchange.id.in_(fitting)))
    remarked = await remarks.of(database, connection, fitting)
    found = {row.id: Entry(_exchange(database, row), row.texts, remarked.get(row.id, Remarks())) for row in rows}
    return [found[identifier] for identifier in fitting if identifier in found]


async def _fitting(connection: Connection, ids: Sequence[str]) -> Sequence[str]:
    size = func.length(Exchange.question) + func.length(Exchange.answer)
    rows = await connection.execute(select(Exchange.id, size.label("size")).where(Exchange.id.in_(ids)))
    sizes = {row.id: row.size for row in rows}
    fitting: list[str] = []
    budget = _PAGE_CHARACTERS
    for identifier in filter(sizes.__contains__, ids):
        budget -= sizes[identifier]
        if budget < 0 and fitting:
            break
        fitting.append(identifier)
    return fitting


async def find(connection: Connection, exchange_id: str) -> Any:
    """Whose it is, without its texts; None if there is none."""
    query = select(
        Exchange.id, Exchange.key_id, Exchange.user_id, Exchange.project_id, Exchange.conversation_id, Exchange.texts
    )
    found: Any = (await connection.execute(query.where(Exchange.id == exchange_id))).first()
    return found


async def bodies(database: Database, connection: Connection, found: Row[Any]) -> tuple[bytes | None, bytes | None]:
    """Request and response, as far as they are kept. `found` says whose they are."""
    query = select(Bodies.request, Bodies.response).where(Bodies.exchange_id == found.id)
    row = (await connection.execute(query)).first()
    if row is None:
        return None, None
    request, response = (readable_bytes(database.cipher, found.texts, body) for body in (row.request, row.response))
    return request, response


def _exchange(database: Database, row: Row[Any]) -> types.Exchange:
    question, answer = readable(database.cipher, row)
    return types.Exchange(
        id=row.id,
        key_id=row.key_id,
        question=question,
        model=row.model,
        conversation_id=row.conversation_id,
        created_at=row.created_at,
        started=0.0,
        provider=row.provider,
        mock=row.mock,
        answer=answer,
        status=row.status,
        error=row.error,
        finish_reason=row.finish_reason,
        usage=types.Usage(
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            estimated=row.usage_estimated,
            cache_read_tokens=row.cache_read_tokens,
            cache_write_tokens=row.cache_write_tokens,
            input_audio_tokens=row.input_audio_tokens,
            output_audio_tokens=row.output_audio_tokens,
            reasoning_tokens=row.reasoning_tokens,
        ),
        duration_ms=row.duration_ms,
        waited_ms=row.waited_ms,
        first_token_ms=row.first_token_ms,
        dialect=row.dialect,
        stream=row.stream,
        cached=row.cached,
        attempts=_attempts.decode(row.attempts),
        user_id=row.user_id,
        project_id=row.project_id,
        cost=row.cost,
        price=row.price,
        asked_model=row.asked_model,
        keep_texts=row.texts != "none",
    )


async def newest_is_encrypted(database: Database) -> bool:
    """Whether the last exchange of all had its texts encrypted."""
    async with database.transaction() as connection:
        newest: str | None = await connection.scalar(select(Exchange.texts).order_by(Exchange.id.desc()).limit(1))
    return newest == ENCRYPTED
