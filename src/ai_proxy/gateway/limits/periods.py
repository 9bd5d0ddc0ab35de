"""Days, ISO weeks and months in UTC, as numbers that are quick to compare."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from ai_proxy.core.types import Period

_DAY = 86_400_000_000  # microseconds


class Periods(NamedTuple):
    """Those that a moment lies in. Each has a number of its own: no two periods of any kind have the same."""

    day: int
    week: int
    month: int
    total: int

    def number(self, period: Period) -> int:
        number: int = getattr(self, period)
        return number


_DAYS, _WEEKS, _MONTHS, _TOTAL = range(4)


def periods_at(at: int) -> Periods:
    """`at` is in microseconds since the epoch."""
    return _periods_of(at // _DAY)


@lru_cache(8)
def _periods_of(day: int) -> Periods:
    week = (day + 3) // 7  # the epoch was a Thursday, and weeks begin on Monday
    date = datetime.fromtimestamp(day * 86_400, UTC)
    month = 12 * date.year + date.month
    return Periods(_numbered(day, _DAYS), _numbered(week, _WEEKS), _numbered(month, _MONTHS), _TOTAL)


def next_begins(period: Period, at: int) -> datetime | None:
    """When the period after this one begins; a total never does."""
    midnight = datetime.fromtimestamp(at // _DAY * 86_400, UTC)
    match period:
        case "day":
            return midnight + timedelta(days=1)
        case "week":
            return midnight + timedelta(days=7 - midnight.weekday())
        case "month":
            return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        case "total":
            return None


def kind_of(number: int) -> int:
    """Numbers of the same kind of period have the same one."""
    return number % 4


def _numbered(count: int, kind: int) -> int:
    return 4 * count + kind
