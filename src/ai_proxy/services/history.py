"""The history as people and keys see it: what was asked and answered, newest first, and one exchange with all of it."""

from typing import Any, NamedTuple

import msgspec

from ai_proxy.services import visibility
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import history
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.filters import Wanted
from ai_proxy.storage.history import Entry, Page

WHAT = "exchange"


class Details(NamedTuple):
    """An exchange with the bodies of its call, as far as they were kept.

    Of /api/ask and /api/streaming the request is here if it says more than its question.
    """

    entry: Entry
    request: bytes | None
    response: bytes | None


async def page(database: Database, viewer: Viewer, wanted: Wanted, *, before: str | None, limit: int) -> Page:
    """Of what is wanted that which the viewer may see. Pass `before` of one page to get the next."""
    async with database.transaction() as connection:
        seen = await restricted(connection, viewer, wanted)
        if seen is None:
            return Page([], None)
        return await history.page(database, connection, seen, before=before, limit=limit)


async def restricted(connection: Connection, viewer: Viewer, wanted: Wanted) -> Wanted | None:
    """The same, but only what the viewer may see; None if that can be nothing."""
    if viewer.only_key is not None:
        other = wanted.key not in {None, viewer.only_key}
        return None if other else msgspec.structs.replace(wanted, key=viewer.only_key)
    visible = await visibility.visible(connection, viewer)
    if visible is not None and (wanted.user == visible.user_id or wanted.project in visible.projects):
        visible = None  # it follows from what is wanted
    return msgspec.structs.replace(wanted, visible=visible)


async def details(database: Database, viewer: Viewer, exchange_id: str) -> Details:
    """Raises `NotFound`."""
    async with database.transaction() as connection:
        row = await found(connection, viewer, exchange_id)
        entries = await history.read(database, connection, [row.id])
        if not entries:  # removed since
            raise visibility.not_there(WHAT)
        bodies = await history.bodies(database, connection, row)
    return Details(entries[0], *bodies)


async def found(connection: Connection, viewer: Viewer, exchange_id: str) -> Any:
    """Whose exchange it is. Raises `NotFound` if there is none that the viewer may see."""
    row = await history.find(connection, visibility.identifier(exchange_id, WHAT))
    if row is None or not await visibility.sees(connection, viewer, row):
        raise visibility.not_there(WHAT)
    return row


async def owned(connection: Connection, viewer: Viewer, exchange_id: str) -> Any:
    """The same of one that the viewer may change. Raises `NotFound` or `PermissionDenied`."""
    row = await found(connection, viewer, exchange_id)
    visibility.check_owner(viewer, row)
    return row
