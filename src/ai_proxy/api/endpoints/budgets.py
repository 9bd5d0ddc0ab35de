"""GET /api/budgets, PUT and DELETE /api/budgets/…: what keys, users, projects and the service may spend."""

import time
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentActor, CurrentState, State
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.core.exceptions import NotFound
from ai_proxy.core.money import dollars
from ai_proxy.core.types import SERVICE, Actor, Budget, Period
from ai_proxy.gateway.limits import Limiter
from ai_proxy.gateway.limits.periods import next_begins
from ai_proxy.schemas.budgets import BudgetBody, BudgetItem, BudgetList
from ai_proxy.services import budgets
from ai_proxy.services.budgets import NamedBudget
from ai_proxy.storage.usage import beginnings

router = APIRouter(prefix="/api/budgets", tags=["limits"])

_BODY = json_body(BudgetBody)
_PUT = errors(400, 401, 403, 404, 408, 413, 415, 500, 503)
_LIST = errors(401, 403, 500, 503)
_DELETE = errors(401, 403, 404, 500, 503)


@router.get("", summary="The budgets there are, and what is left of them", operation_id="list_budgets", responses=_LIST)
async def list_budgets(actor: CurrentActor, state: CurrentState) -> BudgetList:
    found = await budgets.list_all(state["database"], actor)
    return BudgetList(items=[_item(budget, state["limiter"]) for budget in found])


@router.put(
    "/service/{period}",
    summary="Give all calls together a budget",
    operation_id="set_service_budget",
    responses=_PUT,
    openapi_extra=_BODY,
)
async def set_service_budget(request: Request, actor: CurrentActor, state: CurrentState, period: str) -> BudgetItem:
    return await _set(request, actor, state, (SERVICE, _period(period)))


@router.put(
    "/{kind}/{subject_id}/{period}",
    summary="Give a key, a user or a project a budget",
    operation_id="set_budget",
    responses=_PUT,
    openapi_extra=_BODY,
)
async def set_budget(
    request: Request, actor: CurrentActor, state: CurrentState, kind: str, subject_id: str, period: str
) -> BudgetItem:
    return await _set(request, actor, state, (f"{kind}:{subject_id}", _period(period)))


@router.delete(
    "/service/{period}",
    status_code=204,
    response_class=Response,
    summary="Take a budget of the service away",
    operation_id="remove_service_budget",
    responses=_DELETE,
)
async def remove_service_budget(actor: CurrentActor, state: CurrentState, period: str) -> None:
    await _remove(actor, state, SERVICE, _period(period))


@router.delete(
    "/{kind}/{subject_id}/{period}",
    status_code=204,
    response_class=Response,
    summary="Take a budget away",
    operation_id="remove_budget",
    responses=_DELETE,
)
async def remove_budget(actor: CurrentActor, state: CurrentState, kind: str, subject_id: str, period: str) -> None:
    await _remove(actor, state, f"{kind}:{subject_id}", _period(period))


async def _set(request: Request, actor: Actor, state: State, whose: tuple[str, Period]) -> BudgetItem:
    body = parse(await read_json(request, state["server"]), BudgetBody)
    subject, period = whose
    budget = Budget(subject=subject, period=period, amount=body.amount_usd, alerts=tuple(body.alerts))
    found = await budgets.put(state["database"], actor, budget)
    state["keyring"].clear()
    return _item(found, state["limiter"])


async def _remove(actor: Actor, state: State, subject: str, period: Period) -> None:
    await budgets.remove(state["database"], actor, subject, period)
    state["keyring"].clear()


def _period(written: str) -> Period:
    for period in budgets.PERIODS:
        if written == period:
            return period
    message = "There is no such period: it is day, week, month or total."
    raise NotFound(message)


def _item(found: NamedBudget, limiter: Limiter) -> BudgetItem:
    budget, now = found.budget, time.time_ns() // 1000
    spent: int = getattr(limiter.spending(budget.subject, now), budget.period)
    first = beginnings(now)[budget.period]
    return BudgetItem(
        subject=budget.subject,
        name=found.name,
        period=budget.period,
        amount_usd=dollars(budget.amount),
        alerts=list(budget.alerts),
        spent_usd=dollars(spent),
        remaining_usd=dollars(max(0, budget.amount - spent)),
        starts_at=datetime.fromisoformat(first).replace(tzinfo=UTC) if first else None,
        ends_at=next_begins(budget.period, now),
    )
