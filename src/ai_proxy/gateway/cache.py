"""Answers that are given again to equal calls of the same key, from memory."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from sys import getsizeof

import msgspec

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.groups import CacheSettings
from ai_proxy.core.types import Reuse
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway.targets import Target


class Entry(msgspec.Struct, frozen=True, eq=False):
    """An answer as it came from `target`: one completion, or all chunks of a stream. `since` is the clock's reading."""

    target: Target
    parts: Sequence[Completion | Chunk]
    since: float
    size: int


class Cache:
    """Off with a `ttl` of 0. At most `max_bytes` are held: the answers unused for longest give way."""

    def __init__(self, settings: CacheSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.on = settings.ttl > 0
        self._ttl = settings.ttl
        self._max_bytes = settings.max_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._generation = 0
        self.size = 0
        self.hits = 0
        self.misses = 0
        self.evicted = 0

    def key(self, key_id: str, call: Call) -> bytes:
        """What equal calls have in common: who asks, in which format, for what. Raises `BadRequest`."""
        return fingerprint(self._generation, key_id, call.dialect, call.headers, call.body)

    def find(self, key: bytes, reuse: Reuse) -> Entry | None:
        """The answer to an equal call, if the caller takes one as old as it is; `reuse` is told what came of it."""
        if not (self.on and reuse.reads):
            return None
        entry = self._fresh(key)
        age = 0.0 if entry is None else self._clock() - entry.since
        if entry is None or (reuse.max_age is not None and age > reuse.max_age):
            self.misses += 1
            reuse.outcome = "miss"
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        reuse.outcome, reuse.age = "hit", age
        return entry

    def put(self, key: bytes, target: Target, parts: Sequence[Completion | Chunk]) -> None:
        """Keep a complete answer. One that is larger than the whole memory is not kept."""
        if not self.on:
            return
        self._drop(key)
        entry = Entry(target, parts, self._clock(), sum(map(_size, parts)) + _ENTRY)
        if entry.size > self._max_bytes:
            self.evicted += 1
            return
        self._entries[key] = entry
        self.size += entry.size
        while self.size > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self.evicted += 1

    def clear(self) -> None:
        """Forget all: names of models may mean something else now. What is still being answered is not found either."""
        self._entries.clear()
        self.size = 0
        self._generation += 1

    def _fresh(self, key: bytes) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None or self._clock() - entry.since < self._ttl:
            return entry
        self._drop(key)
        return None

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size


def wishes(cache_control: str) -> Reuse:
    """What a request's Cache-Control allows. What we do not know in it is ignored; an unreadable age is the strictest.

    https://www.rfc-editor.org/rfc/rfc9111#section-5.2.1
    """
    reuse = Reuse()
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "no-store":
            reuse.reads = reuse.stores = False
        elif name == "no-cache":
            reuse.reads = False
        elif name == "max-age":
            value = value.strip('"')
            reuse.max_age = float(value) if value.isdecimal() else 0.0
            reuse.reads = reuse.reads and reuse.max_age > 0
    return reuse


def fingerprint(*parts: object) -> bytes:
    """Equal for values that are equal as JSON, whatever the order of names. Raises `BadRequest`."""
    try:
        data = msgspec.json.encode(parts, order="deterministic")
    except RecursionError:  # it could just be read
        message = "The body is nested too deeply."
        raise BadRequest(message) from None
    return blake2b(data, digest_size=32).digest()


_ENTRY = 500  # bytes, about, for what belongs to an entry beside its parts
_PART = 120  # and for a part beside its data and its text


def _size(part: Completion | Chunk) -> int:
    data = part.body if isinstance(part, Completion) else part.data
    return getsizeof(data) + getsizeof(part.text) + _PART
