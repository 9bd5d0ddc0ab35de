"""Times as a person types them: `90s`, `15m`, `1h`, `30d`, or a date."""

import re
from datetime import UTC, datetime, timedelta

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """A duration. Exits with a clear line for what is none."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        message = f"{text}: write a duration as 90s, 15m, 1h or 30d"
        raise typer.BadParameter(message)
    return int(found[1]) * _UNITS[found[2]]


def moment(text: str) -> datetime:
    """A date or time (UTC unless it says otherwise), or how long from now."""
    if re.fullmatch(r"\d{1,9}[smhd]", text):
        try:
            return datetime.now(UTC) + timedelta(seconds=seconds(text))
        except OverflowError:
            pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text}: write 30d, 2027-01-31 or 2027-01-31T12:00:00Z"
        raise typer.BadParameter(message) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
