"""Exchanges that have certain words, the best matches first."""

from collections.abc import Mapping, Sequence

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.services.history import restricted
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import filters, history, search
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.filters import Wanted
from ai_proxy.storage.history import Entry

_NEWEST = 1000  # matches that are put into their order
_MORE = 10_000  # the same, if there are filters that the index of words does not know
_FACETS = ("key", "user", "project", "model", "provider", "status", "conversation")
_OTHERS = ("tag", "thumb", "min_cost", "max_cost", "since", "until")


async def page(
    database: Database, viewer: Viewer, words: str, wanted: Wanted, *, offset: int, limit: int
) -> tuple[Sequence[Entry], int | None]:
    """And the `offset` of the next page, None if this is the last one. Raises `BadRequest` for what has no words."""
    async with database.transaction() as connection:
        seen = await restricted(connection, viewer, wanted)
        if seen is None:
            return [], None
        newest = _MORE if any(getattr(seen, name) is not None for name in _OTHERS) else _NEWEST
        ids = (await matching(connection, words, seen, newest=newest))[:_NEWEST]
        entries = await history.read(database, connection, ids[offset : offset + limit])
    following = offset + len(entries)
    return entries, following if entries and following < len(ids) else None


async def matching(connection: Connection, words: str, seen: Wanted, *, newest: int = _MORE) -> list[str]:
    """Of the `newest` that have these words, those that are wanted, the best first. Raises `BadRequest`."""
    try:
        hits = await search.find(connection, words, _facets(seen), newest=newest)
    except BadRequest as error:
        message = f"q: {error.message}"
        raise BadRequest(message, param="q") from None
    return await filters.among(connection, seen, [identifier for identifier, _ in hits])


def _facets(wanted: Wanted) -> Mapping[str, Sequence[str]]:
    """What the index of words knows of that which is wanted: it has the rest looked at no further."""
    facets = {name: [value] for name in _FACETS if (value := getattr(wanted, name)) is not None}
    if wanted.visible is not None:
        projects = (f"project:{project}" for project in wanted.visible.projects)
        facets["visible"] = [f"user:{wanted.visible.user_id}", *projects]
    return facets
