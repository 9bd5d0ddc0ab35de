"""Queries on the answers that are kept under their callers' idempotency keys."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_proxy.core import types
from ai_proxy.core.types import KeptAnswer
from ai_proxy.storage import texts
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.engine import Database
from ai_proxy.storage.statements import MakeInsert, PerDatabase
from ai_proxy.storage.tables import IdempotentAnswer

LIFETIME = 24 * 3600 * 1_000_000  # microseconds

_headers = msgspec.json.Decoder(dict[str, str])


def _insert_replacing_expired(insert: MakeInsert) -> Insert:
    new = insert(IdempotentAnswer)
    columns = [column.name for column in IdempotentAnswer.__table__.columns if not column.primary_key]
    return new.on_conflict_do_update(
        index_elements=["key_id", "idempotency_key"],
        set_={name: new.excluded[name] for name in columns},
        where=IdempotentAnswer.created_at <= new.excluded.created_at - LIFETIME,  # else the first one stays
    )


_add = PerDatabase(_insert_replacing_expired)


async def find(database: Database, key_id: str, key: str, *, now: int) -> KeptAnswer | None:
    """What was answered within the last 24 hours. `now` is in microseconds since the epoch."""
    query = select(IdempotentAnswer.__table__).where(
        IdempotentAnswer.key_id == key_id,
        IdempotentAnswer.idempotency_key == key,
        IdempotentAnswer.created_at > now - LIFETIME,
    )
    async with database.transaction() as connection:
        row = (await connection.execute(query)).one_or_none()
    body = None if row is None else texts.opened_bytes(database.cipher, row.body)
    if row is None or body is None:  # who has not the key, asks anew
        return None
    return KeptAnswer(
        key=row.idempotency_key,
        digest=row.digest,
        body=body,
        headers=_headers.decode(row.headers),
        exchange_id=row.exchange_id,
    )


async def add(connection: AsyncConnection, exchanges: Sequence[types.Exchange], cipher: Cipher | None) -> None:
    """Keep the answers of those that have one to keep."""
    rows = [
        _row(exchange, exchange.kept, cipher)
        for exchange in exchanges
        if exchange.kept is not None and exchange.keep_texts
    ]
    if rows:
        await connection.execute(_add(connection), rows)


def _row(exchange: types.Exchange, kept: KeptAnswer, cipher: Cipher | None) -> dict[str, object]:
    return {
        "key_id": exchange.key_id,
        "idempotency_key": kept.key,
        "digest": kept.digest,
        "body": texts.stored_bytes(cipher, kept.body),
        "headers": msgspec.json.encode(kept.headers).decode(),
        "exchange_id": exchange.id,
        "created_at": exchange.created_at,
    }
