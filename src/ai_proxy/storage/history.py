"""Queries on the history."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Row

from ai_proxy.core import types
from ai_proxy.core.types import Turn
from ai_proxy.storage import idempotency
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import Bodies, Exchange

_MAX_TURNS = 1000
_PAGE_CHARACTERS = 8 * 2**20  # of question and answer on one page, or one exchange if that is longer

_add = insert(Exchange).on_conflict_do_nothing()
_add_bodies = insert(Bodies).on_conflict_do_nothing()
_attempts = msgspec.json.Decoder(list[types.Attempt])


async def add(database: Database, exchanges: Sequence[types.Exchange]) -> None:
    """Write exchanges in one transaction. One that is already there stays as it is, so a retry is harmless."""
    rows = [_row(exchange) for exchange in exchanges]
    bodies = [_bodies(exchange) for exchange in exchanges if exchange.request is not None]
    async with database.writing() as connection:
        await connection.execute(_add, rows)
        if bodies:
            await connection.execute(_add_bodies, bodies)
        await idempotency.add(connection, exchanges)


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


def _row(exchange: types.Exchange) -> dict[str, object]:
    usage = exchange.usage
    return {
        "id": exchange.id,
        "key_id": exchange.key_id,
        "conversation_id": exchange.conversation_id,
        "question": exchange.question,
        "answer": exchange.answer,
        "model": exchange.model,
        "provider": exchange.provider,
        "mock": exchange.mock,
        "status": exchange.status,
        "error": exchange.error,
        "finish_reason": exchange.finish_reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "usage_estimated": usage.estimated,
        "duration_ms": exchange.duration_ms,
        "created_at": exchange.created_at,
        "dialect": exchange.dialect,
        "stream": exchange.stream,
        "cached": exchange.cached,
        "attempts": msgspec.json.encode(exchange.attempts).decode(),
        "user_id": exchange.user_id,
        "project_id": exchange.project_id,
        "asked_model": exchange.asked_model,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost": exchange.cost,
        "price": exchange.price,
    }


def _bodies(exchange: types.Exchange) -> dict[str, object]:
    return {
        "exchange_id": exchange.id,
        "request": exchange.request,
        "response": exchange.response,
        "response_id": exchange.response_id,
    }


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
        usage=types.Usage(row.input_tokens, row.output_tokens, row.usage_estimated),
        duration_ms=row.duration_ms,
        dialect=row.dialect,
        stream=row.stream,
        cached=row.cached,
        attempts=_attempts.decode(row.attempts),
    )
