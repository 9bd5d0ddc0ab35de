"""A real gateway before a provider that costs what a test says, and callers with limits and budgets."""

import asyncio
import itertools
import json
from contextlib import aclosing

from ai_proxy.core.groups import BudgetSettings, CacheSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Bounds, Budget, Exchange, Principal, Usage
from ai_proxy.dialects.call import parse
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway.discovery import Discovery
from ai_proxy.gateway.health import Account, Health
from ai_proxy.gateway.limits import Limiter, MemoryCounters
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.pricing import PriceTag, Rates
from ai_proxy.gateway.routing import Route, Target
from tests.context import NO_CONTEXT

DOLLAR = 1_000_000_000
CENTS = DOLLAR // 100
NOON = 1_795_435_200_000_000  # 2026-11-23, a Monday, 12:00 UTC, in microseconds
BODY = {"model": "small", "messages": [{"role": "user", "content": "ping"}]}


def rates(**given) -> Rates:
    nothing = dict.fromkeys(("input", "output", "cache_read", "cache_write", "input_audio", "output_audio"), 0)
    return Rates(**{"source": "table", **nothing, **given})


def budget(dollars: float, subject: str = "key:alice", period: str = "day", **fields) -> Budget:
    return Budget(subject=subject, period=period, amount=round(dollars * DOLLAR), **fields)


def principal(*budgets: Budget, name: str = "alice", limits=(), **fields) -> Principal:
    return Principal(key_id=name, user_id=f"{name}-user", name=name, budgets=budgets, limits=tuple(limits), **fields)


class Provider:
    """Answers after `delay` seconds, or when it is let; `error` is raised in place of an answer."""

    name = "fake"
    default_model = "some"
    dialects = frozenset({"chat"})
    is_mock = False

    def __init__(self) -> None:
        self.delay = 0.0
        self.usage = Usage(10, 10)
        self.error: Exception | None = None
        self.answers = 0
        self.running = 0
        self.calls = []

    async def complete(self, call, model, limits):
        self.calls.append(call)
        self.running += 1
        try:
            await asyncio.sleep(self.delay)
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1
        self.answers += 1
        return Completion(b"{}", "pong", "stop", self.usage)

    async def stream(self, call, model, limits):
        self.calls.append(call)
        self.running += 1
        try:
            yield Chunk(b"{}", "pong", content=True)
            await asyncio.sleep(self.delay)
            if self.error is not None:
                raise self.error
            yield Chunk(b"{}", finish_reason="stop", usage=self.usage, content=True)
        finally:
            self.running -= 1
        self.answers += 1


class History:
    """Keeps rows, and counts places as the recorder does."""

    def __init__(self) -> None:
        self.rows: list[Exchange] = []
        self.held = 0
        self.full: Exception | None = None

    def admit(self) -> None:
        if self.full is not None:
            raise self.full
        self.held += 1

    def withdraw(self) -> None:
        self.held -= 1

    def add(self, exchange: Exchange) -> asyncio.Event:
        self.held -= 1
        self.rows.append(exchange)
        written = asyncio.Event()
        written.set()
        return written


class _Router:
    def __init__(self, route: Route) -> None:
        self._route = route

    def route(self, _):
        return self._route

    def is_certain(self, _):
        return True


class World:
    """`settings` are those of budgets."""

    def __init__(self, price: Rates, *, cache: dict | None = None, hedge: bool = False, **settings) -> None:
        self.provider, self.history, self.metrics = Provider(), History(), Metrics()
        self.alerts = []
        self.limiter = Limiter(
            MemoryCounters(), BudgetSettings(**settings), self.metrics, lambda *alert: self.alerts.append(alert)
        )
        self.gateway = Gateway(self.history, NO_CONTEXT, self.metrics, CacheSettings(**(cache or {})), self.limiter)
        target = Target(
            provider=self.provider,
            model="tiny",
            limits=Bounds(),
            health=Health("fake/tiny", Account()),
            label="fake/tiny",
            tag=PriceTag(lambda _: price),
        )
        self.route = Route(name="small", groups=((target,),), lookup=lambda _: self.route, hedge=hedge)
        self.router = _Router(self.route)
        self.gateway.use(self.router, Discovery({}, {}))
        self._ids = itertools.count()

    def exchange(self, caller: Principal, *, at: int = NOON, **fields) -> Exchange:
        return Exchange(
            id=str(next(self._ids)),
            key_id=caller.key_id,
            question="ping",
            model="",
            conversation_id=None,
            created_at=at,
            started=0.0,
            principal=caller,
            **fields,
        )

    async def ask(self, caller: Principal, *, at: int = NOON, body: dict | None = None, **fields) -> Exchange:
        exchange = self.exchange(caller, at=at, **fields)
        await self.gateway.complete(exchange, parse("chat", json.dumps(body or BODY).encode()))
        return exchange

    async def stream(self, caller: Principal, *, body: dict | None = None, leave: bool = False) -> Exchange:
        exchange = self.exchange(caller, stream=True)
        call = parse("chat", json.dumps({**(body or BODY), "stream": True}).encode())
        async with aclosing(self.gateway.stream(exchange, call)) as chunks:
            async for _ in chunks:
                if leave:
                    break
        return exchange

    def spent(self, subject: str = "key:alice", at: int = NOON):
        return self.limiter.spending(subject, at)

    def ledger(self) -> int:
        return sum(row.cost or 0 for row in self.history.rows)
