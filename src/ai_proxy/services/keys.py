"""API keys as a person administers them: create, list, revoke, and the first one of all."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ai_proxy.core import apikeys
from ai_proxy.core.config import Settings
from ai_proxy.core.exceptions import BadRequest, NotFound
from ai_proxy.core.ids import uuid7
from ai_proxy.storage import keys
from ai_proxy.storage import secret as stored_secret
from ai_proxy.storage.engine import Database

_MAX_NAME = 200


class Key(NamedTuple):
    """A key as it is listed: its secret is never seen again."""

    id: str
    name: str
    hint: str
    created_at: datetime
    revoked_at: datetime | None


def secret_of(settings: Settings) -> bytes:
    """The secret that keys are hashed with; made, if there is none yet."""
    given = settings.secret
    text = stored_secret.load_or_make(settings.data_directory) if given is None else given.get_secret_value()
    return apikeys.hashing_secret(text)


async def have_lost_their_secret(database: Database, settings: Settings) -> bool:
    """Whether there are keys that were hashed with a secret which is not here."""
    if settings.secret is not None or stored_secret.exists(settings.data_directory):
        return False
    return await keys.any_exist(database)


async def create(database: Database, settings: Settings, name: str) -> tuple[str, str]:
    """Make a key. Returns its id and the key itself, which cannot be read again later.

    Raises `BadRequest` for a name that cannot be listed: a blank or very long one, or one with control characters.
    Exits with a clear line where the other keys' secret is lost: a running service would not know the new key.
    """
    if not (name.strip() and len(name) <= _MAX_NAME and name.isprintable()):
        message = f"A key's name has 1 to {_MAX_NAME} printable characters."
        raise BadRequest(message, param="name")
    if await have_lost_their_secret(database, settings):
        message = "ai-proxy: the secret that the other keys were made with is not here: set AI_PROXY_SECRET"
        raise SystemExit(message)
    return await _create(database, secret_of(settings), name)


async def ensure_first(database: Database, secret: bytes, given: str | None) -> str | None:
    """See to it that there is a key. Returns the new one if it had to be made up, to be shown once.

    `given` is the operator's own key: it is stored if it is not there yet, and never returned.
    """
    if given is not None:
        await _store(database, secret, key_id=uuid7(), name="from AI_PROXY_API_KEY", key=given)
        return None
    if await keys.any_exist(database):
        return None
    _, key = await _create(database, secret, "first")
    return key


async def list_all(database: Database) -> Sequence[Key]:
    """Every key, oldest first, revoked ones too."""
    return [
        Key(row.id, row.name, row.hint, _time(row.created_at), row.revoked_at and _time(row.revoked_at))
        for row in await keys.all_keys(database)
    ]


async def revoke(database: Database, key_id: str) -> None:
    """Raises `NotFound` if there is no such key that still works."""
    if not await keys.revoke(database, key_id, revoked_at=_now()):
        message = f"There is no active key with the id {key_id}: see 'ai-proxy keys list'."
        raise NotFound(message)


async def _create(database: Database, secret: bytes, name: str) -> tuple[str, str]:
    key_id, key = uuid7(), apikeys.new_key()
    await _store(database, secret, key_id=key_id, name=name, key=key)
    return key_id, key


async def _store(database: Database, secret: bytes, *, key_id: str, name: str, key: str) -> None:
    await keys.add(
        database,
        key_id=key_id,
        name=name,
        digest=apikeys.digest(key, secret),
        hint=apikeys.hint(key),
        created_at=_now(),
    )


def _now() -> int:
    return time.time_ns() // 1000


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
