"""Dollars and nano-dollars."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.money import MOST, dollars, nano, rounded_up


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("5.00", 5_000_000_000),
        (" 5 ", 5_000_000_000),
        (5, 5_000_000_000),
        ("0.000125", 125_000),
        ("0.000000001", 1),
        ("-1.5", -1_500_000_000),
        (Decimal("1E-9"), 1),
        (Decimal("5E+2"), 500_000_000_000),
    ],
)
def test_an_amount_is_taken_to_the_nano_dollar(amount, expected):
    assert nano(amount) == expected


@pytest.mark.parametrize(
    "amount",
    [
        "",
        "five",
        "1e5",
        "1,5",
        ".5",
        "5.",
        "٣",
        "0.0000000001",
        "nan",
        "99999999999",
        True,
        Decimal("nan"),
        Decimal("1E+999"),
    ],
)
def test_what_is_no_amount_or_too_fine_or_too_large_is_refused(amount):
    with pytest.raises(ValueError, match="US dollars"):
        nano(amount)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(0, "0.00"), (5_000_000_000, "5.00"), (125_000, "0.000125"), (1, "0.000000001"), (-5, "-0.000000005")],
)
def test_an_amount_is_shown_with_two_decimals_or_as_many_as_it_has(amount, expected):
    assert dollars(amount) == expected


@given(st.integers(-MOST, MOST))
def test_what_is_shown_is_taken_as_the_same_amount(amount):
    assert nano(dollars(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "expected"), [(0.00001437528, 14_376), (1e-12, 1), (3, 3_000_000_000), (0.1, 100_000_000), (1e-300, 1)]
)
def test_a_float_is_taken_as_it_is_written_and_rounded_up(amount, expected):
    assert rounded_up(amount) == expected


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_float_that_is_no_amount_is_refused(amount):
    with pytest.raises(ValueError, match="US dollars"):
        rounded_up(amount)
