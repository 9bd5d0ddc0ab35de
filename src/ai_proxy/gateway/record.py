"""The record of one call: a place for it is reserved at the start, it is settled and queued at the end."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import msgspec

from ai_proxy.core.exceptions import GatewayError, HistoryFull, LimitExceeded, ShuttingDown
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Exchange, KeptAnswer
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.dialects.wires import WIRES
from ai_proxy.gateway.counting import Count
from ai_proxy.gateway.limits import Admission, Limiter
from ai_proxy.gateway.pricing import reckoned
from ai_proxy.gateway.recorder import Recorder
from ai_proxy.gateway.redaction import Redact, size_of
from ai_proxy.gateway.targets import Route, Target

# What is to be kept of a complete answer, for the same request to come.
Keep = Callable[[Exchange, Completion], KeptAnswer]


_MANY = 5000  # events: folding more of them, which takes 10 ms and longer, would hold up all other calls
_LONG = 20_000  # characters: looking through more of them takes as long
_FOLDER = ThreadPoolExecutor(1, "fold")  # of our own: a thread of the common ones may be busy for minutes


class Record:
    """Use as an async context manager around the call. `call` is what is asked in the end."""

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        recorder: Recorder,
        limiter: Limiter,
        metrics: Metrics,
        keep: Keep | None = None,
    ) -> None:
        self.exchange = exchange
        self.call = call
        self.admission: Admission | None = None
        self._recorder = recorder
        self._limiter = limiter
        self._metrics = metrics
        self._keep = keep
        self._completion: Completion | None = None
        self.redact: Redact | None = None
        self._redacted: Exchange | None = None
        self.target: Target | None = None
        self.route: Route  # where the call goes
        self._keeps_bodies = exchange.dialect != "ask"  # whose answer is all that it was answered with
        self._texts: list[str] = []
        self._events: list[bytes] = []
        self._count = Count()

    def answered_by(self, target: Target) -> None:
        """Note who answers."""
        self.target = target
        exchange = self.exchange
        exchange.provider = target.provider.name
        exchange.model = target.model
        exchange.mock = target.provider.is_mock

    def take(self, chunk: Chunk) -> None:
        """Note what a chunk of an answer says."""
        if not chunk.index:
            if chunk.text:
                self._texts.append(chunk.text)
            if chunk.finish_reason is not None:
                self.exchange.finish_reason = chunk.finish_reason
        self._count.take(chunk)
        if self._keeps_bodies and chunk.data:
            self._events.append(chunk.data)

    def take_whole(self, completion: Completion) -> None:
        """Note what a whole answer says."""
        self._completion = completion
        if completion.text:
            self._texts.append(completion.text)
        self.exchange.finish_reason = completion.finish_reason
        self._count.take_whole(completion)
        if self._keeps_bodies:
            self.exchange.response = completion.body

    async def __aenter__(self) -> Self:
        self.admission = await self._limiter.admit(self.exchange, self.call)
        try:
            self._recorder.admit()
        except HistoryFull:
            await self._limiter.settle(self.admission, self.exchange)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        exchange = self.exchange
        cancelled = False
        try:
            if not isinstance(error, LimitExceeded):
                self._settle(error)
                if self._events:
                    cancelled = await self._fold_events()
                if error is None:
                    self._name()
                if self.redact is not None:
                    cancelled |= await self._take_out(self.redact)
        finally:  # whatever fails here: a place in the queue was reserved for this record, and maybe money
            released = self._leave(error)
            await self._limiter.settle(self.admission, exchange)
        if cancelled:
            raise asyncio.CancelledError
        if released is not None and exchange.status != "cancelled":  # nobody waits for a cancelled one
            await released.wait()

    async def _fold_events(self) -> bool:
        """Returns whether somebody cancelled us meanwhile."""
        if len(self._events) > _MANY:
            return await _unhurried(asyncio.get_running_loop().run_in_executor(_FOLDER, self._fold))
        self._fold()
        return False

    def _leave(self, error: BaseException | None) -> asyncio.Event | None:
        """Queue the record. There is none of a call that a limit refused."""
        if isinstance(error, LimitExceeded):
            self._recorder.withdraw()
            return None
        return self._recorder.add(self.exchange if self.redact is None else self._redacted or _figures(self.exchange))

    async def _take_out(self, redact: Redact) -> bool:
        """Make what is stored. Returns whether somebody cancelled us meanwhile."""
        if size_of(self.exchange) <= _LONG:
            self._redacted = redact(self.exchange)
            return False
        work = asyncio.get_running_loop().run_in_executor(_FOLDER, redact, self.exchange)
        cancelled = await _unhurried(work)
        self._redacted = work.result()
        return cancelled

    def _settle(self, error: BaseException | None) -> None:
        exchange = self.exchange
        exchange.duration_ms = round((time.perf_counter() - exchange.started) * 1000, 3)
        exchange.answer = "".join(self._texts)
        if error is not None:
            _fail(exchange, error)
        exchange.usage = self._count.usage(self.call, answered=bool(self.target or self._texts))
        exchange.cost, exchange.price = self._cost()
        self._metrics.call(exchange)

    def _fold(self) -> None:
        """A stream's events as the answer that they make up."""
        try:
            self.exchange.response = WIRES[self.call.dialect].fold(self._events)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # broken where no reader looked
            self.exchange.response = b"\n".join(self._events)

    def _name(self) -> None:
        """The names under which the answer can be had again."""
        exchange = self.exchange
        if exchange.keeps_response and exchange.response is not None:
            exchange.response_id = _identifier(exchange.response)
        if self._keep is not None and self._completion is not None:
            exchange.kept = self._keep(exchange, self._completion)

    def _cost(self) -> tuple[int | None, str | None]:
        """And what it was reckoned by. Nothing if nobody answered, or if another call had paid for the answer."""
        if self.target is None or self.exchange.cached or self.call.dialect == "count_tokens":
            return 0, None
        return reckoned(self.target.rates, self.exchange.usage)


def _figures(exchange: Exchange) -> Exchange:
    """Of a call whose texts could not be looked through."""
    return msgspec.structs.replace(exchange, keep_texts=False)


async def _unhurried(work: asyncio.Future[Any]) -> bool:
    """Wait until it is done, whoever cancels us meanwhile. Returns whether somebody did."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    work.result()
    return cancelled


class _Named(msgspec.Struct):
    id: str | None = None


_named = msgspec.json.Decoder(_Named)


def _identifier(response: bytes) -> str | None:
    """The name that a response has in its own words."""
    try:
        return _named.decode(response).id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _fail(exchange: Exchange, error: BaseException) -> None:
    """Who cancels a call names the reason in `exchange.error` first: the client's leaving or the server's shutdown."""
    if exchange.attempts and not exchange.provider:  # nobody answered: who was asked last
        last = exchange.attempts[-1]
        exchange.provider, exchange.model = last.provider, last.model
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        exchange.status = "cancelled"
        exchange.error = exchange.error or ShuttingDown.code
    else:
        exchange.status = "failed"
        exchange.error = error.code if isinstance(error, GatewayError) else GatewayError.code
