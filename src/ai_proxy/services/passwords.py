"""Passwords: argon2id, in one thread of their own, so that logins do not hold up calls."""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from ai_proxy.core.exceptions import BadRequest, LoginThrottled

T = TypeVar("T")

MIN_LENGTH, MAX_LENGTH = 12, 1024  # characters
_MAX_WAITING = 64
# OWASP's second choice: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
_MEMORY, _TIME, _PARALLELISM = 19_456, 2, 1  # KiB, passes, lanes


class Passwords:
    """Use as an async context manager. One hash is computed at a time; too many that wait are refused."""

    def __init__(self, *, memory: int = _MEMORY, max_waiting: int = _MAX_WAITING) -> None:
        self._hashes = PasswordHash([Argon2Hasher(time_cost=_TIME, memory_cost=memory, parallelism=_PARALLELISM)])
        self._max_waiting = max_waiting
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")

    async def __aenter__(self) -> "Passwords":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """What is stored of a new password. Raises `BadRequest` for one that will not do, or `LoginThrottled`."""
        check(password)
        return await self._run(lambda: self._hashes.hash(_bytes(password)))

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Whether the password is right, and a hash to be stored instead if the old one has become too weak.

        It takes as long when nothing is stored. Raises `LoginThrottled` when too many others wait.
        """
        if len(password) > MAX_LENGTH:
            password, stored = "", None
        return await self._run(lambda: self._verify(password, stored))

    def _verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        try:
            right, renewed = self._hashes.verify_and_update(_bytes(password), stored or self._nobodys)
        except PwdlibError:  # what is stored is no hash that we know
            return False, None
        return (right, renewed) if stored is not None else (False, None)

    @cached_property
    def _nobodys(self) -> str:
        return self._hashes.hash("")

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            message = "Too many people are signing in: try again in a few seconds."
            raise LoginThrottled(message, retry_after=5)
        self._waiting += 1
        running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        running.add_done_callback(self._done)
        return await running

    def _done(self, _: object) -> None:
        self._waiting -= 1


def check(password: str, *, param: str = "password") -> None:
    """Raises `BadRequest` for a password that is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        message = f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters: take several words."
        raise BadRequest(message, param=param)


def _bytes(password: str) -> bytes:
    """Keyboards differ in how they write the same letter: https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver"""
    return unicodedata.normalize("NFKC", password).encode(errors="replace")
