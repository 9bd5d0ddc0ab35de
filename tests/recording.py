"""Fakes in place of the database and the spool, and calls that are recorded there."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.groups import RecorderSettings
from ai_proxy.core.types import Exchange
from ai_proxy.gateway.recorder import Recorder


class Disk:
    """Takes rows as the database would: not yet (`open` is not set), not now (`failures`), or never (`poison`)."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.times: list[float] = []
        self.attempts = 0
        self.failures = 0
        self.poison: set[str] = set()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, rows) -> None:
        self.attempts += 1
        self.times.append(time.monotonic())
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            message = "locked"
            raise DatabaseUnavailable(message)
        if self.poison & {row.id for row in rows}:
            message = "this one can never be stored"
            raise OverflowError(message)
        new = [row.id for row in rows if row.id not in self.rows]  # one that is there stays as it is
        if new:
            self.transactions.append(new)

    @property
    def rows(self) -> list[str]:
        return [row for transaction in self.transactions for row in transaction]


class Shelf:
    """Takes rows as the spool would, if there is `room`, but not yet while `open` is not set."""

    def __init__(self) -> None:
        self.rows: list[Exchange] = []
        self.rejected: list[str] = []
        self.taken = 0
        self.inherited = 0  # the first rows, which another process has left
        self.room = True
        self.is_full = False
        self.disk_is_full = False
        self.open = asyncio.Event()
        self.open.set()
        self.rounds = 0

    @property
    def records(self) -> int:
        return len(self.rows)

    @property
    def identifiers(self) -> list[str]:
        return [row.id for row in self.rows]

    async def append(self, exchanges) -> bool:
        await self.open.wait()
        if self.room:
            self.rows += exchanges
        return self.room

    async def take(self, most: int, *, inherited: bool = False) -> list[Exchange]:
        self.taken = min(most, self.inherited if inherited else len(self.rows))
        return self.rows[: self.taken]

    async def done(self) -> None:
        del self.rows[: self.taken]
        self.inherited = max(0, self.inherited - self.taken)

    async def reject(self, row: Exchange) -> bool:
        self.rejected.append(row.id)
        return True

    async def tend(self) -> None:
        self.rounds += 1


@asynccontextmanager
async def running(write, shelf: Shelf | None = None, *, closing_time: float = 5.0, **given) -> AsyncIterator[Recorder]:
    """A recorder that may write to the database. `given` are its settings, and nothing waits between transactions."""
    settings = RecorderSettings(**{"interval": 0, **given})
    async with Recorder(write, shelf or Shelf(), settings, closing_time=closing_time) as recorder:
        recorder.open()
        yield recorder


def exchange(identifier: object, *, question: str = "", answer: str = "") -> Exchange:
    return Exchange(
        id=str(identifier),
        key_id="key",
        question=question,
        answer=answer,
        model="model",
        conversation_id=None,
        created_at=0,
        started=0.0,
    )


def put(recorder: Recorder, *identifiers: object) -> list[asyncio.Event]:
    """Calls that begin and end."""
    written = []
    for identifier in identifiers:
        recorder.admit()
        written.append(recorder.add(exchange(identifier)))
    return written


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
