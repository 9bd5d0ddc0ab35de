"""API keys, answered from memory. The database is asked once per key and a few seconds."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, TypeVar

import structlog

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import DatabaseUnavailable, Unauthenticated
from ai_proxy.core.types import PROVISIONAL_KEY_ID, Principal
from ai_proxy.gateway.seen_keys import SeenKeys

V = TypeVar("V")

log = structlog.get_logger()

# Finds the holder of the key with this digest; None if there is none, or it is revoked. Raises `DatabaseUnavailable`.
Find = Callable[[str], Awaitable[Principal | None]]

_MAX_LENGTH = 512  # of a key; longer ones are nobody's


class Memory(NamedTuple):
    """How many keys are remembered, and for how many seconds, which is how long a revoked one may still work."""

    ttl: float = 5.0
    size: int = 10_000


class KeyRing:
    """While the database is away, keys that were good go on working until they expire."""

    def __init__(
        self,
        find: Find,
        *,
        secret: bytes,
        given: str | None = None,
        memory: Memory = Memory(),  # noqa: B008 - cannot be changed
        seen: SeenKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`given` is the operator's own key, which may look like a generated one and be none.

        It works before anybody has reached the database, and so do keys that were `seen` by an earlier process.
        `clock` tells the time of day in seconds since the epoch, which is what keys expire by.
        """
        self._find = find
        self._secret = secret
        self._given = None if given is None else apikeys.digest(given, secret)
        self._provisional = None if given is None else Principal(key_id=PROVISIONAL_KEY_ID, name="AI_PROXY_API_KEY")
        self._ttl, self._size = memory
        self._seen = SeenKeys(most=memory.size) if seen is None else seen
        self._clock = clock
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Principal | None]] = {}
        self._cleared = 0  # how many times

    async def authenticate(self, key: str | None) -> Principal:
        """Whose key this is. Raises `Unauthenticated`, or `DatabaseUnavailable` when that cannot be found out."""
        if not key:
            message = "An API key is needed: send it as 'Authorization: Bearer <key>' or 'x-api-key: <key>'."
            raise Unauthenticated(message)
        if len(key) > _MAX_LENGTH:
            raise _refusal()
        digest = apikeys.digest(key, self._secret)
        principal, until = self._known.get(digest, (None, 0.0))
        if principal is not None and until > time.monotonic():
            return self._valid(principal)
        if apikeys.is_mistyped(key) and digest != self._given:
            raise _refusal()
        return self._valid(await self._ask(digest, principal))

    def clear(self) -> None:
        """Forget all keys: something about them has changed, and each is looked up again when it is next used.

        Answers that are on their way may be older than the change: they are not remembered either.
        """
        self._known.clear()
        self._unknown.clear()
        self._asking.clear()
        self._seen.clear()
        self._cleared += 1

    def settle(self) -> None:
        """The database was reached: it knows the operator's own key, too."""
        self._provisional = None
        self._known.clear()

    def _valid(self, principal: Principal) -> Principal:
        if principal.expires_at is not None and principal.expires_at <= self._clock() * 1_000_000:
            message = "This API key has expired: make another, or ask for one."
            raise Unauthenticated(message)
        return principal

    async def _ask(self, digest: str, known: Principal | None) -> Principal:
        if self._unknown.get(digest, 0.0) > time.monotonic():
            raise _refusal()
        cleared = self._cleared
        provisional = self._provisional if digest == self._given else None
        try:
            principal = await self._find_once(digest)
        except DatabaseUnavailable:
            principal = known or self._seen.find(digest) or provisional
            if principal is None or self._cleared != cleared:
                raise
            log.warning("keys: the database is away, a known key goes on working", key_id=principal.key_id)
        else:
            if self._cleared == cleared:
                self._seen.note(digest, principal)
        if self._cleared == cleared:
            self._remember(digest, principal)
        if principal is None:
            raise _refusal()
        return principal

    async def _find_once(self, digest: str) -> Principal | None:
        """Ask the database; callers with the same key share the question."""
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.ensure_future(self._find(digest))
            self._asking[digest] = task
            task.add_done_callback(partial(self._answered, digest))
        return await asyncio.shield(task)

    def _answered(self, digest: str, task: asyncio.Task[Principal | None]) -> None:
        if self._asking.get(digest) is task:
            del self._asking[digest]

    def _remember(self, digest: str, principal: Principal | None) -> None:
        until = time.monotonic() + self._ttl
        if principal is None:
            self._known.pop(digest, None)
            _keep(self._unknown, digest, until, self._size)
        else:
            _keep(self._known, digest, (principal, until), self._size)


def key_from(authorization: str | None, x_api_key: str | None) -> str | None:
    """The key in `Authorization: Bearer <key>`, in the same header alone, or in `x-api-key`."""
    if authorization is None:
        return x_api_key
    scheme, separator, key = authorization.strip().partition(" ")
    if not separator:
        return scheme
    return key.strip() if scheme.lower() == "bearer" else None


def _keep(cache: OrderedDict[str, V], digest: str, value: V, size: int) -> None:
    """Those that have not been asked for longest give way."""
    cache[digest] = value
    cache.move_to_end(digest)
    while len(cache) > size:
        cache.popitem(last=False)


def _refusal() -> Unauthenticated:
    return Unauthenticated("This API key is unknown or revoked: check it, or make one with 'ai-proxy keys create'.")
