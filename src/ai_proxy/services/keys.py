"""API keys as a person administers them: create, list, change, rotate, revoke."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import BadRequest, Conflict, NotFound, PermissionDenied
from ai_proxy.core.ids import time_of, uuid7
from ai_proxy.core.types import Actor, Scope
from ai_proxy.services import key_checks
from ai_proxy.services.audit import note
from ai_proxy.services.days import microseconds
from ai_proxy.services.times import SECOND, moment
from ai_proxy.storage import keys, projects, users
from ai_proxy.storage.engine import Connection, Database

MOST_OVERLAP = 30 * 86_400  # seconds that a former secret may go on working


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed: its secret is never seen again. `former_until` is when its former secret ends."""

    id: str
    name: str
    hint: str
    user_id: str
    user: str
    project_id: str | None
    project: str | None
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] | None
    labels: dict[str, str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    former_until: datetime | None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Without `user_id` it is the asker's own; without `scopes` it may call and read history."""

    name: str
    user_id: str | None = None
    project_id: str | None = None
    scopes: Sequence[Scope] | None = None
    models: Sequence[str] | None = None
    labels: Mapping[str, str] | None = None
    expires_at: datetime | None = None


class Keys:
    """Administrators see and change the keys of all, others their own."""

    def __init__(
        self,
        database: Database,
        secret: bytes,
        clock: Callable[[], int] = time.time_ns,
        *,
        given: str | None = None,
    ) -> None:
        """`clock` gives nanoseconds since the epoch. `given` is the key of AI_PROXY_API_KEY."""
        self._database = database
        self._secret = secret
        self._given = None if given is None else apikeys.digest(given, secret)
        self._clock = clock

    async def create(self, actor: Actor, new: NewKey) -> tuple[Key, str]:
        """The key as it is listed, and its secret, which cannot be read again later.

        Raises `BadRequest`, `PermissionDenied` for another's key, `NotFound` for a project that is not the user's.
        """
        user_id = new.user_id or actor.user_id
        if user_id != actor.user_id and actor.role != "admin":
            message = "Keys of other users are made by administrators."
            raise PermissionDenied(message)
        now, key_id, secret = self._now(), uuid7(), apikeys.new_key()
        async with self._database.changing() as connection:
            owner = await _owner(connection, user_id)
            await _check_project(connection, owner, new.project_id)
            settings = key_checks.checked(msgspec.structs.asdict(new), owner.role, now)
            fixed = {"user_id": user_id, "project_id": new.project_id}
            values = {"id": key_id, "created_at": now, **self._secret_of(secret), **fixed, **_stored(settings)}
            await keys.insert_key(connection, values)
            await note(connection, actor, "key.create", f"key:{key_id}", **fixed, **_told(settings))
            row = await _found(connection, actor, key_id)
        return _key(row), secret

    async def page(
        self,
        actor: Actor,
        *,
        user_id: str | None = None,
        project_id: str | None = None,
        after: str | None = None,
        limit: int,
    ) -> tuple[Sequence[Key], bool]:
        """Oldest first, revoked ones too, and whether there are more after them."""
        if actor.role != "admin":
            if user_id not in (None, actor.user_id):
                return [], False
            user_id = actor.user_id
        async with self._database.transaction() as connection:
            rows = await keys.page(connection, user_id=user_id, project_id=project_id, after=after, limit=limit + 1)
        return [_key(row) for row in rows[:limit]], len(rows) > limit

    async def get(self, actor: Actor, key_id: str) -> Key:
        """Raises `NotFound`."""
        async with self._database.transaction() as connection:
            return _key(await _found(connection, actor, key_id))

    async def change(self, actor: Actor, key_id: str, changes: Mapping[str, Any]) -> Key:
        """Change name, scopes, models, labels or expires_at. Raises `NotFound` or `BadRequest`."""
        async with self._database.changing() as connection:
            row = await _working(connection, actor, key_id)
            after = key_checks.checked(changes, row.role, self._now())
            if after:
                before = {name: _plain(row, name) for name in after}
                await keys.change(connection, key_id, **_stored(after))
                await note(connection, actor, "key.change", f"key:{key_id}", before=_told(before), after=_told(after))
            return _key(await _found(connection, actor, key_id))

    async def rotate(self, actor: Actor, key_id: str, overlap: int = 0) -> tuple[Key, str]:
        """Give a key a new secret, and return it. The former one works for `overlap` more seconds.

        One that is older still ends at once. Raises `NotFound`, `BadRequest`, or `Conflict` for the operator's own key.
        """
        if not 0 <= overlap <= MOST_OVERLAP:
            message = f"overlap: 0 to {MOST_OVERLAP} seconds."
            raise BadRequest(message, param="overlap")
        secret = apikeys.new_key()
        async with self._database.changing() as connection:
            row = await _working(connection, actor, key_id)
            if row.digest == self._given or row.hint == apikeys.hint(""):
                message = "This is the operator's own key: set another in AI_PROXY_API_KEY, and revoke this one."
                raise Conflict(message)
            until = self._now() + overlap * SECOND if overlap else keys.ENDED
            former = {"previous_digest": row.digest, "previous_until": until}
            await keys.change(connection, key_id, **self._secret_of(secret), **former)
            await note(connection, actor, "key.rotate", f"key:{key_id}", overlap=overlap)
            return _key(await _found(connection, actor, key_id)), secret

    async def revoke(self, actor: Actor, key_id: str) -> None:
        """Raises `NotFound` if there is no such key that still works."""
        async with self._database.changing() as connection:
            row = await _working(connection, actor, key_id)
            await keys.change(connection, key_id, revoked_at=self._now())
            await note(connection, actor, "key.revoke", f"key:{key_id}", name=row.name)

    def _secret_of(self, key: str) -> dict[str, str]:
        return {"digest": apikeys.digest(key, self._secret), "hint": apikeys.hint(key)}

    def _now(self) -> int:
        return self._clock() // 1000


async def list_all(database: Database) -> Sequence[Key]:
    """Every key, oldest first, revoked ones too."""
    async with database.transaction() as connection:
        return [_key(row) for row in await keys.page(connection)]


async def _owner(connection: Connection, user_id: str) -> Any:
    row = await users.find(connection, user_id)
    if row is None or row.disabled_at is not None:
        message = "There is no such user, or it is disabled."
        raise NotFound(message, param="user_id")
    return row


async def _check_project(connection: Connection, owner: Any, project_id: str | None) -> None:
    if project_id is None:
        return
    project = await projects.find(connection, project_id)
    belongs = owner.role == "admin" or await projects.has_member(connection, project_id, owner.id)
    if project is None or project.archived_at is not None or not belongs:
        message = "There is no such project, it is archived, or the key's user is no member of it."
        raise NotFound(message, param="project_id")


async def _found(connection: Connection, actor: Actor, key_id: str) -> Any:
    row = await keys.get(connection, key_id, user_id=None if actor.role == "admin" else actor.user_id)
    if row is None:
        message = "There is no such key."
        raise NotFound(message)
    return row


async def _working(connection: Connection, actor: Actor, key_id: str) -> Any:
    row = await keys.get(connection, key_id, user_id=None if actor.role == "admin" else actor.user_id)
    if row is None or row.revoked_at is not None:
        message = f"There is no active key with the id {key_id[:50]}: see 'ai-proxy keys list'."
        raise NotFound(message)
    return row


_JSON = frozenset({"scopes", "models", "labels"})


def _stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value) if name in _JSON and value is not None else value for name, value in settings.items()
    }


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As the audit log has them, with a time that people can read."""
    end = settings.get("expires_at")
    return dict(settings) if end is None else {**settings, "expires_at": moment(end)}


def _plain(row: Any, name: str) -> Any:
    value = getattr(row, name)
    return json.loads(value) if name in _JSON and value is not None else value


def _key(row: Any) -> Key:
    models = _plain(row, "models")
    return Key(
        id=row.id,
        name=row.name,
        hint=row.hint,
        user_id=row.user_id,
        user=row.user,
        project_id=row.project_id,
        project=row.project,
        scopes=tuple(_plain(row, "scopes")),
        models=None if models is None else tuple(models),
        labels=_plain(row, "labels"),
        created_at=moment(row.created_at),
        expires_at=row.expires_at and moment(row.expires_at),
        revoked_at=row.revoked_at and moment(row.revoked_at),
        last_used_at=_last_used(row.newest, row.last_day),
        former_until=moment(row.previous_until) if row.previous_until else None,
    )


def _last_used(newest: str | None, last_day: str | None) -> datetime | None:
    """When the newest exchange began. Where the history has none any more, the day is what is known."""
    if newest is not None:
        return moment(time_of(newest))
    return None if last_day is None else moment(microseconds(date.fromisoformat(last_day)))
