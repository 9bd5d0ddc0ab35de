"""Limits and budgets: what a caller may do in a minute and at one time, and what it may spend."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec
import structlog

from ai_proxy.core.exceptions import BudgetExceeded, DatabaseUnavailable, LargerThanLimit, LimitExceeded, RateLimited
from ai_proxy.core.groups import BudgetSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import PROVISIONAL_KEY_ID, Exchange, Limit, Principal, Spending
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import CHARACTERS_PER_TOKEN
from ai_proxy.gateway.limits.budgets import Alert, Budgets, Reservation
from ai_proxy.gateway.limits.counters import Claim, Counters, MemoryCounters, Refusal
from ai_proxy.gateway.limits.headers import headers
from ai_proxy.gateway.limits.words import limit_refusal
from ai_proxy.gateway.limits.worst import bounded, dearest, stated_output
from ai_proxy.gateway.targets import Route

__all__ = ["Admission", "Alert", "Limiter", "MemoryCounters"]

log = structlog.get_logger()

_ANTHROPIC = frozenset({"messages", "count_tokens"})


class Admission(msgspec.Struct):
    """What a call holds while it runs."""

    principal: Principal
    at: int
    claims: tuple[Claim, ...] = ()
    reservation: Reservation | None = None


def _to_nobody(*_: Any) -> None:
    pass


class Limiter:
    """Each call that is admitted must be settled, once, however it ends."""

    def __init__(
        self,
        counters: Counters,
        settings: BudgetSettings,
        metrics: Metrics,
        alert: Alert = _to_nobody,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds, for the windows of a minute."""
        self._counters = counters
        self._budgets = Budgets(wait=settings.wait, alert=alert)
        self._most = settings.max_output_tokens
        self._metrics = metrics
        self._clock = clock
        self._knows_spending = True

    def expect(self) -> None:
        """Let no call under a budget begin before `load` has told what was spent."""
        self._knows_spending = False

    def load(self, spending: Mapping[str, Spending], at: int, own_key: str | None = None) -> None:
        """Add what was spent before. `at` is the time as of which it is known, in microseconds.

        `own_key` is the id of the key whose calls had a provisional one so far.
        """
        self._budgets.add(spending, at)
        if own_key is not None:
            self._budgets.join(f"key:{PROVISIONAL_KEY_ID}", f"key:{own_key}")
        self._knows_spending = True

    def spending(self, subject: str, at: int) -> Spending:
        """What a subject has spent in the current periods."""
        return self._budgets.spending(subject, at)

    async def admit(self, exchange: Exchange, call: Call) -> Admission | None:
        """Count the call, or raise `RateLimited`; `exchange` gets the headers that tell what is left.

        None for a call that is nobody's. Raises `DatabaseUnavailable` as long as it is not known what was spent.
        """
        principal = exchange.principal
        if principal is None:
            return None
        if principal.budgets and not self._knows_spending:
            message = "The database was not reached yet, so nobody knows what is left of your budgets: try again."
            raise DatabaseUnavailable(message)
        admission = Admission(principal, exchange.created_at)
        limits = principal.limits
        if limits:
            tokens = _estimated(call, limits)
            claims = tuple([Claim(limit=limit, tokens=tokens) for limit in limits])
            refusal = await self._counters.take(claims, self._clock())
            exchange.limits_told = headers(claims, anthropic=exchange.dialect in _ANTHROPIC)
            if refusal is not None:
                self._refuse(refusal, exchange, tokens)
            admission.claims = claims
        return admission

    async def reserve(self, admission: Admission | None, call: Call, route: Route) -> Call:
        """Hold what the call may cost at most, if it is under a budget. Returns it with a limit of tokens to write.

        Raises `BudgetExceeded`, and `RateLimited` if running calls hold what is left and do not end in time.
        """
        if admission is None or not admission.principal.budgets or call.dialect == "count_tokens":  # costs nothing
            return call
        call, written = bounded(call, self._most)
        worst = dearest(route, call, written)
        if worst == 0:  # free
            return call
        try:
            admission.reservation = await self._budgets.reserve(admission.principal.budgets, worst, admission.at)
        except (BudgetExceeded, RateLimited) as error:
            self._note("budget", admission.principal, error)
            raise
        return call

    async def settle(self, admission: Admission | None, exchange: Exchange) -> None:
        """The call is over. `exchange` says what it took and cost; from memory it costs nothing."""
        if admission is None:
            return
        principal = admission.principal
        cost = 0 if exchange.cached else exchange.cost or 0
        if cost or admission.reservation is not None:
            self._budgets.settle(principal.subjects, admission.reservation, cost, admission.at)
            self._budgets.tell(principal.budgets, cost, admission.at)
        if admission.claims:
            usage = exchange.usage
            used = 0 if exchange.cached else usage.input_tokens + usage.output_tokens
            for claim in admission.claims:
                claim.used = used
            await self._counters.settle(admission.claims, self._clock())

    def _refuse(self, refusal: Refusal, exchange: Exchange, tokens: int) -> NoReturn:
        message = limit_refusal(refusal, tokens=tokens)
        error: LimitExceeded
        if refusal.retry_after is None:
            error = LargerThanLimit(message, headers=exchange.limits_told)
        else:
            error = RateLimited(message, retry_after=refusal.retry_after, headers=exchange.limits_told)
        if exchange.principal is not None:
            self._note(refusal.scope, exchange.principal, error)
        raise error

    def _note(self, scope: str, principal: Principal, error: LimitExceeded) -> None:
        self._metrics.limited(scope)
        log.info("limits: a call is refused", scope=scope, key_id=principal.key_id, reason=error.message)


def _estimated(call: Call, limits: tuple[Limit, ...]) -> int:
    """Tokens, as far as any limit asks for them: text at four characters each, and what may be written at most."""
    for limit in limits:
        if limit.tokens_per_minute is not None:
            return call.characters() // CHARACTERS_PER_TOKEN + (stated_output(call) or 0)
    return 0
