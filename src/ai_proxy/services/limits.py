"""Limits as a person administers them: how many requests, tokens and calls at one time a subject may have."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ai_proxy.core.exceptions import BadRequest, NotFound
from ai_proxy.core.types import Actor, Limit
from ai_proxy.services import audit
from ai_proxy.services.subjects import check_changeable, viewer
from ai_proxy.storage import limits, subjects
from ai_proxy.storage.engine import Database

FIELDS = ("requests_per_minute", "tokens_per_minute", "concurrent")
MOST = 10**9


class NamedLimit(NamedTuple):
    """`name` is what the key, user or project is called; None for the service."""

    limit: Limit
    name: str | None


async def list_all(database: Database, actor: Actor) -> Sequence[NamedLimit]:
    """Those that the actor may see: an administrator all, others those of their keys, themself and their projects."""
    async with database.transaction() as connection:
        found = await limits.limits(connection, visible=viewer(actor))
        names = await subjects.names(connection, (limit.subject for limit in found))
    return [NamedLimit(limit, names.get(limit.subject)) for limit in found]


async def change(database: Database, actor: Actor, subject: str, changes: Mapping[str, int | None]) -> NamedLimit:
    """Set some of a subject's limits, and leave the others as they are. None takes one away.

    Raises `BadRequest`, `NotFound` or `PermissionDenied`.
    """
    _check(changes)
    async with database.changing() as connection:
        await check_changeable(connection, actor, subject)
        before = await limits.limit_of(connection, subject)
        after = msgspec.structs.replace(before or Limit(subject=subject), **changes)
        if _numbers(after):
            await limits.set_limit(connection, after)
        else:
            await limits.remove_limit(connection, subject)
        await audit.note(
            connection, actor, "limit.set", subject, before=_numbers(before) or None, after=_numbers(after) or None
        )
        names = await subjects.names(connection, [subject])
    return NamedLimit(after, names.get(subject))


async def remove(database: Database, actor: Actor, subject: str) -> None:
    """All limits of a subject. Raises `NotFound` if it has none."""
    async with database.changing() as connection:
        await check_changeable(connection, actor, subject)
        before = await limits.limit_of(connection, subject)
        if before is None:
            message = "There is no limit to remove."
            raise NotFound(message)
        await limits.remove_limit(connection, subject)
        await audit.note(connection, actor, "limit.remove", subject, before=_numbers(before), after=None)


def _check(changes: Mapping[str, int | None]) -> None:
    if not changes:
        message = f"Say at least one of {', '.join(FIELDS)}."
        raise BadRequest(message)
    for name, number in changes.items():
        if number is not None and not 1 <= number <= MOST:
            message = f"{name}: must be 1 to {MOST:,}."
            raise BadRequest(message, param=name)


def _numbers(limit: Limit | None) -> dict[str, Any]:
    """What there is of a limit, for the audit log."""
    values = {name: getattr(limit, name, None) for name in FIELDS}
    return {name: value for name, value in values.items() if value is not None}
