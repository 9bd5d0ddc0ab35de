"""Deleting from the history, for good: one exchange, a conversation, all of a user. The sums of days stay."""

import asyncio
import time
from typing import Any, NamedTuple

from ai_proxy.core.ids import uuid7
from ai_proxy.services import conversations, history, visibility
from ai_proxy.services.audit import note
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import conversations as stored
from ai_proxy.storage import filters, removal, users
from ai_proxy.storage.engine import Database
from ai_proxy.storage.filters import Wanted

_BATCH = 200  # exchanges that go in one transaction
_PATIENCE = 20.0  # seconds


class Erased(NamedTuple):
    """How many exchanges are gone. `complete`: all that were there at the beginning."""

    deleted: int
    complete: bool


async def exchange(database: Database, viewer: Viewer, exchange_id: str) -> None:
    """Raises `NotFound` or `PermissionDenied`."""
    async with database.changing() as connection:
        row = await history.owned(connection, viewer, exchange_id)
        await removal.remove(connection, [row.id])
        await note(connection, viewer.actor, "history.delete", f"exchange:{row.id}", owner=row.user_id)


async def conversation(database: Database, viewer: Viewer, conversation_id: str, key: str | None) -> Erased:
    """And its title. What was forked from it has no beginning any more. Raises as `conversations.owned` does."""
    async with database.changing() as connection:
        row = await conversations.owned(connection, viewer, conversation_id, key)
        target, details = f"conversation:{row.id}", {"key": row.key_id, "owner": row.user_id}
        await note(connection, viewer.actor, "history.delete", target, exchanges=row.exchanges, **details)
    erased = await _erase(database, Wanted(key=row.key_id, conversation=row.id))
    if erased.complete:
        async with database.changing() as connection:
            await stored.remove_empty(connection, row.key_id, row.id)
    return erased


async def all_of_user(database: Database, viewer: Viewer, user_id: str) -> Erased:
    """One's own, or another's for an administrator. Raises `NotFound`."""
    actor = viewer.actor
    async with database.changing() as connection:
        user = await _user(connection, viewer, user_id)
        await note(connection, actor, "history.delete", f"user:{user}", exchanges="all")
    erased = await _erase(database, Wanted(user=user))
    async with database.transaction() as connection:
        await note(connection, actor, "history.deleted", f"user:{user}", **erased._asdict())
    return erased


async def _user(connection: Any, viewer: Viewer, user_id: str) -> str:
    identifier = visibility.identifier(user_id, "user")
    own = identifier == viewer.actor.user_id
    if not own and (viewer.actor.role != "admin" or await users.find(connection, identifier) is None):
        raise visibility.not_there("user")
    return identifier


async def _erase(database: Database, wanted: Wanted) -> Erased:
    """In small transactions with pauses between them, in which calls are recorded."""
    before, deleted, give_up = uuid7(), 0, time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        began = time.monotonic()
        async with database.changing() as connection:
            ids, following = await filters.newest(connection, wanted, before=before, limit=_BATCH)
            deleted += await removal.remove(connection, ids)
        if following is None:
            return Erased(deleted, complete=True)
        before = following
        await asyncio.sleep(time.monotonic() - began)
    return Erased(deleted, complete=False)
