"""The history's writer: a group commit. Everything that waits goes into one transaction, and answers wait for theirs.

When the database does not take rows, they go to the spool before their answers go out, and into the database when it
is back: exactly once, by their ids. A call is admitted only if there is room to hold its record, so that no finished
call can find none.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, Self, TypeVar

import structlog

from ai_proxy.core.exceptions import DatabaseUnavailable, HistoryFull
from ai_proxy.core.groups import RecorderSettings
from ai_proxy.core.types import Exchange
from ai_proxy.gateway.replay import Batch, Replay
from ai_proxy.gateway.writer import Spool, Write, Writer

T = TypeVar("T")

log = structlog.get_logger()

_CANCEL_TIME = 1.0  # seconds that the last write gets to break off


class Recorder:
    """Use as an async context manager: at its end, what is queued is written, for at most `closing_time` seconds.

    The database is not written to before `open` is called. `held` are the calls that were admitted and are on no disk
    yet, `held_characters` the texts of those that have ended.
    """

    def __init__(self, write: Write, spool: Spool, settings: RecorderSettings, *, closing_time: float = 5.0) -> None:
        self._spool = spool
        self._settings = settings
        self._closing_time = closing_time
        self._writer = Writer(write, spool)
        self._replay = Replay(self._writer, spool, self._done, interval=settings.interval)
        self._batches: deque[Batch] = deque()
        self._current: Batch | None = None
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_writing = False
        self._task: asyncio.Task[None] | None = None
        self._hanging: asyncio.Task[None] | None = None  # its write took too long
        self._replaying: asyncio.Task[None] | None = None
        self._unwritten = 0
        self.held = 0
        self.held_characters = 0

    @property
    def failing(self) -> bool:
        """Whether the database takes no rows."""
        return self._writer.failing

    @property
    def spooled(self) -> int:
        """Rows that wait in the spool."""
        return self._spool.records

    @property
    def lost(self) -> int:
        """Rows that will not get into the history by themselves."""
        return self._writer.lost + self._unwritten

    @property
    def state(self) -> Literal["ok", "spooling", "failing"]:
        """Where rows go: into the database, to the spool, or nowhere."""
        if self._takes_none:
            return "failing"
        return "spooling" if self._writer.away else "ok"

    @property
    def _takes_none(self) -> bool:
        """Whether a new row would be on no disk."""
        no_room = self._spool.disk_is_full or (self._writer.away and self._spool.is_full)
        hangs = self._current is not None and self._current.released.is_set()
        return no_room or hangs or bool(self._replay.stranded)

    def check(self) -> None:
        """Before somebody is told that something is not in the history. Raises `DatabaseUnavailable`.

        It may be on its way there: an answer that is given again, or earlier words of a conversation.
        """
        if self.spooled or self._writer.away or self._replay.stranded:
            message = "Some of what was answered is not in the database yet: try again in a few seconds."
            raise DatabaseUnavailable(message)

    async def certain(self, look: Callable[[], Awaitable[T]]) -> T:
        """What `look` finds in the history. Nothing (None, False) is only said if nothing is on its way there either.

        Raises `DatabaseUnavailable`.
        """
        if found := await look():
            return found
        self.check()
        return await look()  # it may have arrived since

    async def recover(self) -> None:
        """Before it is open: write what processes have left that are no more. Raises `DatabaseUnavailable`."""
        await self._replay.recover()

    def open(self) -> None:
        """From now on the database may be written to."""
        self._writer.open()
        self._replay.wake()

    def admit(self) -> None:
        """Reserve the place for one record. Raises `HistoryFull`. Must be followed by one `add` or `withdraw`."""
        settings = self._settings
        if self.held >= settings.capacity or self.held_characters >= settings.max_characters or self._takes_none:
            message = "The history cannot be written at the moment, so no more calls are taken: try again later."
            raise HistoryFull(message)
        self.held += 1
        self._idle.clear()

    def withdraw(self) -> None:
        """Give the place for a record back: there is nothing to record."""
        self._free(1)

    def add(self, exchange: Exchange) -> asyncio.Event:
        """Queue a record. The event is set when its answer need not wait any longer, because it is on a disk.

        Or because no disk takes it in time; then it stays queued.
        """
        batch = self._batches[-1] if self._batches else None
        if batch is None or batch.is_overdue or len(batch.rows) >= self._settings.batch:
            batch = Batch(self._settings.wait, self._give_up)
            self._batches.append(batch)
        batch.rows.append(exchange)
        size = _size(exchange)
        batch.characters += size
        self.held_characters += size
        self._arrived.set()
        return batch.released

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="recorder")
        self._replaying = asyncio.create_task(self._replay.run(), name="replay")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait for the calls that are still ending and for their records; count those that are on no disk then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._closing_time):
                await self._idle.wait()
        if not await _cancelled(self._task, self._replaying, self._hanging):
            log.error("history: the last write does not break off, and is left alone", seconds=_CANCEL_TIME)
        if self.held:
            await self._spool_the_rest()
        if self.held:
            self._unwritten = self.held
            log.error("history: records lost at shutdown", records=self.held)

    async def _spool_the_rest(self) -> None:
        """What the database did not take in time."""
        current = [] if self._current is None else [self._current]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._closing_time):
                for batch in (*self._replay.stranded, *current, *self._batches):
                    batch.places = batch.places or len(batch.rows)
                    if await self._spool.append(tuple(batch.rows)):
                        self._done(batch)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._batches:
                began = clock()
                batch = self._current = self._batches.popleft()  # what comes from now on waits for the next transaction
                batch.places = batch.places or len(batch.rows)
                if self._writer.away or batch.is_overdue:
                    await self._put_aside(batch)
                elif await self._is_committed(batch):
                    self._done(batch)
                elif batch.is_overdue:
                    return  # another task has gone on
                else:
                    await self._put_aside(batch)
                self._current = None
                await asyncio.sleep(max(0.0, began + self._settings.interval - clock()))

    async def _is_committed(self, batch: Batch) -> bool:
        """In time."""
        self._is_writing = True
        try:
            await self._writer.commit(batch.rows)
        except DatabaseUnavailable as error:
            self._writer.note(error.reason)
            return False
        except Exception as error:  # whatever it is: the rows must not go with it
            log.exception("history: a transaction failed")
            self._writer.note(type(error).__name__)
            return False
        finally:
            if not batch.is_overdue:
                self._is_writing = False
        return not batch.is_overdue

    def _give_up(self, batch: Batch) -> None:
        """Its write takes too long. It may go on, and all others wait for it; another task does what is left to do."""
        if batch is self._current and self._is_writing:
            self._writer.note("a transaction takes longer than answers may wait")
            self._is_writing = False
            self._replay.arriving = True
            self._batches.appendleft(batch)
            self._arrived.set()
            self._hanging = self._task
            self._task = asyncio.create_task(self._run(), name="recorder")

    async def _put_aside(self, batch: Batch) -> None:
        self._replay.arriving = True
        try:
            is_spooled = await self._spool.append(tuple(batch.rows))
        except Exception:
            log.exception("history: the spool failed")
            is_spooled = False
        finally:
            self._replay.arriving = False
        if is_spooled:
            self._done(batch)
            self._replay.wake()
        else:
            self._replay.strand(batch)

    def _done(self, batch: Batch) -> None:
        batch.release()
        self.held_characters -= batch.characters
        self._free(batch.places)

    def _free(self, places: int) -> None:
        self.held -= places
        if not self.held:
            self._idle.set()


async def _cancelled(*tasks: asyncio.Task[None] | None) -> bool:
    """Whether they have ended, soon after they were asked to."""
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    return not running or not (await asyncio.wait(running, timeout=_CANCEL_TIME))[1]


def _size(exchange: Exchange) -> int:
    bodies = len(exchange.request or b"") + len(exchange.response or b"")
    return len(exchange.question) + len(exchange.answer) + bodies
