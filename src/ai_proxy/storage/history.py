"""Queries on the history."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Row

from ai_proxy.core import types
from ai_proxy.core.types import Turn
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import Exchange

_MAX_TURNS = 1000
_PAGE_CHARACTERS = 8 * 2**20  # of question and answer on one page, or one exchange if that is longer

_attempts = msgspec.json.Decoder(list[types.Attempt])


async def page(
    database: Database, *, key_id: str, before: str | None, limit: int
) -> tuple[Sequence[types.Exchange], bool]:
    """The key's exchanges, newest first, and whether there are more after them.

    Pass the last id of one page as `before` to get the next. Long texts make a page shorter than `limit`.
    """
    query = select(Exchange.__table__).where(Exchange.key_id == key_id).order_by(Exchange.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(Exchange.id < before)
    found: list[types.Exchange] = []
    budget = _PAGE_CHARACTERS
    async with database.transaction() as connection, connection.stream(query) as rows:
        async for row in rows:
            budget -= len(row.question) + len(row.answer)
            if len(found) == limit or (budget < 0 and found):
                return found, True
            found.append(_exchange(row))
    return found, False


async def earlier(database: Database, key_id: str, conversation_id: str, *, budget: int) -> Sequence[Turn]:
    """The completed exchanges of a conversation, oldest first: the newest of them whose texts fit into `budget`."""
    query = (
        select(Exchange.question, Exchange.answer)
        .where(Exchange.conversation_id == conversation_id, Exchange.key_id == key_id, Exchange.status == "completed")
        .order_by(Exchange.id.desc())
        .limit(_MAX_TURNS)
    )
    turns: list[Turn] = []
    async with database.transaction() as connection, connection.stream(query) as rows:
        async for question, answer in rows:
            budget -= len(question) + len(answer)
            if budget < 0:
                break
            turns.append(Turn(question, answer))
    return turns[::-1]


def _exchange(row: Row[Any]) -> types.Exchange:
    return types.Exchange(
        id=row.id,
        key_id=row.key_id,
        question=row.question,
        model=row.model,
        conversation_id=row.conversation_id,
        created_at=row.created_at,
        started=0.0,
        provider=row.provider,
        mock=row.mock,
        answer=row.answer,
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
        dialect=row.dialect,
        stream=row.stream,
        cached=row.cached,
        attempts=_attempts.decode(row.attempts),
        user_id=row.user_id,
        project_id=row.project_id,
        cost=row.cost,
        price=row.price,
        asked_model=row.asked_model,
    )
