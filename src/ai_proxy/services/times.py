"""Times as they are stored, in microseconds since the epoch, and as people are told of them."""

import time
from datetime import UTC, datetime

SECOND = 1_000_000


def now() -> int:
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / SECOND, UTC)
