"""What a key has used, for its holder."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from ai_proxy.core.types import Period
from ai_proxy.services.usage import summed
from ai_proxy.storage.engine import Database
from ai_proxy.storage.usage import Question, beginnings

_DAYS = 30
_PERIODS: Mapping[str, Period] = {"today": "day", "this_week": "week", "this_month": "month", "total": "total"}


async def of_key(database: Database, key_id: str, now: int) -> dict[str, Any]:
    """What it used in this day, week and month (UTC) and ever, and on its last 30 `days` by model.

    `now` is in microseconds since the epoch.
    """
    begin = beginnings(now)
    own = {"key": key_id}
    recent = date.fromisoformat(begin["day"]) - timedelta(days=_DAYS - 1)
    async with database.transaction() as connection:
        periods = {
            name: (await summed(connection, Question(first=begin[period], filters=own))).total
            for name, period in _PERIODS.items()
        }
        asked = Question(first=recent.isoformat(), group_by=("day", "model"), filters=own)
        return {**periods, "days": (await summed(connection, asked)).items}
