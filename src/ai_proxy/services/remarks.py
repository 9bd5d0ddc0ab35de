"""What people note of exchanges: feedback on an answer, and tags. Whoever may see one and write may do so."""

from collections.abc import Sequence

import msgspec

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.services.history import found
from ai_proxy.services.times import now
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import remarks
from ai_proxy.storage.engine import Database

MOST_TAGS = 20
_LONGEST_TAG = 50


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """`thumb` is 1 or -1. None is not said."""

    thumb: int | None = None
    score: float | None = None
    comment: str | None = None


async def set_feedback(database: Database, viewer: Viewer, exchange_id: str, feedback: Feedback) -> None:
    """In place of what anybody said before. Raises `NotFound`."""
    async with database.changing() as connection:
        row = await found(connection, viewer, exchange_id)
        given = {"exchange_id": row.id, "user_id": viewer.actor.user_id, "created_at": now()}
        await remarks.set_feedback(database, connection, given | msgspec.structs.asdict(feedback))


async def remove_feedback(database: Database, viewer: Viewer, exchange_id: str) -> None:
    """Raises `NotFound` if there is no such exchange; it need not have any."""
    async with database.changing() as connection:
        row = await found(connection, viewer, exchange_id)
        await remarks.remove_feedback(connection, row.id)


async def set_tags(database: Database, viewer: Viewer, exchange_id: str, tags: Sequence[str]) -> Sequence[str]:
    """In place of those there were. Returns them in their order. Raises `BadRequest` or `NotFound`."""
    wanted = sorted({_checked(tag) for tag in tags})
    if len(wanted) > MOST_TAGS:
        message = f"tags: there may be {MOST_TAGS} at most."
        raise BadRequest(message, param="tags")
    async with database.changing() as connection:
        row = await found(connection, viewer, exchange_id)
        await remarks.set_tags(connection, row.id, wanted)
    return wanted


def _checked(tag: str) -> str:
    tag = tag.strip()
    if not 0 < len(tag) <= _LONGEST_TAG or not tag.isprintable():
        message = f"tags: each must have 1 to {_LONGEST_TAG} printable characters."
        raise BadRequest(message, param="tags")
    return tag
