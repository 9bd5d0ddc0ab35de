"""Writing exchanges: each goes into the history and into the sums of its day, together and exactly once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache

import msgspec
from sqlalchemy import select

from ai_proxy.core import types
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import conversations, idempotency, texts
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.statements import insert_adding, insert_ignoring
from ai_proxy.storage.tables import Bodies, DailyUsage, Exchange

Key = tuple[str, str, str, str, str, str]
Counts = tuple[int, ...]
Along = Callable[[Connection, Sequence[types.Exchange]], Awaitable[None]]

DIMENSIONS = ("day", "key_id", "user_id", "project_id", "provider", "model")
SUMS = tuple(column.name for column in DailyUsage.__table__.columns if not column.primary_key)

_DAY = 86_400_000_000  # microseconds
_EPOCH = date(1970, 1, 1)

# What configuration and providers say may be longer than its column: SQLite does not mind, PostgreSQL refuses the row.
_LONGEST_MODEL, _LONGEST_PROVIDER, _LONGEST_REASON, _LONGEST_ID = 200, 100, 100, 200

_MANY = 100_000  # characters, for whose encryption nobody else is to wait

_TRIES = 3  # to write rows that somebody else writes too

_json = msgspec.json.Encoder()

_add = insert_ignoring(Exchange)
_add_bodies = insert_ignoring(Bodies)
_count = insert_adding(DailyUsage, dimensions=DIMENSIONS, sums=SUMS)


class _Repeated(Exception):
    """Some of the rows are there already, so it is not known yet which of them are to be counted."""


async def add(database: Database, exchanges: Sequence[types.Exchange]) -> None:
    """Write exchanges in one transaction. One that is already there stays as it is, so a retry is harmless."""
    try:
        async with database.writing() as connection:
            await _write(connection, exchanges, database.cipher)
    except _Repeated:  # a commit whose outcome was not heard of had succeeded, or rows come from the spool once more
        await add_new(database, exchanges)


async def add_new(
    database: Database, exchanges: Sequence[types.Exchange], along: Along | None = None
) -> Sequence[types.Exchange]:
    """Write those that are not there yet, and `along` with them what else belongs to these. Returns them.

    Another process may be writing some of them just now: the commit of one that was killed can still arrive.
    """
    for _ in range(_TRIES):
        with suppress(_Repeated):
            async with database.writing() as connection:
                if new := await _not_yet_there(connection, exchanges):
                    await _write(connection, new, database.cipher)
                    if along is not None:
                        await along(connection, new)
            return new
    message = "The history cannot be written at the moment."
    raise DatabaseUnavailable(message) from _Repeated("others write the same rows all the time")


async def _write(connection: Connection, exchanges: Sequence[types.Exchange], cipher: Cipher | None) -> None:
    if await _add.write(connection, await _rows(exchanges, cipher)) != len(exchanges):
        raise _Repeated
    await _count.write(connection, summed(exchanges))
    if bodies := [_bodies(exchange, cipher) for exchange in exchanges if _has_bodies(exchange)]:
        await _add_bodies.write(connection, bodies)
    await idempotency.add(connection, exchanges, cipher)
    await conversations.count(connection, exchanges)


async def _not_yet_there(connection: Connection, exchanges: Sequence[types.Exchange]) -> Sequence[types.Exchange]:
    by_id = {exchange.id: exchange for exchange in exchanges}
    found = await connection.scalars(select(Exchange.id).where(Exchange.id.in_(by_id)))
    for identifier in found:
        del by_id[identifier]
    return list(by_id.values())


def summed(exchanges: Iterable[types.Exchange]) -> list[dict[str, object]]:
    """What exchanges add to the rows of `daily_usage`.

    In the rows' order: two processes that lock the same rows in different orders would wait for each other.
    """
    counts: dict[Key, list[Counts]] = {}
    for exchange in exchanges:
        counts.setdefault(_key(exchange), []).append(_counts(exchange))
    return [
        dict(zip((*DIMENSIONS, *SUMS), (*key, *map(sum, zip(*counts[key], strict=True))), strict=True))
        for key in sorted(counts)
    ]


def _key(exchange: types.Exchange) -> Key:
    return (
        _day(exchange.created_at // _DAY),
        exchange.key_id,
        exchange.user_id,
        exchange.project_id or "",
        exchange.provider[:_LONGEST_PROVIDER],
        exchange.model[:_LONGEST_MODEL],
    )


def _counts(exchange: types.Exchange) -> Counts:
    """In the order of the columns: see `SUMS`."""
    usage = exchange.usage
    nobody_knows = exchange.cost is None and not (exchange.cached or exchange.mock)
    return (
        1,
        int(exchange.status == "failed"),  # PostgreSQL takes no truth for a number
        int(exchange.cached),
        int(exchange.status == "completed" and nobody_knows),
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        exchange.cost or 0,
    )


@lru_cache(maxsize=4)
def _day(number: int) -> str:
    """The day (UTC) with this number, counted from the epoch."""
    return (_EPOCH + timedelta(days=number)).isoformat()


async def _rows(exchanges: Sequence[types.Exchange], cipher: Cipher | None) -> list[dict[str, object]]:
    """Long texts are encrypted in a thread: others need not wait for that."""

    def made() -> list[dict[str, object]]:
        return [_row(exchange, cipher) for exchange in exchanges]

    if cipher is None or sum(len(exchange.question) + len(exchange.answer) for exchange in exchanges) <= _MANY:
        return made()
    return await asyncio.to_thread(made)


def _row(exchange: types.Exchange, cipher: Cipher | None) -> dict[str, object]:
    usage = exchange.usage
    question, answer, kind = texts.stored(cipher, exchange)
    return {
        "id": exchange.id,
        "key_id": exchange.key_id,
        "conversation_id": exchange.conversation_id,
        "question": question,
        "answer": answer,
        "texts": kind,
        "model": exchange.model[:_LONGEST_MODEL],
        "provider": exchange.provider[:_LONGEST_PROVIDER],
        "mock": exchange.mock,
        "status": exchange.status,
        "error": exchange.error,
        "finish_reason": exchange.finish_reason and exchange.finish_reason[:_LONGEST_REASON],
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "usage_estimated": usage.estimated,
        "duration_ms": exchange.duration_ms,
        "created_at": exchange.created_at,
        "dialect": exchange.dialect,
        "stream": exchange.stream,
        "cached": exchange.cached,
        "attempts": _json.encode(exchange.attempts).decode(),
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
        "waited_ms": exchange.waited_ms,
        "first_token_ms": exchange.first_token_ms,
    }


def _has_bodies(exchange: types.Exchange) -> bool:
    return exchange.request is not None and exchange.keep_texts


def _bodies(exchange: types.Exchange, cipher: Cipher | None) -> dict[str, object]:
    return {
        "exchange_id": exchange.id,
        "request": texts.stored_bytes(cipher, exchange.request),
        "response": texts.stored_bytes(cipher, exchange.response),
        "response_id": exchange.response_id and exchange.response_id[:_LONGEST_ID],
    }
