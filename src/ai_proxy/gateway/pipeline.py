"""The path of one LLM call: admit, route, call, record."""

import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import cast

from ai_proxy.core.groups import BudgetSettings, CacheSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Attempt, Bounds, Exchange, Principal, Reuse
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway import translation
from ai_proxy.gateway.access import check_models, visible
from ai_proxy.gateway.attempts import Attempts
from ai_proxy.gateway.cache import Cache
from ai_proxy.gateway.coalescing import Coalescer
from ai_proxy.gateway.context import Context
from ai_proxy.gateway.discovery import Discovery, listing
from ai_proxy.gateway.limits import Limiter, MemoryCounters
from ai_proxy.gateway.record import Keep, Record
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.gateway.redaction import Redact
from ai_proxy.gateway.routing import Router
from ai_proxy.gateway.targets import Target


class Gateway:
    """However a call ends, it is recorded once: before its answer is complete, or after its client has gone."""

    def __init__(
        self,
        recorder: Recorder,
        context: Context,
        metrics: Metrics,
        cache: CacheSettings,
        limiter: Limiter | None = None,
    ) -> None:
        """Without a `limiter` of one's own, nobody is asked what was spent before."""
        self._recorder = recorder
        self._context = context
        self._metrics = metrics
        self._limiter = limiter or Limiter(MemoryCounters(), BudgetSettings(), metrics)
        self._cache = Cache(cache)
        self._coalescer = Coalescer() if cache.coalesce else None
        self.reuses = self._cache.on or cache.coalesce  # whether any call may get the answer to another
        self._watch(metrics)
        self._attempts = Attempts()
        self._redact: Redact | None = None
        self._router: Router
        self._discovery: Discovery

    def use(self, router: Router, discovery: Discovery, redact: Redact | None = None) -> None:
        """Where calls go from now on, and what is stored of them. Those that are running go on as they began."""
        self._router = router
        self._discovery = discovery
        self._redact = redact
        self._cache.clear()

    def models(self, principal: Principal | None = None) -> dict[str, str]:
        """The names that calls can use, of this key if one is given, and whose models they are."""
        return visible(listing(self._router, self._discovery), principal, self._router.route)

    async def complete(self, exchange: Exchange, call: Call, keep: Keep | None = None) -> Completion:
        """The whole answer; `exchange` is filled in. What is to be kept is committed with it. Raises `GatewayError`."""
        async with self._record(exchange, call, keep) as record:
            await self._prepared(record)
            if exchange.reuse is None:
                await self._reserve(record)
                target, completion = await self._ask(record, exchange.attempts)
            else:
                target, completion = await self._ask_or_reuse(record, exchange.reuse)
            record.answered_by(target)
            record.take_whole(completion)
            return completion

    async def stream(self, exchange: Exchange, call: Call) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks, the first of which comes when there is content. Ends after the record is committed.

        Raises `GatewayError`, before the first chunk or later. Must be closed when it is left early.
        """
        async with self._record(exchange, call) as record:
            await self._prepared(record)
            if exchange.reuse is not None and self._cache.on:
                chunks = self._open_or_reuse(record, exchange.reuse)
            else:
                await self._reserve(record)
                chunks = self._open(record)
            async with aclosing(chunks):
                async for chunk in chunks:
                    record.take(chunk)
                    yield chunk

    def _record(self, exchange: Exchange, call: Call, keep: Keep | None = None) -> Record:
        record = Record(exchange, call, self._recorder, self._limiter, self._metrics, keep)
        record.redact = self._redact
        return record

    async def _ask(self, record: Record, attempts: list[Attempt]) -> tuple[Target, Completion]:
        exchange, call = record.exchange, record.call

        def ask(target: Target, limits: Bounds) -> Awaitable[Completion]:
            return translation.complete(call, target, limits, exchange)

        began = time.perf_counter()
        answered = await self._attempts.complete(record.route, ask, attempts)
        exchange.waited_ms = (time.perf_counter() - began) * 1000
        return answered

    async def _ask_or_reuse(self, record: Record, reuse: Reuse) -> tuple[Target, Completion]:
        exchange = record.exchange
        key = self._cache.key(exchange.key_id, record.call)
        entry = self._cache.find(key, reuse)
        if entry is not None:
            exchange.cached = True
            return entry.target, cast("Completion", entry.parts[0])
        await self._reserve(record)

        async def ask(attempts: list[Attempt]) -> tuple[Target, Completion]:
            target, completion = await self._ask(record, attempts)
            if reuse.stores:
                self._cache.put(key, target, (completion,))
            return target, completion

        if self._coalescer is None or not reuse.reads:
            return await ask(exchange.attempts)
        began = time.perf_counter()
        answered = await self._coalescer.complete(key, exchange, ask)
        exchange.waited_ms = (time.perf_counter() - began) * 1000
        return answered

    def _open(self, record: Record) -> AsyncGenerator[Chunk, None]:
        exchange, call = record.exchange, record.call

        def open_stream(target: Target, limits: Bounds) -> AsyncGenerator[Chunk, None]:
            return translation.stream(call, target, limits, exchange)

        began = time.perf_counter()

        def answered_by(target: Target) -> None:
            now = time.perf_counter()
            exchange.waited_ms = (now - began) * 1000
            record.answered_by(target)
            exchange.first_token_ms = (now - exchange.started) * 1000
            self._metrics.first_token(exchange.provider, now - exchange.started)

        return self._attempts.stream(record.route, open_stream, exchange.attempts, answered_by)

    async def _open_or_reuse(self, record: Record, reuse: Reuse) -> AsyncGenerator[Chunk, None]:
        key = self._cache.key(record.exchange.key_id, record.call)
        entry = self._cache.find(key, reuse)
        if entry is not None:
            record.exchange.cached = True
            record.answered_by(entry.target)
            for chunk in entry.parts:
                yield cast("Chunk", chunk)
            return
        await self._reserve(record)
        parts: list[Chunk] = []
        async with aclosing(self._open(record)) as chunks:
            async for chunk in chunks:
                if reuse.stores:
                    parts.append(chunk)
                yield chunk
        if reuse.stores and record.target is not None:
            self._cache.put(key, record.target, parts)

    async def _prepared(self, record: Record) -> None:
        """Make the call what is asked, with all that it refers to; and find where it goes."""
        exchange, call = record.exchange, record.call
        while not self._discovery.is_settled and not self._router.is_certain(call.model):
            await self._discovery.settled()  # soon after a start: providers' lists may say where it goes
        find = self._router.route
        check_models(exchange.principal, call.body, find)
        if exchange.conversation_id is not None or call.dialect == "responses":
            record.call = await self._context.complete(exchange, call)
        record.route = find(call.model)

    async def _reserve(self, record: Record) -> None:
        """Hold what the call may cost at most; an answer from memory costs nothing.

        The call goes where this was reckoned for, even if other settings are read while it waits.
        """
        record.call = await self._limiter.reserve(record.admission, record.call, record.route)

    def _watch(self, metrics: Metrics) -> None:
        cache, coalescer = self._cache, self._coalescer
        metrics.watch("aiproxy_cache_hits_total", "Answers given from memory.", lambda: cache.hits)
        metrics.watch("aiproxy_cache_misses_total", "Answers looked for in memory and not found.", lambda: cache.misses)
        metrics.watch("aiproxy_cache_bytes", "Memory that answers take.", lambda: cache.size)
        metrics.watch(
            "aiproxy_cache_evicted_total", "Answers that had to go, or were too large.", lambda: cache.evicted
        )
        if coalescer is not None:
            metrics.watch(
                "aiproxy_shared_answers_total", "Answers to calls that another made.", lambda: coalescer.shared
            )
