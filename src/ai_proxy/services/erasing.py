"""Deleting from the history, for good: one exchange, a conversation, all of a user. The sums of days stay."""

import asyncio
import time
from functools import partial
from typing import Any, NamedTuple

from ai_proxy.core.ids import uuid7
from ai_proxy.services import conversations, history, visibility
from ai_proxy.services.audit import note
from ai_proxy.services.removing import OthersRemove, Removing, Work
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import conversations as stored
from ai_proxy.storage import filters, removal, users
from ai_proxy.storage.engine import Database
from ai_proxy.storage.filters import Wanted

_PATIENCE = 20.0  # seconds
_OTHERS_TURN = 0.1  # seconds
_CONVERSATIONS = 200  # that go in one transaction


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
    erased = await _Erasing(database).exchanges(Wanted(key=row.key_id, conversation=row.id))
    if erased.complete:
        async with database.changing() as connection:
            await stored.remove_empty(connection, row.key_id, row.id)
    return erased


async def all_of_user(database: Database, viewer: Viewer, user_id: str, *, patience: float = _PATIENCE) -> Erased:
    """One's own, or another's for an administrator; as many as go in so many seconds. Raises `NotFound`."""
    actor = viewer.actor
    async with database.changing() as connection:
        user = await _user(connection, viewer, user_id)
        await note(connection, actor, "history.delete", f"user:{user}", exchanges="all")
    erasing = _Erasing(database, patience)
    erased = await erasing.exchanges(Wanted(user=user))
    if erased.complete:
        erased = erased._replace(complete=await erasing.empty_conversations(user))
    async with database.transaction() as connection:
        await note(connection, actor, "history.deleted", f"user:{user}", **erased._asdict())
    return erased


async def _user(connection: Any, viewer: Viewer, user_id: str) -> str:
    identifier = visibility.identifier(user_id, "user")
    own = identifier == viewer.actor.user_id
    if not own and (viewer.actor.role != "admin" or await users.find(connection, identifier) is None):
        raise visibility.not_there("user")
    return identifier


class _Erasing:
    """Goes on in small transactions, between which calls are recorded, until all is gone or its time is over."""

    def __init__(self, database: Database, patience: float = _PATIENCE) -> None:
        self._database = database
        self._removing = Removing(database)
        self._give_up = time.monotonic() + patience

    async def exchanges(self, wanted: Wanted) -> Erased:
        deleted, before = 0, None  # what comes meanwhile is newer than the first that is looked at
        while time.monotonic() < self._give_up:
            async with self._database.transaction() as connection:
                ids, before = await filters.newest(connection, wanted, before=before, limit=self._removing.most)
            gone = await self._do(partial(removal.remove, ids=ids)) if ids else 0
            if gone is None:
                break
            deleted += gone
            if before is None:
                return Erased(deleted, complete=True)
        return Erased(deleted, complete=False)

    async def empty_conversations(self, user_id: str) -> bool:
        """Forks have titles, too, that nobody has gone on with. Whether all are gone."""
        work = partial(stored.remove_empty_of, user_id=user_id, before=uuid7(), most=_CONVERSATIONS)
        while (gone := await self._do(work)) is not None:
            if gone < _CONVERSATIONS:
                return True
        return False

    async def _do(self, work: Work) -> int | None:
        """None if the time is over."""
        while time.monotonic() < self._give_up:
            try:
                return await self._removing.briefly(work)
            except OthersRemove:
                await asyncio.sleep(_OTHERS_TURN)
        return None
