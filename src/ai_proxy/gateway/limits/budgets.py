"""What subjects have spent, and may spend: money is reserved before a call, and settled after it.

A call is let through if what was spent, what running calls have reserved and the most that it may cost itself are
together within each of its budgets. If only what others have reserved stands in the way, it waits for them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ai_proxy.core.exceptions import GatewayError, RateLimited
from ai_proxy.core.types import Budget, Period, Spending
from ai_proxy.gateway.limits.periods import Periods, kind_of, periods_at
from ai_proxy.gateway.limits.words import budget_refusal, name_of

# Told when a subject's spending has reached so many per cent of a budget: subject, period, per cent, spent, amount.
# Money is in nano-dollars. It must not block.
Alert = Callable[[str, Period, int, int, int], object]

_MOST_WAITING = 1000  # calls for the same budget
_MOST_POTS = 12  # of a subject, before old periods are forgotten
_AGAIN = 1.0  # seconds after which money may be free again


class _Pot:
    """The money of one subject in one period. There are several for each that ever spent any, so they are small."""

    __slots__ = ("reserved", "spent", "waiting")

    def __init__(self, spent: int = 0) -> None:
        self.spent = spent
        self.reserved = 0
        self.waiting = _NOBODY


_NOBODY: "deque[_Waiter]" = deque(maxlen=0)


class Reservation(msgspec.Struct, eq=False):
    """Held until it is settled. `amount` is None when nobody knows what the call may cost: nothing is reserved then."""

    shares: Sequence[tuple[_Pot, Budget]]
    amount: int | None
    at: int


class _Waiter:
    """A call that waits at the end of a pot's queue. It is told an error, or None when it has its reservation."""

    def __init__(self, reservation: Reservation, pot: _Pot) -> None:
        self.reservation = reservation
        self.told: asyncio.Future[GatewayError | None] = asyncio.get_running_loop().create_future()
        self.stand_at(pot)

    def stand_at(self, pot: _Pot) -> None:
        self.pot = pot
        if pot.waiting is _NOBODY:
            pot.waiting = deque()
        pot.waiting.append(self)


class Budgets:
    """Times are in microseconds since the epoch: a call's `created_at` says in which periods it spends."""

    def __init__(self, *, wait: float, alert: Alert) -> None:
        """`wait` is how many seconds a call waits for what others have reserved."""
        self._wait = wait
        self._alert = alert
        self._accounts: dict[str, dict[int, _Pot]] = {}
        self._periods = periods_at(0)  # those in which money was spent last
        self._current: dict[str, tuple[_Pot, ...]] = {}  # of the subjects that spent any in them

    def add(self, spending: Mapping[str, Spending], at: int) -> None:
        """What was spent before, by calls that were not settled here."""
        numbers = periods_at(at)
        for subject, spent in spending.items():
            for number, amount in zip(numbers, (spent.day, spent.week, spent.month, spent.total), strict=True):
                if amount:
                    self._pot(subject, number).spent += amount

    def join(self, subject: str, other: str) -> None:
        """From now on these two are one. Nothing may be reserved for the first of them."""
        for number, pot in self._accounts.pop(subject, {}).items():
            self._pot(other, number).spent += pot.spent
        self._accounts[subject] = self._accounts.setdefault(other, {})
        self._current.clear()

    def spending(self, subject: str, at: int) -> Spending:
        """What has been spent in the periods that `at` lies in."""
        pots = self._accounts.get(subject, {})
        return Spending(*(pots[number].spent if number in pots else 0 for number in periods_at(at)))

    async def reserve(self, budgets: Sequence[Budget], worst: int | None, at: int) -> Reservation:
        """Hold what a call may cost at most, in all budgets or in none. Must be settled.

        Raises `BudgetExceeded`, or `RateLimited` after waiting. None is for calls whose price nobody knows: they run
        until a budget is used up.
        """
        numbers = periods_at(at)
        shares = [(self._pot(budget.subject, getattr(numbers, budget.period)), budget) for budget in budgets]
        reservation = Reservation(shares, worst, at)
        pot = _in_the_way(reservation)
        if pot is None and worst is not None:
            _hold(reservation)
            return reservation
        error = _refusal(reservation)
        if error is not None:
            raise error
        if pot is not None and worst is not None:
            await self._queue(reservation, pot)
        return reservation

    def settle(self, subjects: Sequence[str], reservation: Reservation | None, cost: int, at: int) -> None:
        """The call is over and has cost so much, for each of the subjects."""
        touched = [] if reservation is None else _released(reservation)
        if cost:
            periods = periods_at(at)
            for subject in subjects:
                for pot in self._pots(subject, periods):
                    pot.spent += cost
                    if pot.waiting is not _NOBODY:
                        touched.append(pot)
        for pot in touched:
            _wake(pot)

    def tell(self, budgets: Sequence[Budget], cost: int, at: int) -> None:
        """Alert those who want to know that a call of this cost, which is settled, has come to a part of a budget."""
        periods = periods_at(at)
        for budget in budgets:
            if not budget.alerts:
                continue
            spent = self._pot(budget.subject, periods.number(budget.period)).spent
            before = (spent - cost) * 100
            if before >= budget.amount * budget.alerts[-1] or spent * 100 < budget.amount * budget.alerts[0]:
                continue
            for percent in budget.alerts:
                if before < percent * budget.amount <= spent * 100:
                    self._alert(budget.subject, budget.period, percent, spent, budget.amount)

    async def _queue(self, reservation: Reservation, pot: _Pot) -> None:
        """First come, first served, and for a bounded time."""
        if not self._wait or len(pot.waiting) >= _MOST_WAITING:
            raise _taken(reservation, pot)
        waiter = _Waiter(reservation, pot)
        timer = asyncio.get_running_loop().call_later(self._wait, _give_up, waiter)
        try:
            error = await waiter.told
        except asyncio.CancelledError:
            _leave(waiter)
            raise
        finally:
            timer.cancel()
        if error is not None:
            raise error

    def _pots(self, subject: str, periods: Periods) -> tuple[_Pot, ...]:
        """One for each period. They are looked for once a day, not for each call."""
        if periods is not self._periods:
            self._periods, self._current = periods, {}
        pots = self._current.get(subject)
        if pots is None:
            pots = self._current[subject] = tuple([self._pot(subject, number) for number in periods])
        return pots

    def _pot(self, subject: str, number: int) -> _Pot:
        pots = self._accounts.get(subject)
        if pots is None:
            pots = self._accounts[subject] = {}
        pot = pots.get(number)
        if pot is None:
            if len(pots) >= _MOST_POTS:
                _forget_old(pots)
                self._current.pop(subject, None)
            pot = pots[number] = _Pot()
        return pot


def _refusal(reservation: Reservation) -> GatewayError | None:
    """Of a call that does not fit even if nothing else runs."""
    amount = reservation.amount
    for pot, budget in reservation.shares:
        if pot.spent >= budget.amount if amount is None else pot.spent + amount > budget.amount:
            return budget_refusal(budget, spent=pot.spent, worst=amount or 0, at=reservation.at)
    return None


def _in_the_way(reservation: Reservation, own: _Pot | None = None) -> _Pot | None:
    """Where there is not enough for now, or others wait: nobody overtakes. `own` is whose queue we are first in."""
    amount = reservation.amount or 0
    for pot, budget in reservation.shares:
        if (pot.waiting and pot is not own) or pot.spent + pot.reserved + amount > budget.amount:
            return pot
    return None


def _hold(reservation: Reservation) -> None:
    for pot, _ in reservation.shares:
        pot.reserved += reservation.amount or 0


def _released(reservation: Reservation) -> list[_Pot]:
    """Give a reservation up. Returns the pots in which somebody waits."""
    for pot, _ in reservation.shares:
        pot.reserved -= reservation.amount or 0
    return [pot for pot, _ in reservation.shares if pot.waiting]


def _wake(pot: _Pot) -> None:
    """Let in who fits now, in turn; tell those for whom it is over."""
    waiting = pot.waiting
    while waiting:
        waiter = waiting[0]
        error = _refusal(waiter.reservation)
        other = None if error else _in_the_way(waiter.reservation, pot)
        if other is pot and not waiter.told.done():
            return
        waiting.popleft()
        if waiter.told.done():
            continue
        if other is not None:
            waiter.stand_at(other)
            continue
        if error is None:
            _hold(waiter.reservation)
        waiter.told.set_result(error)


def _give_up(waiter: _Waiter) -> None:
    """It has waited long enough."""
    if not waiter.told.done():
        waiter.told.set_result(_taken(waiter.reservation, waiter.pot))
        _step_out(waiter)


def _leave(waiter: _Waiter) -> None:
    """Its call was cancelled: before it got its reservation, or just after."""
    told = waiter.told
    if told.done() and not told.cancelled() and told.result() is None:
        for pot in _released(waiter.reservation):
            _wake(pot)
    else:
        _step_out(waiter)


def _step_out(waiter: _Waiter) -> None:
    if waiter in waiter.pot.waiting:
        waiter.pot.waiting.remove(waiter)
        _wake(waiter.pot)


def _taken(reservation: Reservation, pot: _Pot) -> GatewayError:
    budget = next(budget for its, budget in reservation.shares if its is pot)
    message = (
        f"What is left of the budget of {name_of(budget.subject)} is reserved for calls that are running: try again."
    )
    return RateLimited(message, retry_after=_AGAIN)


def _forget_old(pots: dict[int, _Pot]) -> None:
    """All but the last two periods of each kind: calls that began in the one before may still be running."""
    for kind in {kind_of(number) for number in pots}:
        numbers = sorted(number for number in pots if kind_of(number) == kind)
        for number in numbers[:-2]:
            if not (pots[number].reserved or pots[number].waiting):
                del pots[number]
