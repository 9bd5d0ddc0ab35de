"""Days as a person gives them. A day is one of UTC."""

from datetime import UTC, date, datetime

from ai_proxy.core.exceptions import BadRequest

DAY = 86_400_000_000  # microseconds


def day(text: str, param: str) -> date:
    """A day such as `2026-11-23`. Raises `BadRequest`, which names `param`."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        message = f"{param}: must be a day such as 2026-11-23."
        raise BadRequest(message, param=param) from None


def microseconds(given: date) -> int:
    """When a day begins, since the epoch."""
    return (given - date(1970, 1, 1)).days * DAY
