"""The audit log: who did what to what. Written in the transaction of the change itself, and never changed."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import structlog

from ai_proxy.core.exceptions import BadRequest, DatabaseUnavailable
from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import OPERATOR_ID, Actor
from ai_proxy.services.days import DAY, day, microseconds
from ai_proxy.services.times import moment, now
from ai_proxy.storage import audit
from ai_proxy.storage.audit import Filter
from ai_proxy.storage.engine import Connection, Database

log = structlog.get_logger()

MAX_ROWS = 10_000

_SIGNAL = Actor(user_id=OPERATOR_ID, name="SIGHUP", role="admin")


class Entry(NamedTuple):
    id: str
    created_at: datetime
    actor_id: str | None
    actor: str
    action: str
    target: str
    details: dict[str, Any]
    address: str
    request_id: str


async def note(connection: Connection, actor: Actor, action: str, target: str, **details: Any) -> None:
    """Note what `actor` does, as in `note(connection, actor, "user.role", "user:ID", before="member", after="admin")`.

    Secrets must not be among the details. Which key did it is among them, as `by_key`, if it was one.
    """
    if actor.key_id is not None:
        details["by_key"] = actor.key_id
    entry = {
        "id": uuid7(),
        "created_at": now(),
        "actor_id": actor.user_id,
        "actor": actor.name,
        "action": action,
        "target": target,
        "details": msgspec.json.encode(details).decode(),
        "address": actor.address,
        "request_id": actor.request_id,
    }
    await audit.add(connection, entry)


async def note_reload(database: Database, problems: Sequence[str]) -> None:
    """Note that the settings were read again, and what was wrong with them. The log tells it too, so this may fail."""
    outcome = "refused" if problems else "in force"
    try:
        async with database.transaction() as connection:
            await note(connection, _SIGNAL, "configuration.reload", "configuration", outcome=outcome, problems=problems)
    except DatabaseUnavailable as error:
        log.warning("audit: the reload could not be noted", reason=error.reason)


def wanted(
    action: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    first: str | None = None,
    last: str | None = None,
) -> Filter:
    """Which entries a person asks for: `actor` by name or identifier, days such as `2026-11-23`, both included.

    Raises `BadRequest`.
    """
    return Filter(
        action=action,
        actor=actor,
        target=target,
        since=None if first is None else microseconds(day(first, "from")),
        until=None if last is None else microseconds(day(last, "to")) + DAY,
    )


async def page(
    database: Database, wanted: Filter, *, before: str | None = None, limit: int
) -> tuple[list[Entry], bool]:
    """Newest first, and whether there are more after them. Pass the last id of one page as `before` for the next."""
    async with database.transaction() as connection:
        rows = await audit.page(connection, wanted, before=before, limit=limit + 1)
    entries = await asyncio.to_thread(list, map(_entry, rows[:limit]))  # calls need not wait for thousands of them
    return entries, len(rows) > limit


async def export(database: Database, actor: Actor, wanted: Filter) -> list[Entry]:
    """All of them, newest first, to be carried away: which is noted too. Raises `BadRequest` if they are too many."""
    found, more = await page(database, wanted, limit=MAX_ROWS)
    if more:
        message = f"There are more than {MAX_ROWS} entries: ask for fewer days, or filter."
        raise BadRequest(message, param="from")
    details = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not None}
    async with database.transaction() as connection:
        await note(connection, actor, "audit.export", "audit", rows=len(found), filters=details)
    return found


def _entry(row: Any) -> Entry:
    return Entry(**{**row._asdict(), "created_at": moment(row.created_at), "details": msgspec.json.decode(row.details)})
