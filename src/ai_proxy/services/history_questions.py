"""What a person asks the history for, as the database is asked for it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.ids import first_of
from ai_proxy.core.money import nano
from ai_proxy.core.types import THUMBS
from ai_proxy.services.days import DAY, day, microseconds
from ai_proxy.services.times import SECOND
from ai_proxy.storage.filters import Wanted

_DAY_LENGTH = len("2026-11-23")


def wanted(asked: Mapping[str, Any]) -> Wanted:
    """`first` and `last` are days, which are both included, or instants. Raises `BadRequest`, naming what is wrong."""
    conversation = asked["conversation"]
    return Wanted(
        **{name: asked[name] for name in ("key", "user", "project", "model", "provider", "status", "tag")},
        conversation=None if conversation is None else str(conversation),
        thumb=THUMBS.get(asked["thumb"]),
        min_cost=_cost(asked["min_cost_usd"], "min_cost_usd"),
        max_cost=_cost(asked["max_cost_usd"], "max_cost_usd"),
        since=None if asked["first"] is None else _first_id(_instant(asked["first"], "from")),
        until=None if asked["last"] is None else _first_id(_instant(asked["last"], "to", whole_day=True)),
    )


def _cost(amount: str | None, param: str) -> int | None:
    if amount is None:
        return None
    try:
        return nano(amount)
    except ValueError as error:
        message = f"{param}: {error}."
        raise BadRequest(message, param=param) from None


def _instant(text: str, param: str, *, whole_day: bool = False) -> int:
    """In microseconds since the epoch: that of a day is its beginning, or its end for a `whole_day`."""
    if len(text) <= _DAY_LENGTH:
        return microseconds(day(text, param)) + (DAY if whole_day else 0)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        message = f"{param}: must be a day such as 2026-11-23, or an instant such as 2026-11-23T09:30:00Z."
        raise BadRequest(message, param=param) from None
    if given.tzinfo is None:
        given = given.replace(tzinfo=UTC)
    return round(given.timestamp() * SECOND)


def _first_id(instant: int) -> str:
    """The lowest identifier of what began at this time or later."""
    return first_of(instant + 999)
