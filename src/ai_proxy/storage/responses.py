"""Queries on the responses that callers may fetch again, or go on from."""

from typing import NamedTuple

from sqlalchemy import select, update

from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import Bodies, Exchange


class StoredResponse(NamedTuple):
    request: bytes
    response: bytes


async def find(database: Database, key_id: str, response_id: str) -> StoredResponse | None:
    """The key's own response with this id."""
    query = (
        select(Bodies.request, Bodies.response)
        .join(Exchange, Exchange.id == Bodies.exchange_id)
        .where(Bodies.response_id == response_id, Exchange.key_id == key_id, Bodies.response.is_not(None))
        .limit(1)
    )
    async with database.transaction() as connection:
        row = (await connection.execute(query)).one_or_none()
    return None if row is None else StoredResponse(row.request, row.response)


async def forget(database: Database, key_id: str, response_id: str) -> bool:
    """Take away the name under which a response can be fetched; the history keeps it. False if there is none."""
    own = select(Exchange.id).where(Exchange.id == Bodies.exchange_id, Exchange.key_id == key_id).exists()
    change = update(Bodies).where(Bodies.response_id == response_id, own).values(response_id=None)
    async with database.transaction() as connection:
        return bool((await connection.execute(change)).rowcount)
