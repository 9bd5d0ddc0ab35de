"""Rows on their way into the database: one transaction at a time, and none that takes others with it when it fails."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from ai_proxy.core.exceptions import Unstorable
from ai_proxy.core.types import Exchange

log = structlog.get_logger()

# Writes the rows in one transaction; a row that is already there is not an error. Raises `DatabaseUnavailable` if
# another try makes sense.
Write = Callable[[Sequence[Exchange]], Awaitable[None]]


_ROWS_FAULTS = (Unstorable, ValueError, OverflowError)  # refused there, or before: nothing else is a row's own fault


class Spool(Protocol):
    """Where rows wait on the disk. It keeps to itself what goes wrong there."""

    records: int

    @property
    def is_full(self) -> bool:
        """Whether no call should begin whose row would come here."""

    @property
    def disk_is_full(self) -> bool:
        """Whether no call should begin at all, because there is no room for its row in the database either."""

    async def append(self, exchanges: Sequence[Exchange], /) -> bool:
        """Whether they are on the disk now, where neither a crash nor a power cut takes them away."""

    async def take(self, most: int, /, *, inherited: bool = False) -> list[Exchange]:
        """The oldest ones, or the oldest that other processes have left. They stay until `done` is called."""

    async def done(self) -> None:
        """What was taken last is in the database."""

    async def reject(self, exchange: Exchange, /) -> bool:
        """Keep one that no database takes, for people to look at. Whether it is on the disk."""

    async def tend(self) -> None:
        """Look after the files. To be called now and then."""


class Writer:
    """The one that writes, and knows whether the database takes rows: it is `away` if not, or while it is not open yet.

    `lost` counts the rows that it never takes.
    """

    def __init__(self, write: Write, spool: Spool) -> None:
        self._write = write
        self._spool = spool
        self._turn = asyncio.Lock()
        self.is_open = False
        self.failing = False
        self.away = True
        self.lost = 0

    def open(self) -> None:
        self.is_open = True
        self.away = self.failing

    def note(self, reason: str | None) -> None:
        """That it fails, and why; or that it does not."""
        failing = reason is not None
        if failing and not self.failing:
            log.warning("history: the database is away, records go to the spool", reason=reason)
        elif self.failing and not failing:
            log.info("history: the database is back", spooled=self._spool.records)
        self.failing = failing
        self.away = failing or not self.is_open

    async def commit(self, rows: list[Exchange]) -> None:
        """Write rows. One that can never be stored is taken out of `rows`.

        Raises `DatabaseUnavailable`; some of the rows may be stored nevertheless, and another try does them no harm.
        """
        async with self._turn:
            parts = [rows.copy()]
            while parts:
                part = parts.pop()
                try:
                    await self._write(part)
                except _ROWS_FAULTS as error:
                    if len(part) == 1:
                        await self._reject(part[0], error)
                        rows.remove(part[0])
                    else:  # find it, so that it takes no other with it
                        middle = len(part) // 2
                        parts += [part[middle:], part[:middle]]

    async def _reject(self, row: Exchange, error: Exception) -> None:
        self.lost += 1
        kept = await self._spool.reject(row)
        log.error("history: a record could not be stored", exchange_id=row.id, rejected=kept, exc_info=error)
