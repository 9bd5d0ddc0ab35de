"""ai-proxy budgets …"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ai_proxy.cli import session
from ai_proxy.core.config import load_settings
from ai_proxy.core.money import dollars, nano
from ai_proxy.core.types import COMMAND_LINE, Budget, Period, Spending
from ai_proxy.services import budgets, subjects
from ai_proxy.services.budgets import NamedBudget
from ai_proxy.storage import usage
from ai_proxy.storage.engine import Database

app = typer.Typer(help="Budgets of keys, users, projects and the service.", no_args_is_help=True)

Subject = Annotated[str, typer.Argument(help="key:ID, user:NAME, project:NAME or service.", show_default=False)]
ThePeriod = Annotated[
    str,
    typer.Argument(help="day, week (it begins on Monday), month (all in UTC) or total.", show_default=False),
]


@app.command(name="set")
def set_budget(
    subject: Subject,
    period: ThePeriod,
    amount: Annotated[str, typer.Argument(help="US dollars.", show_default=False)],
    alert: Annotated[
        list[int] | None,
        typer.Option(help="Per cent at which somebody is told. 0: nobody ever is.", show_default="80 and 100"),
    ] = None,
) -> None:
    """Set what may be spent in a period. A running service notices within five seconds.

    Example: ai-proxy budgets set project:search month 250 --alert 50 --alert 80
    """
    try:
        most = nano(amount)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="AMOUNT") from None
    chosen = _period(period)
    alerts = budgets.ALERTS if alert is None else () if alert == [0] else tuple(alert)

    async def work(database: Database) -> NamedBudget:
        whose = await subjects.named(database, subject)
        budget = Budget(subject=whose, period=chosen, amount=most, alerts=alerts)
        return await budgets.put(database, COMMAND_LINE, budget)

    done = session.at_schema(load_settings(), work).budget
    typer.echo(f"{subject} may spend {dollars(done.amount)} USD ({done.period}).")


@app.command(name="list")
def list_budgets(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the budgets, and what is spent of them.

    Example: ai-proxy budgets list --json
    """

    async def work(database: Database) -> tuple[Sequence[NamedBudget], Mapping[str, Spending]]:
        found = await budgets.list_all(database, COMMAND_LINE)
        return found, await usage.spending(database, time.time_ns() // 1000)

    found, spent = session.at_schema(load_settings(), work)
    items = [_item(one, spent.get(one.budget.subject, Spending())) for one in found]
    if as_json:
        typer.echo(json.dumps(items, indent=2))
        return
    for item in items:
        money = f"{item['spent_usd']} of {item['amount_usd']} USD"
        typer.echo(f"{item['subject']:44}  {item['period']:5}  {money}  {item['name'] or ''}".rstrip())


@app.command()
def remove(subject: Subject, period: ThePeriod) -> None:
    """Take a budget away.

    Example: ai-proxy budgets remove project:search month
    """
    chosen = _period(period)

    async def work(database: Database) -> None:
        await budgets.remove(database, COMMAND_LINE, await subjects.named(database, subject), chosen)

    session.at_schema(load_settings(), work)
    typer.echo(f"{subject} has no budget any more ({chosen}).")


def _period(text: str) -> Period:
    for period in budgets.PERIODS:
        if period == text:
            return period
    message = f"ai-proxy: PERIOD: {text!r} is none of {', '.join(budgets.PERIODS)}"
    raise SystemExit(message)


def _item(found: NamedBudget, spending: Spending) -> dict[str, Any]:
    budget = found.budget
    spent: int = getattr(spending, budget.period)
    return {
        "subject": budget.subject,
        "name": found.name,
        "period": budget.period,
        "amount_usd": dollars(budget.amount),
        "alerts": list(budget.alerts),
        "spent_usd": dollars(spent),
        "remaining_usd": dollars(max(0, budget.amount - spent)),
    }
