"""How refusals are put into words. They name no other tenant, and not what the service as a whole may spend."""

from ai_proxy.core.exceptions import BudgetExceeded
from ai_proxy.core.money import dollars
from ai_proxy.core.types import SERVICE, Budget, Period
from ai_proxy.gateway.limits.counters import Refusal, Scope
from ai_proxy.gateway.limits.periods import next_begins

_NAMES = {"key": "this API key", "user": "this API key's user", "project": "this API key's project"}
_LIMITS: dict[Scope, str] = {
    "requests": "{most} request{s} a minute",
    "tokens": "{most} token{s} a minute",
    "concurrent": "{most} call{s} at one time",
}
_SPANS: dict[Period, str] = {"day": "Today's", "week": "This week's", "month": "This month's", "total": "The"}


def name_of(subject: str) -> str:
    return _NAMES.get(subject.partition(":")[0], "the whole service")


def limit_refusal(refusal: Refusal, *, tokens: int) -> str:
    """`tokens` is how many the call asked for."""
    limit = refusal.limit
    most = {
        "requests": limit.requests_per_minute,
        "tokens": limit.tokens_per_minute,
        "concurrent": limit.concurrent,
    }[refusal.scope]
    words = _LIMITS[refusal.scope].format(most=most, s="" if most == 1 else "s")
    message = f"The limit of {name_of(limit.subject)} is {words}"
    if refusal.retry_after is not None:
        return f"{message}: try again in {refusal.retry_after:.1f} s."
    if refusal.scope == "tokens":
        return f"{message}, and this call alone asks for {tokens}: send less text, or ask for a shorter answer."
    return f"{message}: no call is let through."


def budget_refusal(budget: Budget, *, spent: int, worst: int, at: int) -> BudgetExceeded:
    """Money is in nano-dollars. `at` is the time of the call, in microseconds since the epoch."""
    amount = "" if budget.subject == SERVICE else f" of ${dollars(budget.amount)}"
    which = f"{_SPANS[budget.period]} budget{amount} of {name_of(budget.subject)}"
    begins = next_begins(budget.period, at)
    anew = "It does not begin anew." if begins is None else f"It begins anew at {begins:%Y-%m-%dT%H:%M:%SZ}."
    if spent >= budget.amount:
        return BudgetExceeded(f"{which} is used up. {anew}")
    message = f"{which} does not leave enough for this call, which may cost up to ${dollars(worst)}: "
    return BudgetExceeded(f"{message}ask for a shorter answer (max_tokens), or send less text. {anew}")
