"""Queries on the history."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Row

from ai_proxy.core import types
from ai_proxy.core.types import Turn
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import Exchange

_MAX_TURNS = 1000

_add = insert(Exchange).on_conflict_do_nothing()


async def add(database: Database, exchanges: Sequence[types.Exchange]) -> None:
    """Write exchanges in one transaction. One that is already there stays as it is, so a retry is harmless."""
    rows = [_row(exchange) for exchange in exchanges]
    async with database.writing() as connection:
        await connection.execute(_add, rows)


async def page(database: Database, *, key_id: str, before: str | None, limit: int) -> Sequence[types.Exchange]:
    """The key's exchanges, newest first. Pass the last id of one page as `before` to get the next."""
    query = select(Exchange.__table__).where(Exchange.key_id == key_id).order_by(Exchange.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Exchange.id < before)
    async with database.transaction() as connection:
        rows = (await connection.execute(query)).all()
    return [_exchange(row) for row in rows]


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
    )
