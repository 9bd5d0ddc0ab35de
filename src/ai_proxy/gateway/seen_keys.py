"""Keys that the database knew, kept on the disk: they work when the next process starts while it is away."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

import structlog

from ai_proxy.core.types import Principal, SeenKey

log = structlog.get_logger()

Load = Callable[[], Sequence[SeenKey]]
Save = Callable[[Sequence[SeenKey]], None]  # raises `OSError`

_GOOD_FOR = 7 * 24 * 3600  # seconds after which nobody knows whether a key still works
_FRESH = 3600  # seconds in which it is not worth writing that a key was seen once more
_PAUSE = 3.0  # seconds between two writes
_CLOSING_TIME = 1.0


class SeenKeys:
    """Use as an async context manager. Files are read and written in a thread, and never on the way of a call."""

    def __init__(
        self,
        load: Load = lambda: (),
        save: Save = lambda _: None,
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
                self._changed.set()
            return
        now = int(self._clock())
        if known is None or known.principal != principal or known.at <= now - _FRESH:
            self._keys[digest] = SeenKey(digest, principal, now)
            self._changed.set()
        self._keys.move_to_end(digest)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)

    def clear(self) -> None:
        """Something about keys has changed: none may be used before the database has said what it is."""
        if self._keys:
            self._keys.clear()
            self._changed.set()

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

    async def _write(self) -> None:
        self._changed.clear()
        try:
            await asyncio.to_thread(self._save, list(self._keys.values()))
            self._complaint = None
        except OSError as error:
            if error.strerror != self._complaint:
                self._complaint = error.strerror
                log.warning("keys: those that were seen cannot be kept for the next start", reason=error.strerror)
