"""Queries on the responses that callers may fetch again, or go on from."""

from typing import Any, NamedTuple

from sqlalchemy import Select, select, update

from ai_proxy.storage import texts
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import Bodies, Exchange


class StoredTurn(NamedTuple):
    request: bytes
    response: bytes


async def find(database: Database, key_id: str, response_id: str) -> bytes | None:
    """The key's own response with this id."""
    async with database.transaction() as connection:
        row = (await connection.execute(_own(select(Bodies.response), key_id, response_id))).one_or_none()
    return None if row is None else texts.opened_bytes(database.cipher, row.response)


async def find_turn(database: Database, key_id: str, response_id: str) -> StoredTurn | None:
    """The same, and the request that it answers."""
    query = _own(select(Bodies.request, Bodies.response), key_id, response_id)
    async with database.transaction() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    request, response = (texts.opened_bytes(database.cipher, body) for body in row)
    return None if request is None or response is None else StoredTurn(request, response)


async def forget(database: Database, key_id: str, response_id: str) -> bool:
    """Take away the name under which a response can be fetched; the history keeps it. False if there is none."""
    own = select(Exchange.id).where(Exchange.id == Bodies.exchange_id, Exchange.key_id == key_id).exists()
    change = update(Bodies).where(Bodies.response_id == response_id, own).values(response_id=None)
    async with database.transaction() as connection:
        return bool((await connection.execute(change)).rowcount)


def _own(query: Select[*tuple[Any, ...]], key_id: str, response_id: str) -> Select[*tuple[Any, ...]]:
    """The query for the key's own response with this id."""
    return (
        query.join(Exchange, Exchange.id == Bodies.exchange_id)
        .where(Bodies.response_id == response_id, Exchange.key_id == key_id, Bodies.response.is_not(None))
        .limit(1)
    )
