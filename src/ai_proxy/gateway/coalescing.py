"""Equal calls at one time, answered by one call to a provider."""

import asyncio
from collections.abc import Awaitable, Callable

from ai_proxy.core.types import Attempt, Exchange
from ai_proxy.dialects.chat import Completion
from ai_proxy.gateway.targets import Target

# Asks targets until one answers, and adds each try to the list.
Ask = Callable[[list[Attempt]], Awaitable[tuple[Target, Completion]]]


class Coalescer:
    """The shared call belongs to nobody: it goes on as long as anybody waits for it, whoever began it."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}
        self.shared = 0

    async def complete(self, key: bytes, exchange: Exchange, ask: Ask) -> tuple[Target, Completion]:
        """The answer to the call that runs under `key`, which is begun if there is none. Raises `GatewayError`.

        The first of those who are still there at its end is the one who made it; for the others it is `cached`.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(ask)
            flight.task.add_done_callback(lambda _: self._forget(key, flight))
        flight.waiting += 1
        try:
            await asyncio.wait([flight.task])
        except asyncio.CancelledError:
            flight.waiting -= 1
            if not flight.waiting:
                self._forget(key, flight)
                await flight.abandon()
                flight.tell(exchange)
            raise
        flight.waiting -= 1
        if not flight.tell(exchange):
            self._share(exchange, flight)
        return flight.task.result()

    def _forget(self, key: bytes, flight: "_Flight") -> None:
        """Whoever comes now begins anew."""
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _share(self, exchange: Exchange, flight: "_Flight") -> None:
        self.shared += 1
        exchange.cached = True
        if exchange.reuse is not None:
            exchange.reuse.outcome = "shared"
        if flight.attempts:
            last = flight.attempts[-1]
            exchange.provider, exchange.model = last.provider, last.model


class _Flight:
    """A call that runs, and how many wait for it."""

    def __init__(self, ask: Ask) -> None:
        self.attempts: list[Attempt] = []
        self.waiting = 0
        self._is_told = False
        self.task = asyncio.ensure_future(ask(self.attempts))

    def tell(self, exchange: Exchange) -> bool:
        """Leave the attempts to one of the exchanges; False if another one has them."""
        if self._is_told:
            return False
        self._is_told = True
        exchange.attempts += self.attempts
        return True

    async def abandon(self) -> None:
        """End it, and wait until the provider's connection is given up."""
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.exception()  # nobody else will ask for it
