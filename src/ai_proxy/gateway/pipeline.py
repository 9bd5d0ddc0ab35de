"""The path of one LLM call: admit, route, call, record."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

from ai_proxy.core.exceptions import GatewayError, ShuttingDown
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Exchange, Turn, Usage
from ai_proxy.dialects.chat import ChatRequest, Chunk, Completion, estimate
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.gateway.routing import Router, Target

# The earlier exchanges of a conversation, oldest first, as far as they fit. Takes the key's id and the conversation's.
Earlier = Callable[[str, str], Awaitable[Sequence[Turn]]]


class Gateway:
    """However a call ends, it is recorded once: before its answer is complete, or after its client has gone."""

    def __init__(self, router: Router, recorder: Recorder, earlier: Earlier, metrics: Metrics) -> None:
        self._router = router
        self._recorder = recorder
        self._earlier = earlier
        self._metrics = metrics

    async def complete(self, exchange: Exchange, request: ChatRequest) -> Completion:
        """The whole answer; `exchange` is filled in. Raises `GatewayError`."""
        async with _Record(exchange, self._recorder, self._metrics) as record:
            target = await self._prepare(record, request)
            completion = await target.provider.complete(record.request, target.model)
            record.take(completion)
            return completion

    async def stream(self, exchange: Exchange, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks, the first of which comes when there is content. Ends after the record is committed.

        Raises `GatewayError`, before the first chunk or later. Must be closed when it is left early.
        """
        async with _Record(exchange, self._recorder, self._metrics) as record:
            target = await self._prepare(record, request)
            held: list[Chunk] | None = []
            async with aclosing(target.provider.stream(record.request, target.model)) as chunks:
                async for chunk in chunks:
                    record.take(chunk)
                    if held is None:
                        yield chunk
                        continue
                    held.append(chunk)
                    if chunk.bears_content:
                        self._metrics.first_token(exchange.provider, time.perf_counter() - exchange.started)
                        for early in held:
                            yield early
                        held = None

    async def _prepare(self, record: "_Record", request: ChatRequest) -> Target:
        """Choose the target and gather what the call needs beside the question."""
        exchange = record.exchange
        target = self._router.target(exchange.model or None)
        exchange.provider = target.provider.name
        exchange.model = target.model
        exchange.mock = target.provider.is_mock
        if exchange.conversation_id is not None:
            request = request.after(await self._earlier(exchange.key_id, exchange.conversation_id))
        record.request = request
        return target


class _Record:
    """The record of one call: a place for it is reserved at the start, it is settled and queued at the end."""

    request: ChatRequest

    def __init__(self, exchange: Exchange, recorder: Recorder, metrics: Metrics) -> None:
        self.exchange = exchange
        self._recorder = recorder
        self._metrics = metrics
        self._texts: list[str] = []
        self._usage: Usage | None = None

    def take(self, part: Completion | Chunk) -> None:
        """Note what an answer, or a chunk of one, says."""
        if part.text:
            self._texts.append(part.text)
        if part.finish_reason is not None:
            self.exchange.finish_reason = part.finish_reason
        if part.usage is not None:
            self._usage = part.usage

    async def __aenter__(self) -> Self:
        self._recorder.admit()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        exchange = self.exchange
        exchange.duration_ms = round((time.perf_counter() - exchange.started) * 1000, 3)
        exchange.answer = "".join(self._texts)
        exchange.usage = self._counted()
        if error is not None:
            _fail(exchange, error)
        usage = exchange.usage
        self._metrics.call(
            exchange.provider, exchange.error or exchange.status, usage.input_tokens, usage.output_tokens
        )
        written = self._recorder.add(exchange)
        if exchange.status != "cancelled":  # nobody waits for a cancelled one
            await written.wait()

    def _counted(self) -> Usage:
        """The provider's count; an estimate if there is an answer without one; nothing if there is no answer."""
        if self._usage is not None:
            return self._usage
        if not self._texts:
            return Usage()
        return estimate(input_characters=self.request.characters(), output_characters=len(self.exchange.answer))


def _fail(exchange: Exchange, error: BaseException) -> None:
    """Who cancels a call names the reason in `exchange.error` first: the client's leaving or the server's shutdown."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        exchange.status = "cancelled"
        exchange.error = exchange.error or ShuttingDown.code
    else:
        exchange.status = "failed"
        exchange.error = error.code if isinstance(error, GatewayError) else GatewayError.code
