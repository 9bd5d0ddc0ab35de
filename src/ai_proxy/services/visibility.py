"""Who sees and who changes which exchanges and conversations.

A key that may not manage sees what was done with it. A person, or the holder of a key that may, sees their own, and
those in projects that they are a member of; an administrator sees all. People change their own, administrators all.
"""

from typing import Any
from uuid import UUID

import msgspec

from ai_proxy.core.exceptions import NotFound, PermissionDenied
from ai_proxy.core.types import Actor
from ai_proxy.storage import projects
from ai_proxy.storage.engine import Connection
from ai_proxy.storage.filters import Visible


class Viewer(msgspec.Struct, frozen=True):
    """Who looks. `only_key`: nothing but what was done with this key is to be seen."""

    actor: Actor
    only_key: str | None = None


async def visible(connection: Connection, viewer: Viewer) -> Visible | None:
    """Whose exchanges the viewer may see, None for all. A viewer by a key must be kept to this key besides."""
    actor = viewer.actor
    if viewer.only_key is not None or actor.role == "admin":
        return None
    found = await projects.page(connection, member=actor.user_id)
    return Visible(actor.user_id, tuple(row.id for row in found))


async def sees(connection: Connection, viewer: Viewer, row: Any) -> bool:
    """Whether the viewer may see what has this `key_id`, `user_id` and `project_id`."""
    if owns(viewer, row):
        return True
    if viewer.only_key is not None or row.project_id is None:
        return False
    return await projects.has_member(connection, row.project_id, viewer.actor.user_id)


def owns(viewer: Viewer, row: Any) -> bool:
    """Whether it is the viewer's to change and to delete."""
    if viewer.only_key is not None:
        return bool(row.key_id == viewer.only_key)
    return viewer.actor.role == "admin" or bool(row.user_id == viewer.actor.user_id)


def check_owner(viewer: Viewer, row: Any) -> None:
    """Raises `PermissionDenied`."""
    if not owns(viewer, row):
        message = "This is another member's: its owner and administrators may change it."
        raise PermissionDenied(message)


def identifier(text: str, what: str) -> str:
    """An identifier as it is stored. Raises `NotFound` for what is none."""
    try:
        return str(UUID(text))
    except ValueError:
        raise not_there(what) from None


def not_there(what: str) -> NotFound:
    return NotFound(f"There is no such {what}.")
