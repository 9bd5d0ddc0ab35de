"""The start: what has to be done with the database before it serves, again and again while it is away."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog

from ai_proxy.core import apikeys
from ai_proxy.core.config import Settings
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.logging import say
from ai_proxy.core.types import PROVISIONAL_KEY_ID, Exchange, Principal, Spending
from ai_proxy.services import setup
from ai_proxy.services.times import now
from ai_proxy.storage import keys, records, usage
from ai_proxy.storage.engine import Database

log = structlog.get_logger()

_PATIENCE = 2.0  # seconds until it is started without the database, and those that old rows get to be written first
_PAUSE, _SHORT_PAUSE = 1.0, 0.1


class Steps(NamedTuple):
    """What others do when the database is there. The first two raise `DatabaseUnavailable`.

    `recover` writes the rows that processes have left which are no more. `load` takes what was spent before, as of
    when, and the id of the operator's own key, if there is one. `open` lets rows of this process be written.
    """

    recover: Callable[[], Awaitable[None]]
    recall: Callable[[], Awaitable[None]]
    load: Callable[[Mapping[str, Spending], int, str | None], None]
    open: Callable[[], None]


class Startup:
    """`is_complete` when all is done. Of a database that will not work by itself it exits with a clear line."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.secret = setup.find_secret(settings)
        self.is_complete = False
        self._settings = settings
        self._database = database
        self._is_prepared = False
        self._own_key: str | None = None  # the id of the operator's own, when it is known
        self._reason: str | None = None

    @asynccontextmanager
    async def running(self, steps: Steps) -> AsyncIterator[None]:
        """Returns when calls can be taken: if the database is away, after two seconds and one try."""
        await self._try_to_prepare()
        task = asyncio.create_task(self._run(steps), name="startup")
        try:
            if self._is_prepared:
                await asyncio.wait([task], timeout=_PATIENCE)
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def check(self) -> None:
        """Before anything is looked for in the database: some of it may not be there yet. Raises `DatabaseUnavailable`.

        And a key that is not known yet would find nothing of its own.
        """
        if not self.is_complete:
            message = "The database was not reached yet: try again in a few seconds."
            raise DatabaseUnavailable(message)

    async def find(self, digest: str) -> Principal | None:
        """Whose key this is. Raises `DatabaseUnavailable`, and at once while nobody has reached the database."""
        if not self._is_prepared:
            message = "The database was not reached yet, so nobody knows this key: try again in a few seconds."
            raise DatabaseUnavailable(message)
        return await keys.find(self._database, digest)

    async def write(self, exchanges: Sequence[Exchange]) -> None:
        """Write rows, those of a key that was not known yet with the one that it is. Raises `DatabaseUnavailable`."""
        for exchange in exchanges:
            if exchange.key_id == PROVISIONAL_KEY_ID:
                exchange.key_id = self._own_key or await self._stand_in()
        await records.add(self._database, exchanges)

    async def _stand_in(self) -> str:
        """For a key of the environment that is in it no more, and that the database has never known."""
        # Nobody has a key with such a digest.
        given = {"name": "an earlier AI_PROXY_API_KEY", "digest": secrets.token_hex(32), "hint": apikeys.hint("")}
        await keys.add(self._database, key_id=PROVISIONAL_KEY_ID, created_at=now(), **given)
        return PROVISIONAL_KEY_ID

    async def _try_to_prepare(self) -> None:
        give_up = time.monotonic() + _PATIENCE
        while not self._is_prepared:
            try:
                await self._prepare()
            except DatabaseUnavailable as error:
                if not error.passing:
                    message = f"ai-proxy: DATABASE_URL: the database cannot be used: {error.reason}"
                    raise SystemExit(message) from None
                if time.monotonic() > give_up:
                    say(setup.greeting_without_database(self._settings, error.reason))
                    self._note(error.reason)
                    return
                await asyncio.sleep(_SHORT_PAUSE)

    async def _prepare(self) -> None:
        await setup.prepare(self._settings, self._database, self.secret)
        self._is_prepared = True

    async def _run(self, steps: Steps) -> None:
        while not self.is_complete:
            try:
                if not self._is_prepared:
                    await self._prepare()
                await self._complete(steps)
            except DatabaseUnavailable as error:
                self._note(error.reason)
                await asyncio.sleep(_PAUSE)
            except SystemExit as error:  # it serves already, and whoever can help may do so without stopping it
                self._note(str(error))
                await asyncio.sleep(_PAUSE)
            except Exception:
                log.exception("database: the start cannot be completed")  # nobody else would try again
                await asyncio.sleep(_PAUSE)

    async def _complete(self, steps: Steps) -> None:
        """Each call counts once in what was spent, whenever it ends.

        Those of earlier processes are in the database before it is asked, and those of this one are not before `open`:
        they are in memory, to which the database's sums are added. Nothing is awaited between these two, and what
        fails earlier leaves the memory as it is. Rows that another process leaves meanwhile count with the next start.
        """
        if self._settings.given_key is not None:
            digest = apikeys.digest(self._settings.given_key, self.secret.value)
            self._own_key = await keys.id_of(self._database, digest)
        await steps.recover()
        at = now()
        spent = await usage.spending(self._database, at)
        await steps.recall()
        steps.load(spent, at, self._own_key)
        steps.open()
        self.is_complete = True
        if self._reason is not None:
            log.info("database: back")

    def _note(self, reason: str) -> None:
        """Once for each reason."""
        if reason != self._reason:
            self._reason = reason
            log.warning("database: away at the start, it is tried again every second", reason=reason)
