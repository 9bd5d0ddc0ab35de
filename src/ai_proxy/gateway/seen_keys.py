"""Keys that the database knew, kept on the disk: they work when the next process starts while it is away."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Self

import structlog

from ai_proxy.core.types import Principal, SeenKey

log = structlog.get_logger()

Load = Callable[[], Sequence[SeenKey]]
# Takes what is known, and digests of what is to go; None for all that others know. Returns what they and we know now.
# Raises `OSError`.
Save = Callable[[Sequence[SeenKey], Collection[str] | None], Sequence[SeenKey]]

_GOOD_FOR = 7 * 24 * 3600  # seconds after which nobody knows whether a key still works
_FRESH = 3600  # seconds in which it is not worth writing that a key was seen once more
_PAUSE = 3.0  # seconds between two writes
_CLOSING_TIME = 1.0


class SeenKeys:
    """Use as an async context manager. Files are read and written in a thread, and never on the way of a call."""

    def __init__(
        self,
        load: Load = lambda: (),
        save: Save = lambda keys, _: keys,
        *,
        most: int = 10_000,
        pause: float = _PAUSE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds since the epoch."""
        self._load = load
        self._save = save
        self._most = most
        self._pause = pause
        self._clock = clock
        self._keys: OrderedDict[str, SeenKey] = OrderedDict()  # those used last are at the end
        self._removed: set[str] | None = set()  # since it was written; None is for all
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complaint: str | None = None

    def find(self, digest: str) -> Principal | None:
        """Who held this key when it was seen last, if that is not too long ago."""
        key = self._keys.get(digest)
        return None if key is None or key.at <= self._clock() - _GOOD_FOR else key.principal

    def note(self, digest: str, principal: Principal | None) -> None:
        """What the database says now: whose key it is, or that it is nobody's."""
        known = self._keys.get(digest)
        if principal is None:
            if known is not None:
                del self._keys[digest]
                self._remove(digest)
            return
        now = int(self._clock())
        if known is None or known.principal != principal or known.at <= now - _FRESH:
            self._keys[digest] = SeenKey(digest, principal, now)
            if self._removed:
                self._removed.discard(digest)
            self._changed.set()
        self._keys.move_to_end(digest)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)

    def clear(self) -> None:
        """Something about keys has changed: none may be used before the database has said what it is."""
        self._keys.clear()
        self._remove(None)

    async def __aenter__(self) -> Self:
        found = await asyncio.to_thread(self._load)
        self._keys.update((key.digest, key) for key in found[-self._most :])
        self._task = asyncio.create_task(self._run(), name="seen keys")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._changed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_TIME):
                    await self._write()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await self._write()
            await asyncio.sleep(self._pause)

    def _remove(self, digest: str | None) -> None:
        if digest is None:
            self._removed = None
        elif self._removed is not None:
            self._removed.add(digest)
        self._changed.set()

    def _still_to_remove(self, removed: set[str] | None) -> None:
        """A key that was revoked must not come back with the next start."""
        both = None if removed is None or self._removed is None else removed | self._removed
        self._removed = both and both - self._keys.keys()
        self._changed.set()

    async def _write(self) -> None:
        self._changed.clear()
        removed, self._removed = self._removed, set()
        try:
            found = await asyncio.to_thread(self._save, list(self._keys.values()), removed)
            self._complaint = None
        except asyncio.CancelledError:
            self._still_to_remove(removed)
            raise
        except OSError as error:
            self._still_to_remove(removed)
            if error.strerror != self._complaint:
                self._complaint = error.strerror
                log.warning("keys: those that were seen cannot be kept for the next start", reason=error.strerror)
            return
        if not self._changed.is_set():  # else what was noted meanwhile is newer, and written next
            self._keys = OrderedDict((key.digest, key) for key in found[-self._most :])
