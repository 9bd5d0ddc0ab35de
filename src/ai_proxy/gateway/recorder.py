"""The history's writer: a group commit. Everything that waits goes into one transaction, and answers wait for theirs.

Loss is impossible while the process lives: a call is admitted only if there is room to hold its record, so that no
finished call can find the queue full. When the database is away, answers wait for a bounded time and then go out, and
their records stay queued.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import structlog

from ai_proxy.core.exceptions import DatabaseUnavailable, HistoryFull
from ai_proxy.core.groups import RecorderSettings
from ai_proxy.core.types import Exchange

log = structlog.get_logger()

# Writes the rows in one transaction; a row that is already there is not an error. Raises `DatabaseUnavailable` if
# another try makes sense.
Write = Callable[[Sequence[Exchange]], Awaitable[None]]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_CANCEL_TIME = 1.0  # seconds that the last write gets to break off


class _Batch:
    """Rows that go into one transaction. `released` is set when their answers need not wait any longer.

    That is when it is committed, when its rows turn out to be such as can never be stored, or after `wait` seconds.
    """

    def __init__(self, wait: float) -> None:
        self.rows: list[Exchange] = []
        self.released = asyncio.Event()
        self.timer = asyncio.get_running_loop().call_later(wait, self.released.set)


class Recorder:
    """Use as an async context manager: at its end, what is queued is written, for at most `closing_time` seconds."""

    def __init__(self, write: Write, settings: RecorderSettings, *, closing_time: float = 5.0) -> None:
        self._write = write
        self._settings = settings
        self._closing_time = closing_time
        self._batches: deque[_Batch] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.held = 0  # calls admitted and not yet in the history
        self.held_characters = 0  # text of those that have ended
        self.lost = 0
        self.failing = False

    def admit(self) -> None:
        """Reserve the place for one record. Raises `HistoryFull`. Must be followed by one `add` or `withdraw`."""
        if self.held >= self._settings.capacity or self.held_characters >= self._settings.max_characters:
            message = "The history cannot be written at the moment, so no more calls are taken: try again later."
            raise HistoryFull(message)
        self.held += 1
        self._idle.clear()

    def withdraw(self) -> None:
        """Give the place for a record back: there is nothing to record."""
        self._free(1)

    def add(self, exchange: Exchange) -> asyncio.Event:
        """Queue a record. The event is set when its answer need not wait any longer.

        Then it is in the history, or has not got there in time and stays queued, or can never be stored (see `lost`).
        """
        batch = self._batches[-1] if self._batches else None
        if batch is None or batch.released.is_set() or len(batch.rows) >= self._settings.batch:
            batch = _Batch(self._settings.wait)
            self._batches.append(batch)
        batch.rows.append(exchange)
        self.held_characters += _size(exchange)
        self._arrived.set()
        return batch.released

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="recorder")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait for the calls that are still ending and for their records; count those that could not be written."""
        try:
            async with asyncio.timeout(self._closing_time):
                await self._idle.wait()
        except TimeoutError:
            self.lost += self.held
            log.error("history: records lost at shutdown", records=self.held)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CANCEL_TIME)
            if not self._task.done():
                log.error("history: the last write does not break off, and is left alone", seconds=_CANCEL_TIME)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._batches:
                began = clock()
                batch = self._batches.popleft()  # what comes from now on waits for the next transaction
                await self._store(batch.rows)
                self._done(batch)
                await asyncio.sleep(max(0.0, began + self._settings.interval - clock()))

    async def _store(self, rows: Sequence[Exchange]) -> None:
        """Write rows in one transaction, however long the database is away."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._write(rows)
            except DatabaseUnavailable as error:
                self._note_failing(error.reason)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:  # noqa: BLE001 - the background writer must outlive a row that can never be stored
                await self._store_singly(rows)
                return
            else:
                self._note_failing(None)
                return

    async def _store_singly(self, rows: Sequence[Exchange]) -> None:
        """One row of these can't be stored, whatever we do: find it, so that it takes no other with it."""
        if len(rows) == 1:
            self.lost += 1
            log.exception("history: a record could not be stored", exchange_id=rows[0].id)
            return
        for row in rows:
            await self._store([row])

    def _note_failing(self, reason: str | None) -> None:
        failing = reason is not None
        if failing and not self.failing:
            log.warning("history: the database is away, records are queued", records=self.held, reason=reason)
        elif self.failing and not failing:
            log.info("history: the database is back", records=self.held)
        self.failing = failing

    def _done(self, batch: _Batch) -> None:
        batch.timer.cancel()
        batch.released.set()
        self.held_characters -= sum(map(_size, batch.rows))
        self._free(len(batch.rows))

    def _free(self, places: int) -> None:
        self.held -= places
        if not self.held:
            self._idle.set()


def _size(exchange: Exchange) -> int:
    bodies = len(exchange.request or b"") + len(exchange.response or b"")
    return len(exchange.question) + len(exchange.answer) + bodies
