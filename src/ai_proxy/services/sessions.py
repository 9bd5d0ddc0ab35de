"""Logins of people: a random token in a cookie, its digest in the database, an end for each."""

import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import NotFound, PermissionDenied
from ai_proxy.core.groups import SessionSettings
from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import Actor
from ai_proxy.services.audit import note
from ai_proxy.services.times import SECOND, moment
from ai_proxy.storage import sessions
from ai_proxy.storage.engine import Connection, Database

_TOKEN_BYTES = 32
_MAX_TOKEN = 100  # characters; longer ones are nobody's
_MAX_AGENT = 200
_MAX_ADDRESS = 64
_SEEN_EVERY = 60 * SECOND
_REMEMBERED = 90 * 86_400 * SECOND  # after their end: where people sign in from is known for as long


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A login as its user sees it. `current`: it is the one that asks."""

    id: str
    user_id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    agent: str
    current: bool


class Sessions:
    """`clock` gives nanoseconds since the epoch."""

    def __init__(
        self, database: Database, secret: bytes, settings: SessionSettings, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._database = database
        self._secret = secret
        self._idle = settings.idle_timeout * SECOND
        self._lifetime = settings.lifetime * SECOND
        self._clock = clock

    async def open(self, connection: Connection, user_id: str, *, address: str, agent: str) -> tuple[str, str]:
        """Begin a login, in the transaction of whoever found out who it is. Returns its id and its token."""
        now = self._now()
        session_id, token = uuid7(), secrets.token_urlsafe(_TOKEN_BYTES)
        session = {
            "id": session_id,
            "digest": self._digest(token),
            "user_id": user_id,
            "created_at": now,
            "seen_at": now,
            "expires_at": now + self._lifetime,
            "address": address[:_MAX_ADDRESS],
            "agent": "".join(filter(str.isprintable, agent))[:_MAX_AGENT],
        }
        await sessions.forget_old(connection, before=now - _REMEMBERED)
        await sessions.add(connection, session)
        return session_id, token

    async def actor(self, token: str, *, address: str = "", request_id: str = "") -> Actor | None:
        """Whose login this is, with the role as it is now. None if it has ended, or never was."""
        if len(token) > _MAX_TOKEN:
            return None
        now = self._now()
        async with self._database.transaction() as connection:
            row = await sessions.find(connection, self._digest(token))
            if row is None or row.expires_at <= now or row.seen_at + self._idle <= now:
                return None
        if row.seen_at + min(_SEEN_EVERY, self._idle // 2) <= now:
            async with self._database.transaction() as connection:
                await sessions.seen(connection, row.id, seen_at=now)
        return Actor(
            user_id=row.user_id,
            name=row.name,
            role=row.role,
            session_id=row.id,
            address=address,
            request_id=request_id,
        )

    async def of(self, actor: Actor, user_id: str | None = None) -> Sequence[Session]:
        """The logins of the actor, or of another user, which only an administrator sees. Newest first."""
        user_id = user_id or actor.user_id
        if user_id != actor.user_id and actor.role != "admin":
            message = "Only an administrator may see the sessions of others."
            raise PermissionDenied(message)
        now = self._now()
        async with self._database.transaction() as connection:
            rows = await sessions.of_user(connection, user_id, now=now, seen_after=now - self._idle)
        return [
            Session(
                id=row.id,
                user_id=row.user_id,
                created_at=moment(row.created_at),
                seen_at=moment(row.seen_at),
                expires_at=moment(min(row.expires_at, row.seen_at + self._idle)),
                address=row.address,
                agent=row.agent,
                current=row.id == actor.session_id,
            )
            for row in rows
        ]

    async def end(self, actor: Actor, session_id: str) -> None:
        """Raises `NotFound` for one that has ended, or is another's, unless an administrator ends it."""
        async with self._database.changing() as connection:
            row = await sessions.find_by_id(connection, session_id)
            visible = row is not None and (row.user_id == actor.user_id or actor.role == "admin")
            if row is None or not visible or not await sessions.end(connection, session_id, now=self._now()):
                message = "There is no such session, or it has ended."
                raise NotFound(message)
            action = "logout" if session_id == actor.session_id else "session.end"
            await note(connection, actor, action, f"user:{row.user_id}", session=session_id)

    def _digest(self, token: str) -> str:
        return apikeys.digest(token, self._secret)

    def _now(self) -> int:
        return self._clock() // 1000
