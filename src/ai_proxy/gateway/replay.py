"""What was put aside while the database was away, on its way back: the oldest first, and until nothing is left."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import structlog

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.types import Exchange
from ai_proxy.gateway.writer import Spool, Writer

log = structlog.get_logger()

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_REST = 5.0  # seconds until the next look at a spool that was empty
_TENDED = 1.0  # seconds between two rounds
_BITE = 250  # rows in one transaction: those of calls wait for it


class Batch:
    """Rows that go into one transaction. `released` is set when their answers need not wait any longer.

    That is when they are in the database or in the spool. `give_up` is called once if they are not in the database
    after `wait` seconds; should neither take them, answers go out then, and should they not even say so, after twice
    that.
    """

    def __init__(self, wait: float, give_up: "Callable[[Batch], None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._overdue = self._loop.time() + wait
        self._wait = wait
        self._give_up = give_up
        self._timer = self._loop.call_at(self._overdue, self._end_of_wait)
        self.rows: list[Exchange] = []
        self.places = 0
        self.characters = 0
        self.is_overdue = False
        self.released = asyncio.Event()

    def _end_of_wait(self) -> None:
        self.is_overdue = True
        self._timer = self._loop.call_at(self._overdue + self._wait, self.released.set)
        self._give_up(self)

    def strand(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(self._overdue, self.released.set)

    def release(self) -> None:
        self._timer.cancel()
        self.released.set()


class Replay:
    """Run `run` in a task. `done` is called for a batch of `stranded`, which is in memory alone, when it is safe.

    `arriving` is to be set while a batch is put aside.
    """

    def __init__(self, writer: Writer, spool: Spool, done: Callable[[Batch], None], *, interval: float) -> None:
        self._writer = writer
        self._spool = spool
        self._done = done
        self._interval = interval
        self._taken: list[Exchange] = []
        self._work = asyncio.Event()
        self._tended = 0.0
        self.arriving = False
        self.stranded: deque[Batch] = deque()

    def wake(self) -> None:
        """There is work."""
        self._work.set()

    async def recover(self) -> None:
        """Write what processes have left that are no more. Raises `DatabaseUnavailable`. Only before it is open."""
        while True:
            self._taken = self._taken or await self._spool.take(_BITE, inherited=True)
            if not self._taken:
                return
            await self._writer.commit(self._taken)
            await self._spool.done()
            self._taken = []

    def strand(self, batch: Batch) -> None:
        """Neither the database nor the spool takes it."""
        batch.strand()
        self.stranded.append(batch)
        self.wake()

    async def run(self) -> None:
        """In the end the database is noticed to be back: while it is away, there is always something to try it with."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._tend()
                if await self._step():
                    pause = _FIRST_PAUSE
                else:
                    await self._rest()
            except DatabaseUnavailable as error:
                self._writer.note(error.reason)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                log.exception("history: what was put aside cannot be written")  # nobody else would do it
                await asyncio.sleep(_LONGEST_PAUSE)

    async def _step(self) -> bool:
        """Bring the oldest rows further. False if there are none, or nobody takes them yet."""
        if self.stranded:
            return await self._rescue(self.stranded[0])
        if not self._writer.is_open:
            return False
        self._taken = self._taken or await self._spool.take(_BITE)
        if not self._taken:
            if not self.arriving:  # else what it will be tried with is on its way
                self._writer.note(None)
            return False
        await self._commit(self._taken)
        await self._spool.done()
        self._taken = []
        await asyncio.sleep(self._interval)
        return True

    async def _rescue(self, batch: Batch) -> bool:
        if not await self._spool.append(tuple(batch.rows)):
            if not self._writer.is_open:
                return False
            await self._commit(batch.rows)
        self.stranded.popleft()
        self._done(batch)
        return True

    async def _commit(self, rows: list[Exchange]) -> None:
        await self._writer.commit(rows)
        self._writer.note(None)

    async def _rest(self) -> None:
        self._work.clear()
        seconds = _LONGEST_PAUSE if self.stranded or self._spool.is_full else _REST
        with suppress(TimeoutError):
            await asyncio.wait_for(self._work.wait(), seconds)

    async def _tend(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._tended >= _TENDED:
            self._tended = now
            await self._spool.tend()
