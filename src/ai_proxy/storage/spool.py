"""Where rows wait on the disk, beside the data, while the database does not take them.

All work with files is done by one thread of its own: a disk may take its time, or for ever.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import structlog

from ai_proxy.core.types import Exchange
from ai_proxy.storage import spooled
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.reserve import Reserve, is_full
from ai_proxy.storage.segments import Segment, append_line

T = TypeVar("T")

log = structlog.get_logger()

_SEGMENT = 8 * 2**20  # bytes after which a new file is begun
_BITE = 4 * 2**20  # bytes that are read at one time
_CLOSING_TIME = 1.0  # seconds
_REJECTED = "rejected.jsonl"


class Spool:
    """Use as an async context manager. Several processes may share `directory`; each has files of its own.

    Those of a process that has died are taken over, if they are of the same `database`, which may be on the same disk
    (`beside`). `records` wait in it, which are `bytes`.
    """

    def __init__(
        self, directory: Path, *, database: str, beside: bool, max_bytes: int, cipher: Cipher | None = None
    ) -> None:
        self._directory = directory
        self._database = database
        self._beside = beside
        self._max_bytes = max_bytes
        self._cipher = cipher
        self._thread = ThreadPoolExecutor(1, "spool")
        self._reserve = Reserve(directory)
        self._segments: list[Segment] = []  # oldest first; all but `_current` grow no more
        self._current: Segment | None = None
        self._taken: tuple[Segment, int] | None = None
        self._strangers: set[Path] = set()
        self._aside = 0  # bytes of files that are kept for people
        self._usable = True
        self._complaint: str | None = None
        self.records = 0
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no call should begin whose row would come here. There is more room for those that run already."""
        return self._usable and (self._reserve.lacks_room or self.bytes + self._aside >= self._max_bytes)

    @property
    def disk_is_full(self) -> bool:
        """Whether no call should begin at all: what room there is, is for those that run already."""
        return self._beside and self._usable and self._reserve.lacks_room

    async def __aenter__(self) -> Self:
        await self._do(self._begin)
        return self

    async def __aexit__(self, *_: object) -> None:
        """What is not in the database yet stays for the next start."""
        closing = asyncio.ensure_future(self._do(self._close))
        await asyncio.wait([closing], timeout=_CLOSING_TIME)
        self._thread.shutdown(wait=False, cancel_futures=True)
        if not closing.done():
            closing.cancel()
            log.error("spool: the disk does not answer", seconds=_CLOSING_TIME)

    async def append(self, exchanges: Sequence[Exchange]) -> bool:
        """Whether they are on the disk now, where neither a crash nor a power cut takes them away."""
        return await self._do(lambda: self._append(exchanges))

    async def take(self, most: int, *, inherited: bool = False) -> list[Exchange]:
        """The oldest ones, at most so many. They stay until `done` is called, which must be before the next `take`.

        If `inherited`, those alone that other processes have left.
        """
        return await self._do(lambda: self._take(most, inherited=inherited))

    async def done(self) -> None:
        """What was taken last is in the database."""
        await self._do(self._done)

    async def reject(self, exchange: Exchange) -> bool:
        """Keep one that no database takes, for people to look at. Whether it is on the disk."""
        return await self._do(lambda: self._reject(exchange))

    async def tend(self) -> None:
        """Take over what processes left that are no more, and see to the reserve."""
        await self._do(self._tend)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # From here on: in the thread

    def _begin(self) -> None:
        try:
            self._directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._note_usable(error)
        else:
            self._tend()

    def _close(self) -> None:
        for segment in self._segments:
            if segment is self._current and not segment.records:
                segment.remove()
            else:
                segment.close()

    def _tend(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)  # not its parent: data that is gone does not come back so
            self._look_around()
        except OSError as error:
            self._note_usable(error)
        else:
            self._note_usable(None)
            self._reserve.ensure()

    def _note_usable(self, error: OSError | None) -> None:
        if error is not None and self._usable:
            log.warning("spool: it cannot be used, rows would wait in memory", reason=error.strerror)
        self._usable = error is None

    def _look_around(self) -> None:
        own = {segment.path for segment in self._segments}
        aside = 0
        for path in sorted(self._directory.iterdir()):
            with suppress(FileNotFoundError):  # somebody has just put it away
                if path.suffix == ".spool" and path not in own:
                    self._take_over(path)
                elif path.suffix == ".damaged" or path.name == _REJECTED:
                    aside += path.stat().st_size
        self._aside = aside

    def _take_over(self, path: Path) -> None:
        if not path.stem.endswith(f".{self._database}"):
            self._leave(path, "rows of another database wait here")
            return
        try:
            segment = Segment.adopt(path)
        except PermissionError:
            self._leave(path, "a file cannot be read, and its rows wait")
            return
        if segment is not None:
            self._segments.append(segment)
            self._count(segment.records, segment.size)
            log.info("spool: rows of a process that has ended are taken over", file=path.name, records=segment.records)

    def _leave(self, path: Path, why: str) -> None:
        """Alone, and say so once."""
        if path not in self._strangers:
            self._strangers.add(path)
            log.warning(f"spool: {why}", file=path.name)

    def _append(self, exchanges: Sequence[Exchange]) -> bool:
        payloads = [payload for exchange in exchanges if (payload := self._encoded(exchange)) is not None]
        for _ in range(2):
            try:
                self._write(payloads)
            except OSError as error:
                self._complain(error)
                if error.errno != errno.EFBIG and not (is_full(error) and self._give_up_reserve()):
                    return False
            else:
                self._complaint = None
                return True
        return False

    def _complain(self, error: OSError) -> None:
        """Once for each reason."""
        if error.strerror != self._complaint:
            self._complaint = error.strerror
            log.warning("spool: rows could not be written", reason=error.strerror)

    def _give_up_reserve(self) -> bool:
        if given := self._reserve.give_up():
            log.warning("spool: the disk is full: what was kept for this is used now, and no more calls may begin")
        return given

    def _write(self, payloads: list[bytes]) -> None:
        segment = self._open()
        try:
            self.bytes += segment.append(payloads)
        except OSError:
            self._current = None  # nobody knows what a file is worth that could not be written
            raise
        self.records += len(payloads)

    def _open(self) -> Segment:
        """The file to append to."""
        segment = self._current
        if segment is None or segment.size >= _SEGMENT or not segment.is_in_place:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            name = f"{time.time_ns():020}-{os.getpid()}.{self._database}.spool"
            segment = self._current = Segment.make(self._directory / name)
            self._segments.append(segment)
            self._count(0, segment.size)
        return segment

    def _encoded(self, exchange: Exchange) -> bytes | None:
        try:
            return spooled.encoded(exchange, self._cipher)
        except (ValueError, OverflowError):
            log.error("spool: a record cannot be stored", exchange_id=exchange.id, rejected=self._reject(exchange))
            return None

    def _take(self, most: int, *, inherited: bool) -> list[Exchange]:
        while (segment := self._oldest(inherited=inherited)) is not None:
            payloads = self._read(segment, most)
            found = [row for payload in payloads if (row := self._decoded(payload, segment)) is not None]
            if found:
                self._taken = (segment, len(payloads))
                return found
            self._count(-len(payloads), 0)
            if not payloads:
                self._end(segment)
        return []

    def _oldest(self, *, inherited: bool) -> Segment | None:
        for segment in self._segments:
            if segment is not self._current and (segment.is_inherited or not inherited):
                return segment
        current = self._current
        if inherited or current is None or not current.records:
            return None
        self._current = None  # it grows no more
        return current

    def _read(self, segment: Segment, most: int) -> list[bytes]:
        try:
            return segment.read(most=most, most_bytes=_BITE)
        except OSError as error:
            log.error("spool: a file cannot be read", file=segment.path.name, reason=error.strerror)
            segment.damaged += 1
            return []

    def _decoded(self, payload: bytes, segment: Segment) -> Exchange | None:
        try:
            return spooled.decoded(payload, self._cipher)
        except ValueError:
            segment.damaged += 1
            return None

    def _done(self) -> None:
        if self._taken is not None:
            segment, count = self._taken
            self._taken = None
            self._count(-count, 0)
            if segment.is_read:
                self._end(segment)

    def _end(self, segment: Segment) -> None:
        """All that can be read of it has been."""
        self._segments.remove(segment)
        self._count(-segment.records, -segment.size)
        try:
            if segment.damaged:
                log.error("spool: damage, the file is kept", file=segment.set_aside().name, records=segment.damaged)
            else:
                segment.remove()
        except OSError as error:
            log.warning("spool: a file could not be put away", file=segment.path.name, reason=error.strerror)

    def _count(self, records: int, size: int) -> None:
        self.records += records
        self.bytes += size

    def _reject(self, exchange: Exchange) -> bool:
        if self._aside >= self._max_bytes:
            return False
        try:
            self._aside += append_line(self._directory / _REJECTED, spooled.line(exchange, self._cipher))
        except OSError as error:
            self._complain(error)
            return False
        return True
