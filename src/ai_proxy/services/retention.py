"""How long the history is kept: what is over is removed in the background, once an hour."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import structlog

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.groups import RetentionSettings
from ai_proxy.core.ids import first_of
from ai_proxy.core.types import Actor
from ai_proxy.services.audit import note
from ai_proxy.services.days import DAY
from ai_proxy.services.removing import OthersRemove, Removing
from ai_proxy.services.times import now
from ai_proxy.storage import retention
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.retention import Aim

log = structlog.get_logger()

_FIRST, _INTERVAL = 60.0, 3600.0  # seconds
_SPREAD = 0.1  # of the interval: processes that were started together do not stay together
_AWAY = 60.0  # seconds until a database that is away is tried again
_WHOLE = 24  # rounds after which texts are looked for from the beginning again: old ones may have been imported
_EXPIRED = 200  # answers that are kept no more, in one transaction


class Retention:
    """Use as an async context manager. Whatever happens to the database, this goes on when it is back.

    `first` and `interval` are in seconds. `removed` and `forgotten` count exchanges, and those that lost their texts.
    """

    def __init__(
        self, database: Database, settings: RetentionSettings, *, first: float = _FIRST, interval: float = _INTERVAL
    ) -> None:
        self._database = database
        self._settings = settings
        self._first = first
        self._interval = interval
        self._removing = Removing(database)
        self._rounds = 0
        self._without_texts = ""  # all exchanges before this one
        self._task: asyncio.Task[None] | None = None

    @property
    def removed(self) -> int:
        return self._removing.removed

    @property
    def forgotten(self) -> int:
        return self._removing.forgotten

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="retention")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause = self._first
        while True:
            await asyncio.sleep(pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311 - no secret
            pause = self._interval
            try:
                await self.once()
            except OthersRemove:
                log.debug("retention: another process is at it")
            except DatabaseUnavailable as error:
                pause = min(_AWAY, self._interval)
                log.warning("retention: the database is away", reason=error.reason)
            except Exception:  # the background writer must outlive what cannot be removed
                log.exception("retention: the history could not be cleared")

    async def once(self) -> None:
        """Remove all that is over. Raises `DatabaseUnavailable`, or `OthersRemove` if another process does it."""
        before = self.removed, self.forgotten
        try:
            while await self._removing.briefly(_drop_expired) == _EXPIRED:
                pass
            for aim in await aims(self._database, self._settings):
                await self._take(aim)
        finally:
            removed, forgotten = self.removed - before[0], self.forgotten - before[1]
            if removed or forgotten:
                log.info("retention: the history was cleared", exchanges=removed, texts=forgotten)

    async def _take(self, aim: Aim) -> None:
        """To see whether a row has texts it must be read, so that it is not looked at each time."""
        if not aim.texts:
            await self._removing.take(aim)
            return
        after = self._without_texts if self._rounds % _WHOLE else ""
        await self._removing.take(aim, after=after)
        self._without_texts = aim.before
        self._rounds += 1


async def aims(database: Database, settings: RetentionSettings) -> list[Aim]:
    """What is over by now: by what a project says of its own history, else by the settings."""
    async with database.transaction() as connection:
        own = await retention.own_days(connection)
    return list(_aims(own, settings))


def _aims(own: dict[str, int], settings: RetentionSettings) -> Iterable[Aim]:
    for project, days in own.items():
        yield Aim(first_kept(days), project=project)
    if settings.days is not None:
        yield Aim(first_kept(settings.days), but=tuple(own))
    if settings.text_days is not None:
        yield Aim(first_kept(settings.text_days), texts=True)


async def prune(
    database: Database, actor: Actor, wanted: Sequence[Aim], *, tell: Callable[[int], None] | None = None
) -> Removing:
    """Remove what somebody aims at. `tell` is told how many were looked after, again and again.

    What was asked for is noted before, so that it is known also if this is broken off. Raises `DatabaseUnavailable`.
    """
    removing = Removing(database, patient=True)
    for aim in wanted:
        target = "history" if aim.project is None else f"project:{aim.project}"
        async with database.transaction() as connection:
            await note(connection, actor, "history.prune", target, before=aim.before, texts=aim.texts)
        await removing.take(aim, tell=tell)
    return removing


def first_kept(days: int) -> str:
    """The lowest identifier of what is younger than so many days."""
    return first_of(now() - days * DAY)


async def _drop_expired(connection: Connection) -> int:
    return await retention.drop_expired(connection, now=now(), most=_EXPIRED)
