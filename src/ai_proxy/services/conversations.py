"""Conversations as people see them: what belongs together, what it is called, and where another one branches off."""

from datetime import datetime
from typing import Any

import msgspec

from ai_proxy.core.exceptions import BadRequest, Conflict
from ai_proxy.core.ids import time_of, uuid7
from ai_proxy.services import history, visibility
from ai_proxy.services.times import moment
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import conversations, texts
from ai_proxy.storage.conversations import Wanted
from ai_proxy.storage.engine import Connection, Database

WHAT = "conversation"
_TITLE = 80  # characters of a question that stand for a title


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it is listed. `titled`: the title was given. `place` is where it stands in lists."""

    id: str
    title: str | None
    titled: bool
    exchanges: int
    first_at: datetime
    last_at: datetime
    key_id: str
    user_id: str
    project_id: str | None
    parent_id: str | None
    forked_from: str | None
    place: str


async def page(
    database: Database, viewer: Viewer, wanted: Wanted, *, before: str | None, limit: int
) -> tuple[list[Conversation], bool]:
    """Those that went on last come first, and whether there are more. Pass the last `place` as `before` to go on."""
    async with database.transaction() as connection:
        if viewer.only_key is not None:
            if wanted.key not in {None, viewer.only_key}:
                return [], False
            wanted = wanted._replace(key=viewer.only_key)
        wanted = wanted._replace(visible=await visibility.visible(connection, viewer))
        rows = await conversations.page(connection, wanted, before=before, limit=limit + 1)
    return [_conversation(database, row) for row in rows[:limit]], len(rows) > limit


async def find(database: Database, viewer: Viewer, conversation_id: str, key: str | None) -> Conversation:
    """Raises `NotFound`, or `Conflict` if several keys have one of this id and none is named."""
    async with database.transaction() as connection:
        return _conversation(database, await found(connection, viewer, conversation_id, key))


async def rename(
    database: Database, viewer: Viewer, conversation_id: str, key: str | None, title: str | None
) -> Conversation:
    """A title of None is the beginning of the first question. Raises as `find` does, and `PermissionDenied`."""
    if title is not None and not (title.strip() and title.isprintable()):
        message = "title: must have printable characters only, and not be blank."
        raise BadRequest(message, param="title")
    async with database.changing() as connection:
        row = await owned(connection, viewer, conversation_id, key)
        await conversations.rename(connection, row.key_id, row.id, texts.sealed(database.cipher, title))
        return _conversation(database, await found(connection, viewer, row.id, row.key_id))


async def fork(database: Database, viewer: Viewer, exchange_id: str) -> Conversation:
    """A new conversation of the exchange's key, that goes on after this exchange. Nothing is copied.

    Raises `NotFound` or `PermissionDenied`.
    """
    conversation_id = uuid7()
    async with database.changing() as connection:
        exchange = await history.owned(connection, viewer, exchange_id)
        await conversations.fork(connection, exchange, conversation_id, place=uuid7())
        return _conversation(database, await found(connection, viewer, conversation_id, exchange.key_id))


async def found(connection: Connection, viewer: Viewer, conversation_id: str, key: str | None) -> Any:
    """The conversation that the viewer means. Raises as `find` does."""
    if viewer.only_key is not None:
        if key not in {None, viewer.only_key}:
            raise visibility.not_there(WHAT)
        key = viewer.only_key
    identifier = visibility.identifier(conversation_id, WHAT)
    visible = await visibility.visible(connection, viewer)
    rows = await conversations.find(connection, identifier, key=key, visible=visible)
    if not rows:
        raise visibility.not_there(WHAT)
    if len(rows) > 1:
        message = "Several keys have a conversation of this id: name one of them as ?key=."
        raise Conflict(message, param="key")
    return rows[0]


async def owned(connection: Connection, viewer: Viewer, conversation_id: str, key: str | None) -> Any:
    """The same of one that the viewer may change. Raises `PermissionDenied` besides."""
    row = await found(connection, viewer, conversation_id, key)
    visibility.check_owner(viewer, row)
    return row


def _conversation(database: Database, row: Any) -> Conversation:
    return Conversation(
        id=row.id,
        title=texts.opened(database.cipher, row.title) or _beginning(database, row),
        titled=row.title is not None,
        exchanges=row.exchanges,
        first_at=_made_at(row.first_id),
        last_at=_made_at(row.last_id),
        key_id=row.key_id,
        user_id=row.user_id,
        project_id=row.project_id,
        parent_id=row.parent_id,
        forked_from=row.forked_from,
        place=row.last_id,
    )


def _beginning(database: Database, row: Any) -> str | None:
    """Of the first question, in one line."""
    line = " ".join(conversations.question_of(database, row).split())
    return (line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…") or None


def _made_at(identifier: str) -> datetime:
    return moment(time_of(identifier))
