"""How people come in: login, logout, their own password, and the first administrator."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import (
    BadRequest,
    Conflict,
    LoginThrottled,
    NotSignedIn,
    PermissionDenied,
    Unauthenticated,
)
from ai_proxy.core.groups import SessionSettings
from ai_proxy.core.types import OPERATOR_ID, Actor, Principal
from ai_proxy.services import passwords, times
from ai_proxy.services.audit import note
from ai_proxy.services.passwords import Passwords
from ai_proxy.services.sessions import Sessions
from ai_proxy.services.throttle import Throttle
from ai_proxy.services.times import SECOND
from ai_proxy.services.users import User, add, normal, set_password
from ai_proxy.storage import sessions, users
from ai_proxy.storage.engine import Connection, Database

_SETUP_TIME = 3600 * SECOND
_RECALLED = 3600 * SECOND  # failed logins of before the start
_MOST_RECALLED = 10_000
_WRONG = "The name or the password is wrong: an administrator can set a new password."


class Caller(msgspec.Struct, frozen=True):
    """Where a login comes from."""

    address: str = ""
    agent: str = ""
    request_id: str = ""


class Accounts:
    """Use as an async context manager. `clock` gives nanoseconds since the epoch."""

    def __init__(
        self, database: Database, secret: bytes, settings: SessionSettings, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._database = database
        self._secret = secret
        self._clock = clock
        self.passwords = Passwords()
        self.sessions = Sessions(database, secret, settings, clock)
        self._throttle = Throttle(lambda: clock() / 1e9)

    async def __aenter__(self) -> "Accounts":
        return self

    async def recall(self) -> None:
        """A restart forgives nobody: the audit log knows who failed."""
        since = self._clock() // 1000 - _RECALLED
        async with self._database.transaction() as connection:
            failed = await sessions.failed_logins(connection, since=since, limit=_MOST_RECALLED)
        for row in reversed(failed):
            account = msgspec.json.decode(row.details).get("account", "")
            self._throttle.recall(account, row.address, row.created_at / SECOND)

    async def __aexit__(self, *_: object) -> None:
        await self.passwords.__aexit__()

    async def login(self, name: str, password: str, caller: Caller) -> tuple[Actor, str]:
        """Who it is, and the token of a new session. Raises `NotSignedIn` or `LoginThrottled`.

        Whether there is such a user can be told neither by the answer nor by the time it takes.
        """
        name = normal(name)
        async with self._database.transaction() as connection:
            row = await users.find_by_name(connection, name)
            user_id = "" if row is None else row.id
            at_home = await sessions.came_from(connection, user_id, caller.address)
        account = self._account(name)
        stored = row.password if row is not None and row.disabled_at is None else None
        with self._try(account, caller.address, at_home=at_home):
            right, renewed = await self.passwords.verify(password, stored)
        if row is None or not right:
            await self._note_failure(account, row, caller)
            raise NotSignedIn(_WRONG)
        signed_in = await self._open(row, caller, renewed)
        self._throttle.succeeded(account, caller.address, at_home=at_home)
        return signed_in

    async def _open(self, row: Any, caller: Caller, renewed: str | None) -> tuple[Actor, str]:
        async with self._database.changing() as connection:
            now = await users.find(connection, row.id)
            if now is None or now.disabled_at is not None or now.password != row.password:  # since it was verified
                raise NotSignedIn(_WRONG)
            if renewed is not None:
                await users.change(connection, row.id, password=renewed)
            return await self.admit(connection, now, caller)

    async def admit(self, connection: Connection, row: Any, caller: Caller, **details: Any) -> tuple[Actor, str]:
        """Begin a session of a user of whom it is known that it is them."""
        session_id, token = await self.sessions.open(connection, row.id, address=caller.address, agent=caller.agent)
        actor = _actor(row, caller, session_id=session_id)
        await note(connection, actor, "login", f"user:{row.id}", session=session_id, **details)
        return actor, token

    async def change_password(self, actor: Actor, old: str, new: str) -> None:
        """One's own. Raises `BadRequest` if the old one is wrong or the new one will not do, or `LoginThrottled`."""
        passwords.check(new, param="new_password")
        async with self._database.transaction() as connection:
            row = await users.find(connection, actor.user_id)
        if row is None or row.password is None:
            message = "This user has no password: an administrator can set one."
            raise Conflict(message)
        account = self._account(row.name)
        with self._try(account, actor.address, at_home=True):
            right, _ = await self.passwords.verify(old, row.password)
        if not right:
            await self._note_failure(account, row, Caller(actor.address, "", actor.request_id))
            message = "old_password: is wrong: an administrator can set a new password."
            raise BadRequest(message, param="old_password")
        self._throttle.succeeded(account, actor.address, at_home=True)
        hashed = await self.passwords.hash(new)
        async with self._database.changing() as connection:
            now = await users.find(connection, actor.user_id)
            if now is None or now.disabled_at is not None or now.password != row.password:  # since it was verified
                message = "The user was changed meanwhile: sign in again."
                raise Conflict(message)
            await set_password(connection, actor, now, hashed)

    async def set_up(self, token: str, name: str, password: str, caller: Caller) -> User:
        """Make the first administrator. The token works once. Raises `PermissionDenied` for any other."""
        digest, now = self._digest(token), self._clock() // 1000
        passwords.check(password)
        async with self._database.transaction() as connection:
            known = await sessions.setup_token_works(connection, digest, now=now)
        if not known:
            raise _no_setup()
        hashed = await self.passwords.hash(password)
        actor = Actor(
            user_id=OPERATOR_ID, name="setup", role="admin", address=caller.address, request_id=caller.request_id
        )
        async with self._database.changing() as connection:
            if not await sessions.claim_setup_token(connection, digest, now=now):
                raise _no_setup()
            return await add(connection, actor, name, role="admin", password=hashed)

    async def holder(self, principal: Principal, *, address: str = "", request_id: str = "") -> Actor:
        """Who acts with a key: its user, with the role of now. Raises `Unauthenticated` if the user is disabled."""
        async with self._database.transaction() as connection:
            row = await users.find(connection, principal.user_id)
        if row is None or row.disabled_at is not None:
            message = "The user of this API key is disabled: an administrator can enable the user again."
            raise Unauthenticated(message)
        return _actor(row, Caller(address, "", request_id), key_id=principal.key_id)

    async def note_refusal(self, actor: Actor, what: str, reason: str) -> None:
        """Note that somebody wanted what they may not."""
        async with self._database.transaction() as connection:
            await note(connection, actor, "refusal", what, reason=reason)

    @contextmanager
    def _try(self, account: str, address: str, *, at_home: bool) -> Iterator[None]:
        """Count a try, unless too many wait for its password to be looked at. Raises `LoginThrottled`."""
        self._throttle.admit(account, address, at_home=at_home)
        try:
            yield
        except LoginThrottled:
            self._throttle.take_back(account, address, at_home=at_home)
            raise

    async def _note_failure(self, account: str, row: Any, caller: Caller) -> None:
        """The name that was typed is not noted: it may be a password."""
        who, target = ("unknown", "user:unknown") if row is None else (row.name, f"user:{row.id}")
        actor = Actor(
            user_id="" if row is None else row.id,
            name=who,
            role="viewer",
            address=caller.address,
            request_id=caller.request_id,
        )
        async with self._database.transaction() as connection:
            await note(connection, actor, "login.failed", target, account=account)

    def _account(self, name: str) -> str:
        return self._digest(name)[:32]

    def _digest(self, text: str) -> str:
        return apikeys.digest(text, self._secret)


async def new_setup_token(database: Database, secret: bytes) -> str | None:
    """A token that makes the first administrator within an hour. None if there is somebody with a password already."""
    token = secrets.token_urlsafe(32)
    async with database.changing() as connection:
        if await users.any_with_password(connection):
            return None
        expires_at = times.now() + _SETUP_TIME
        await sessions.add_setup_token(connection, digest=apikeys.digest(token, secret), expires_at=expires_at)
    return token


def _actor(row: Any, caller: Caller, *, session_id: str | None = None, key_id: str | None = None) -> Actor:
    return Actor(
        user_id=row.id,
        name=row.name,
        role=row.role,
        session_id=session_id,
        key_id=key_id,
        address=caller.address,
        request_id=caller.request_id,
    )


def _no_setup() -> PermissionDenied:
    return PermissionDenied("The set-up token is wrong, used up or expired: 'ai-proxy users create' makes users too.")
