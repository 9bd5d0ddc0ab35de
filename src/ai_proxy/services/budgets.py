"""Budgets as a person administers them: what a subject may spend in a period, and when somebody is told."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from ai_proxy.core.exceptions import BadRequest, NotFound
from ai_proxy.core.money import DOLLAR, dollars
from ai_proxy.core.types import Actor, Budget, Period
from ai_proxy.services import audit
from ai_proxy.services.subjects import check_changeable, viewer
from ai_proxy.storage import limits, subjects
from ai_proxy.storage.engine import Database

PERIODS: tuple[Period, ...] = get_args(Period)
ALERTS = (80, 100)
MOST = 10**9 * DOLLAR
MOST_ALERTS = 5
_WHOLE = 100  # per cent


class NamedBudget(NamedTuple):
    """`name` is what the key, user or project is called; None for the service."""

    budget: Budget
    name: str | None


async def list_all(database: Database, actor: Actor) -> Sequence[NamedBudget]:
    """Those that the actor may see: an administrator all, others those of their keys, themself and their projects."""
    async with database.transaction() as connection:
        found = await limits.budgets(connection, visible=viewer(actor))
        names = await subjects.names(connection, (budget.subject for budget in found))
    return [NamedBudget(budget, names.get(budget.subject)) for budget in found]


async def put(database: Database, actor: Actor, budget: Budget) -> NamedBudget:
    """Set a budget, in place of the subject's earlier one for the same period.

    Raises `BadRequest`, `NotFound` or `PermissionDenied`.
    """
    budget = _checked(budget)
    async with database.changing() as connection:
        await check_changeable(connection, actor, budget.subject)
        before = await limits.budget_of(connection, budget.subject, budget.period)
        await limits.set_budget(connection, budget)
        details = {"period": budget.period, "before": _told(before), "after": _told(budget)}
        await audit.note(connection, actor, "budget.set", budget.subject, **details)
        names = await subjects.names(connection, [budget.subject])
    return NamedBudget(budget, names.get(budget.subject))


async def remove(database: Database, actor: Actor, subject: str, period: Period) -> None:
    """Raises `NotFound` if the subject has no budget for the period."""
    async with database.changing() as connection:
        await check_changeable(connection, actor, subject)
        before = await limits.budget_of(connection, subject, period)
        if before is None:
            message = "There is no budget to remove."
            raise NotFound(message)
        await limits.remove_budget(connection, subject, period)
        details = {"period": period, "before": _told(before), "after": None}
        await audit.note(connection, actor, "budget.remove", subject, **details)


def _checked(budget: Budget) -> Budget:
    """With its alerts in rising order, each once."""
    if not 0 < budget.amount <= MOST:
        message = f"amount_usd: must be more than 0 and at most {MOST // DOLLAR:,} US dollars."
        raise BadRequest(message, param="amount_usd")
    alerts = tuple(sorted(set(budget.alerts)))
    if len(alerts) > MOST_ALERTS or not all(1 <= alert <= _WHOLE for alert in alerts):
        message = f"alerts: must be at most {MOST_ALERTS} numbers of 1 to 100 per cent."
        raise BadRequest(message, param="alerts")
    return Budget(subject=budget.subject, period=budget.period, amount=budget.amount, alerts=alerts)


def _told(budget: Budget | None) -> dict[str, Any] | None:
    """A budget as the audit log has it."""
    return None if budget is None else {"amount_usd": dollars(budget.amount), "alerts": list(budget.alerts)}
