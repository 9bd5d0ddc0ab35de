"""Money of many subjects over days, against plain sums."""

import random
from collections import Counter

import pytest

from ai_proxy.core.types import Spending
from ai_proxy.gateway.limits.budgets import Budgets
from ai_proxy.gateway.limits.periods import periods_at
from tests.gateway.limits.calls import CENTS, DOLLAR, NOON, budget

DAY = 86_400_000_000


@pytest.mark.anyio
async def test_calls_that_end_out_of_order_over_midnight_add_up_in_each_period():
    dice = random.Random(7)
    budgets, sums = Budgets(wait=0, alert=lambda *_: None), Counter()
    subjects = ("key:alice", "user:alice-user", "service")

    for step in range(4000):
        at = NOON + step * DAY // 50 - dice.choice((0, 0, DAY))  # calls of yesterday end among those of today
        held = await budgets.reserve((budget(10**6, dice.choice(subjects)),), CENTS, at)
        spent = dice.sample(subjects, 2)
        cost = dice.randrange(3)
        budgets.settle(spent, held, cost, at)
        sums.update({(subject, number): cost for subject in spent for number in periods_at(at)})

        for subject in subjects:
            assert budgets.spending(subject, at) == Spending(*(sums[subject, number] for number in periods_at(at)))
    assert not any(pot.reserved for pots in budgets._accounts.values() for pot in pots.values())


def test_what_was_spent_before_counts_together_with_what_was_spent_since():
    budgets = Budgets(wait=0, alert=lambda *_: None)
    budgets.settle(("key:alice",), None, CENTS, NOON)

    budgets.add({"key:alice": Spending(DOLLAR, DOLLAR, DOLLAR, DOLLAR)}, NOON)
    budgets.settle(("key:alice",), None, CENTS, NOON)

    assert budgets.spending("key:alice", NOON).day == DOLLAR + 2 * CENTS


def test_two_subjects_that_turn_out_to_be_one_have_spent_it_together():
    budgets = Budgets(wait=0, alert=lambda *_: None)
    budgets.settle(("key:a",), None, CENTS, NOON)
    budgets.settle(("key:b",), None, 2 * CENTS, NOON)

    budgets.join("key:a", "key:b")
    budgets.settle(("key:a",), None, 4 * CENTS, NOON)
    budgets.settle(("key:b",), None, 8 * CENTS, NOON)

    assert budgets.spending("key:b", NOON).total == 15 * CENTS
    assert budgets.spending("key:a", NOON) == budgets.spending("key:b", NOON)


def test_a_subject_that_turns_out_to_be_another_goes_on_spending_as_that_one():
    budgets = Budgets(wait=0, alert=lambda *_: None)

    budgets.join("key:a", "key:b")
    budgets.settle(("key:a",), None, CENTS, NOON)

    assert budgets.spending("key:b", NOON).total == CENTS
