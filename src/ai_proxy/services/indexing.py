"""Puts what was recorded into the index of words, in the background."""

import asyncio
import time
from typing import Self

import structlog

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import search
from ai_proxy.storage.engine import Database

log = structlog.get_logger()

_MOST = 500  # exchanges in one transaction
# Of the time, what this may take while there is little else to do, and when there is more: 100 exchanges a second.
_SHARE, _LEAST_SHARE = 0.3, 0.015
_BUSY = 0.2  # of one core, for all else
_PAUSE = 0.25  # seconds in which more may come, when all are indexed
_LONGEST_PAUSE = 30.0


class Indexing:
    """Use as an async context manager. Whatever happens to the database, this goes on when it is back.

    `interval` is how many seconds may pass before what is new is looked for.
    """

    def __init__(self, database: Database, *, interval: float = 1.0) -> None:
        self._database = database
        self._interval = interval
        self._most = _MOST
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._load = _Load()
        self.failing = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="indexing")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        away = self._interval
        while True:
            try:
                pause = await self._move()
            except DatabaseUnavailable as error:
                self._note_failing(error)
                pause, away = away, min(2 * away, _LONGEST_PAUSE)
            except Exception:  # the background writer must outlive an exchange that cannot be indexed
                log.exception("search: texts could not be indexed", exchanges=self._most)
                pause = await self._narrow()
            else:
                self._note_failing(None)
                away = self._interval
            await asyncio.sleep(pause)

    async def _move(self) -> float:
        """Index some. Returns for how long to leave the database to others."""
        busy = self._load.of_others()
        began = time.perf_counter()
        moved = await search.index_next(self._database, most=self._most)
        took = time.perf_counter() - began
        self._load.begin()
        if not moved.count:
            return self._interval
        self._most = min(2 * self._most, _MOST)
        least = 0.0 if moved.more else min(_PAUSE, self._interval)
        return max(least, pause_after(took, busy))

    async def _narrow(self) -> float:
        """Find the one exchange that cannot be indexed, and go on without it."""
        if self._most > 1:
            self._most = 1
            return 0.0
        try:
            skipped = await search.skip_next(self._database)
        except DatabaseUnavailable:
            return self._interval
        log.error("search: an exchange cannot be found by its words", exchange_id=skipped)
        return 0.0

    def _note_failing(self, error: DatabaseUnavailable | None) -> None:
        if error is None:
            if self.failing:
                log.info("search: the database is back")
            self._failures, self.failing = 0, False
        elif not error.busy:
            self._failures += 1
            # The first may be that of a database that is just being set up.
            if self._failures > 1 and not self.failing:
                log.warning("search: the database is away, texts are indexed later", reason=error.reason)
                self.failing = True


def pause_after(took: float, busy: float) -> float:
    """Seconds, after a transaction of `took` seconds, in a process that is so `busy` with all else (1 is a core)."""
    share = _SHARE if busy < _BUSY else _LEAST_SHARE
    return min(took * (1 / share - 1), _LONGEST_PAUSE)  # it may have waited long for its turn


class _Load:
    """How busy this process is while we pause."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._used, self._at = time.process_time(), time.monotonic()

    def of_others(self) -> float:
        """The share of one core since then."""
        return (time.process_time() - self._used) / max(time.monotonic() - self._at, 1e-6)
