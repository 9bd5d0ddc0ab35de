"""Calls that bear an idempotency key: what was answered once is answered again, without another call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from ai_proxy.core.exceptions import BadRequest, IdempotencyConflict, IdempotencyKeyReused
from ai_proxy.core.types import Exchange, KeptAnswer
from ai_proxy.dialects.call import Call
from ai_proxy.gateway.cache import fingerprint

# Finds what was answered under this idempotency key of an API key, as long as it counts. Raises `DatabaseUnavailable`.
Find = Callable[[str, str], Awaitable[KeptAnswer | None]]

HEADER = "idempotency-key"
_MAX_LENGTH = 255
_RETRY_AFTER = 1.0


class Idempotency:
    """Knows which keys have a call running in this process. Another process may run the same call at the same time."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._running: dict[tuple[str, str], str] = {}  # at most one a request under way

    @asynccontextmanager
    async def once(self, key_id: str, key: str, digest: str) -> AsyncIterator[KeptAnswer | None]:
        """While inside, no other call runs under this key. Gives what was answered before, None if nothing was.

        Raises `IdempotencyConflict`, `IdempotencyKeyReused` or `DatabaseUnavailable`.
        """
        own = (key_id, key)
        running = self._running.get(own)
        if running is not None:
            _check(running, digest)
            message = "A call with this Idempotency-Key is running: try again when it has ended."
            raise IdempotencyConflict(message, retry_after=_RETRY_AFTER)
        self._running[own] = digest
        try:
            kept = await self._find(key_id, key)
            if kept is not None:
                _check(kept.digest, digest)
            yield kept
        finally:
            del self._running[own]


def checked(key: str) -> str:
    """The key, if it can be one. Raises `BadRequest`."""
    if 0 < len(key) <= _MAX_LENGTH and key.isascii() and key.isprintable() and " " not in key:
        return key
    message = f"Idempotency-Key: must be 1 to {_MAX_LENGTH} visible ASCII characters."
    raise BadRequest(message, param=HEADER)


def digest_of(path: str, exchange: Exchange, call: Call) -> str:
    """Equal for requests that ask the same: the order of names in their JSON does not count. Raises `BadRequest`."""
    if exchange.dialect == "ask" or exchange.request is None:
        return fingerprint(path, call.body, exchange.conversation_id).hex()
    return fingerprint(path, msgspec.json.decode(exchange.request)).hex()


def _check(before: str, now: str) -> None:
    if before != now:
        message = "This Idempotency-Key was used for another request: take a new one for each."
        raise IdempotencyKeyReused(message, param=HEADER)
