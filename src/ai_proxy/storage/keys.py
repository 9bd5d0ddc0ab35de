"""Queries on the API keys. Only digests are stored."""

from collections.abc import Sequence

from sqlalchemy import exists, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Row

from ai_proxy.core.types import Principal
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import ApiKey


async def find(database: Database, digest: str) -> Principal | None:
    """Whose key has this digest. None if nobody's, or if it is revoked."""
    query = select(ApiKey.id, ApiKey.name).where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None))
    async with database.transaction() as connection:
        row = (await connection.execute(query)).first()
    return None if row is None else Principal(row.id, row.name)


async def any_exist(database: Database) -> bool:
    async with database.transaction() as connection:
        return bool(await connection.scalar(select(exists(select(ApiKey.id)))))


async def add(database: Database, *, key_id: str, name: str, digest: str, hint: str, created_at: int) -> bool:
    """Store a key. False if one with this digest was there already, which is then left as it is."""
    values = {"id": key_id, "name": name, "digest": digest, "hint": hint, "created_at": created_at}
    async with database.transaction() as connection:
        result = await connection.execute(insert(ApiKey).values(values).on_conflict_do_nothing())
    return bool(result.rowcount)


async def all_keys(database: Database) -> Sequence[Row[str, str, str, int, int | None]]:
    """Every key, oldest first: id, name, hint, created_at, revoked_at."""
    query = select(ApiKey.id, ApiKey.name, ApiKey.hint, ApiKey.created_at, ApiKey.revoked_at).order_by(ApiKey.id)
    async with database.transaction() as connection:
        return (await connection.execute(query)).all()


async def revoke(database: Database, key_id: str, *, revoked_at: int) -> bool:
    """False if there is no such key that is not revoked yet."""
    change = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=revoked_at)
    async with database.transaction() as connection:
        return bool((await connection.execute(change)).rowcount)
