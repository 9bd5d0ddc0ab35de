"""Money is whole nano-dollars: 1 US dollar is 1,000,000,000. Sums stay exact, and no float ever takes part."""

import re
from decimal import ROUND_CEILING, Decimal, DecimalException
from functools import lru_cache

DOLLAR = 1_000_000_000
MOST = 2**63 - 1  # what a column holds: nine thousand million dollars
DEAREST = 1_000_000 * DOLLAR  # of all calls: a dearer one is a count that cannot be true

_AMOUNT = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,9})?", re.ASCII)


def nano(amount: str | int | Decimal) -> int:
    """Dollars, such as "5.00", as nano-dollars. Raises `ValueError` for what is no amount, or finer than that."""
    text = f"{amount:f}" if isinstance(amount, Decimal) else str(amount).strip()
    if isinstance(amount, bool) or _AMOUNT.fullmatch(text) is None:
        message = "must be an amount of US dollars with at most 9 decimals, such as 5.00"
        raise ValueError(message)
    return _bounded(int(Decimal(text).scaleb(9)))


@lru_cache(4096)  # the same few costs come again and again, twice in each call
def dollars(nano: int) -> str:
    """Nano-dollars as dollars, such as "5.00" and "0.000125": 2 decimals, or as many more as there are."""
    whole, fraction = divmod(abs(nano), DOLLAR)
    decimals = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{decimals}"


def dollars_of(cost: int | None) -> str | None:
    """The same of what nobody may know."""
    return None if cost is None else dollars(cost)


def rounded_up(amount: float) -> int:
    """Dollars of somebody who counts in floats, as nano-dollars. Raises `ValueError` for what is no amount."""
    try:
        exact = Decimal(str(amount)).scaleb(9)
        return _bounded(int(exact.to_integral_value(ROUND_CEILING)))
    except (DecimalException, ValueError, OverflowError):
        message = "must be an amount of US dollars"
        raise ValueError(message) from None


def _bounded(amount: int) -> int:
    if abs(amount) > MOST:
        message = "must be an amount of US dollars below 9,000,000,000"
        raise ValueError(message)
    return amount
