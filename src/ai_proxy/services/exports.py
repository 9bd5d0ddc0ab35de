"""The history, to be carried away: all exchanges that somebody may see, or some of them, oldest first."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Literal

import msgspec

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.ids import first_of
from ai_proxy.core.spreadsheet import as_csv, rows_of
from ai_proxy.services import chats, lines, searching, sheets
from ai_proxy.services.audit import note
from ai_proxy.services.history import restricted
from ai_proxy.services.times import now
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import filters, transfer
from ai_proxy.storage.engine import Connection, Database
from ai_proxy.storage.filters import Wanted
from ai_proxy.storage.transfer import Whole

Format = Literal["jsonl", "chat", "csv"]

_ROWS = 200  # that are in memory at a time
_AHEAD = 1000  # microseconds: what began in this millisecond comes along


class Export:
    """Use as `begin`, then `blocks`. `rows` is how many exchanges were read, `left_out` how many the format has not."""

    def __init__(self, database: Database, viewer: Viewer, wanted: Wanted, *, form: Format, words: str | None) -> None:
        self.rows = 0
        self.left_out = 0
        self._database = database
        self._viewer = viewer
        self._wanted = wanted
        self._form = form
        self._words = words
        self._seen: Wanted | None = None
        self._ids: Sequence[str] | None = None

    async def begin(self) -> None:
        """Note it in the audit log, and find what there is of certain words. Raises `BadRequest`.

        What comes later than now is not in it.
        """
        said = {name: value for name, value in msgspec.structs.asdict(self._wanted).items() if value is not None}
        async with self._database.transaction() as connection:
            self._seen = await restricted(connection, self._viewer, _until_now(self._wanted))
            self._ids = await self._matching(connection)
        by_words = self._words is not None  # which may be private, and are not told
        async with self._database.transaction() as connection:
            what = {"format": self._form, "filters": said, "by_words": by_words}
            await note(connection, self._viewer.actor, "history.export", "history", **what)

    async def all_blocks(self) -> AsyncGenerator[bytes, None]:
        """Both in one."""
        await self.begin()
        async for block in self.blocks():
            yield block

    async def blocks(self) -> AsyncIterator[bytes]:
        """What is to be written, in blocks. No transaction lasts longer than the next block takes to be read."""
        write = _WRITE[self._form]
        if self._form == "csv":
            yield as_csv(sheets.COLUMNS, ()).encode()
        async for batch in self._batches():
            block, count = await asyncio.to_thread(write, batch)
            self.rows += len(batch)
            self.left_out += len(batch) - count
            if block:
                yield block

    async def _matching(self, connection: Connection) -> Sequence[str] | None:
        if self._words is None or self._seen is None:
            return None
        return sorted(await searching.matching(connection, self._words, self._seen))

    async def _batches(self) -> AsyncIterator[list[Whole]]:
        if self._seen is None:
            return
        after: str | None = None
        while True:
            async with self._database.transaction() as connection:
                found, following = await self._next(connection, self._seen, after)
                batch = (
                    await transfer.read(self._database, connection, found, bodies=self._form != "csv") if found else []
                )
            if batch:
                last = batch[-1].entry.exchange.id
                following = last if last < found[-1] else following
                yield batch
            if following is None:
                return
            after = following

    async def _next(self, connection: Connection, seen: Wanted, after: str | None) -> tuple[list[str], str | None]:
        if self._ids is None:
            return await filters.oldest(connection, seen, after=after, limit=_ROWS)
        left = [identifier for identifier in self._ids if after is None or identifier > after]
        return left[:_ROWS], left[_ROWS - 1] if len(left) > _ROWS else None


def _until_now(wanted: Wanted) -> Wanted:
    bounds = (wanted.until, first_of(now() + _AHEAD))
    return msgspec.structs.replace(wanted, until=min(filter(None, bounds)))


def _joined(encode: Callable[[Whole], bytes | None]) -> Callable[[Sequence[Whole]], tuple[bytes, int]]:
    def write(batch: Sequence[Whole]) -> tuple[bytes, int]:
        written = [line for whole in batch if (line := encode(whole)) is not None]
        return b"".join(written), len(written)

    return write


def _as_rows(batch: Sequence[Whole]) -> tuple[bytes, int]:
    return rows_of(sheets.COLUMNS, sheets.rows(batch)).encode(), len(batch)


_WRITE: dict[Format, Callable[[Sequence[Whole]], tuple[bytes, int]]] = {
    "jsonl": _joined(lines.encode),
    "chat": _joined(chats.encode),
    "csv": _as_rows,
}


async def read(database: Database, ids: Sequence[str], *, bodies: bool = False) -> list[Whole]:
    """These exchanges, in their order, as far as they fit into memory."""
    async with database.transaction() as connection:
        return await transfer.read(database, connection, ids, bodies=bodies)


def form_of(text: str) -> Format:
    """Raises `BadRequest`."""
    for form in _WRITE:
        if form == text:
            return form
    message = f"format: must be one of {', '.join(_WRITE)}."
    raise BadRequest(message, param="format")
