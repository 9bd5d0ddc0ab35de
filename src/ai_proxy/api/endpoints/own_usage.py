"""GET /api/me/usage: what the key that asks has used, and what is left."""

import time

import msgspec
from fastapi import APIRouter

from ai_proxy.api.dependencies import CurrentPrincipal, CurrentState
from ai_proxy.api.openapi import errors
from ai_proxy.core.money import dollars
from ai_proxy.core.types import SERVICE, Budget, Spending
from ai_proxy.gateway.limits.periods import next_begins
from ai_proxy.schemas.usage import OwnBudget, OwnKey, OwnLimit, OwnUsage
from ai_proxy.services import own_usage

router = APIRouter(prefix="/api", tags=["usage"])


@router.get(
    "/me/usage",
    summary="What this key used, and what is left",
    operation_id="own_usage",
    responses=errors(401, 403, 500, 503),
)
async def get_own_usage(principal: CurrentPrincipal, state: CurrentState) -> OwnUsage:
    """What holds for all callers together is left out: how much of that is used tells of the others."""
    now = time.time_ns() // 1000
    used = await own_usage.of_key(state["database"], principal.key_id, now)
    spending = state["limiter"].spending
    limits = [limit for limit in principal.limits if limit.subject != SERVICE]
    budgets = [budget for budget in principal.budgets if budget.subject != SERVICE]
    return OwnUsage(
        key=OwnKey(id=principal.key_id, name=principal.name),
        limits=[OwnLimit(**msgspec.structs.asdict(limit)) for limit in limits],
        budgets=[_budget(budget, spending(budget.subject, now), now) for budget in budgets],
        **used,
    )


def _budget(budget: Budget, spending: Spending, now: int) -> OwnBudget:
    spent: int = getattr(spending, budget.period)
    return OwnBudget(
        subject=budget.subject,
        period=budget.period,
        amount_usd=dollars(budget.amount),
        spent_usd=dollars(spent),
        remaining_usd=dollars(max(0, budget.amount - spent)),
        ends_at=next_begins(budget.period, now),
    )
