"""Removes much from the history: little at a time, and most of the time nothing, so that calls do not notice."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from ai_proxy.storage import removal, retention
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.retention import Aim

_LOOKED_AT = 1000  # exchanges in one query
_MOST = 200  # exchanges in one transaction,
_LOCKED = 0.01  # or as many as take so many seconds: meanwhile nobody else can write to SQLite;
_LEAST = 50  # but fewer are no quicker: it is the commit that takes its time then
_SHARE = 0.125  # of the time that this may take, at most: disks have to write what it changes, too
_OTHERS_TURN = 0.1  # seconds

Work = Callable[[Connection], Awaitable[int]]


class OthersRemove(Exception):
    """Another process is at it."""


class Removing:
    """Counts what it has `removed`, and `forgotten`: exchanges that lost their texts.

    `patient`: wait while another process removes something; else `OthersRemove` is raised.
    """

    def __init__(self, database: Database, *, patient: bool = False) -> None:
        self._database = database
        self._patient = patient
        self._most = _LEAST
        self.removed = 0
        self.forgotten = 0

    @property
    def most(self) -> int:
        """Exchanges that should go in the next transaction."""
        return self._most

    async def take(self, aim: Aim, *, after: str = "", tell: Callable[[int], None] | None = None) -> None:
        """Take all that is aimed at. `tell` is told how many were looked after, again and again.

        Raises `DatabaseUnavailable`; what has gone by then has gone.
        """
        async for ids in self.find(aim, after=after):
            start = 0
            while start < len(ids):
                part = ids[start : start + self._most]
                await self._take(aim, part)
                start += len(part)
                if tell is not None:
                    tell(len(part))
        if not aim.texts:
            while await self.briefly(lambda connection: retention.drop_empty(connection, aim, most=_MOST)) == _MOST:
                pass

    async def find(self, aim: Aim, *, after: str = "") -> AsyncIterator[Sequence[str]]:
        """What is aimed at, in parts, oldest first."""
        place: str | None = after
        while place is not None:
            began = time.perf_counter()
            async with self._database.transaction() as connection:
                ids, place = await retention.look(connection, aim, after=place, limit=_LOOKED_AT)
            await _leave_to_others(time.perf_counter() - began)
            yield ids

    async def briefly(self, work: Work) -> int:
        """Do it in a transaction when it is our turn, then leave the database to others for seven times as long."""
        while True:
            began = time.perf_counter()
            async with self._database.background() as connection:
                ours = await retention.is_my_turn(connection)
                done = await work(connection) if ours else 0
            if ours:
                break
            if not self._patient:
                raise OthersRemove
            await asyncio.sleep(_OTHERS_TURN)
        took = time.perf_counter() - began
        self._adapt(took)
        await _leave_to_others(took)
        return done

    async def _take(self, aim: Aim, ids: Sequence[str]) -> None:
        if aim.texts:
            self.forgotten += await self.briefly(lambda connection: removal.forget_texts(connection, ids))
        else:
            self.removed += await self.briefly(lambda connection: removal.remove(connection, ids))

    def _adapt(self, took: float) -> None:
        if took > _LOCKED:
            self._most = max(_LEAST, self._most // 2)
        elif took < _LOCKED / 2:
            self._most = min(_MOST, self._most + self._most // 4)


async def _leave_to_others(took: float) -> None:
    await asyncio.sleep(took * (1 / _SHARE - 1))
