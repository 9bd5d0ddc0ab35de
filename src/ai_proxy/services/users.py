"""Users as a person administers them: create, list, change their role or password, disable."""

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from ai_proxy.core.exceptions import BadRequest, Conflict, NotFound
from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import OPERATOR_ID, Actor, Role
from ai_proxy.services.audit import note
from ai_proxy.services.times import moment, now
from ai_proxy.storage import sessions, users
from ai_proxy.storage.engine import Connection, Database

_MAX_NAME = 200


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user as it is listed."""

    id: str
    name: str
    role: Role
    disabled: bool
    has_password: bool
    created_at: datetime


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a user; None leaves it as it is. `password` is a hash."""

    role: Role | None = None
    disabled: bool | None = None
    password: str | None = None


def normal(name: str) -> str:
    """A name as it is stored and compared: case and look-alike forms of a letter do not tell people apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).strip().lower())


async def create(
    database: Database, actor: Actor, name: str, *, role: Role = "member", password: str | None = None
) -> User:
    """`password` is a hash. Raises `BadRequest` for a name that cannot be listed, `Conflict` for one that is taken."""
    async with database.changing() as connection:
        return await add(connection, actor, name, role=role, password=password)


async def add(connection: Connection, actor: Actor, name: str, *, role: Role, password: str | None) -> User:
    """The same in a transaction that is open already."""
    name = normal(name)
    if not (1 <= len(name) <= _MAX_NAME and name.isprintable()):
        message = f"A user's name has 1 to {_MAX_NAME} printable characters."
        raise BadRequest(message, param="name")
    if await users.find_by_name(connection, name) is not None:
        message = "There is a user of this name already."
        raise Conflict(message, param="name")
    user_id = uuid7()
    row = {"id": user_id, "name": name, "role": role, "password": password, "created_at": now()}
    await users.add(connection, row)
    await note(connection, actor, "user.create", f"user:{user_id}", name=name, role=role)
    await _end_setup(connection, role, password)
    return _user(await _found(connection, user_id))


async def find(database: Database, user_id: str) -> User:
    """Raises `NotFound`."""
    async with database.transaction() as connection:
        return _user(await _found(connection, user_id))


async def find_by_name(database: Database, name: str) -> User:
    """Raises `NotFound`."""
    async with database.transaction() as connection:
        row = await users.find_by_name(connection, normal(name))
    if row is None:
        message = f"There is no user {name!r}: see 'ai-proxy users list'."
        raise NotFound(message)
    return _user(row)


async def page(database: Database, *, after: str | None = None, limit: int) -> tuple[Sequence[User], bool]:
    """Oldest first, and whether there are more after them."""
    async with database.transaction() as connection:
        rows = await users.page(connection, after=after, limit=limit + 1)
    return [_user(row) for row in rows[:limit]], len(rows) > limit


async def change(database: Database, actor: Actor, user_id: str, wanted: Change) -> User:
    """Change a user, who is signed out by it. Raises `NotFound`, or `Conflict` for what would lock people out."""
    async with database.changing() as connection:
        row = await _found(connection, user_id)
        _check_whom(actor, user_id)
        if wanted.role is not None and wanted.role != row.role:
            await _change_role(connection, actor, row, wanted.role)
        if wanted.disabled is not None and wanted.disabled != (row.disabled_at is not None):
            await _disable(connection, actor, row, wanted.disabled)
        if wanted.password is not None:
            await set_password(connection, actor, row, wanted.password)
        return _user(await _found(connection, user_id))


async def set_password(connection: Connection, actor: Actor, row: Any, password: str) -> None:
    """Store the hash of a new password, and end the user's sessions but that of the actor."""
    await users.change(connection, row.id, password=password)
    await sessions.end_all(connection, row.id, now=now(), but=actor.session_id)
    await note(connection, actor, "user.password", f"user:{row.id}")
    await _end_setup(connection, row.role, password)


async def _change_role(connection: Connection, actor: Actor, row: Any, role: Role) -> None:
    await _keep_an_administrator(connection, row)
    await users.change(connection, row.id, role=role)
    await sessions.end_all(connection, row.id, now=now())
    await note(connection, actor, "user.role", f"user:{row.id}", before=row.role, after=role)
    await _end_setup(connection, role, row.password or row.oidc_subject)


async def _disable(connection: Connection, actor: Actor, row: Any, disabled: bool) -> None:
    if disabled:
        await _keep_an_administrator(connection, row)
        await sessions.end_all(connection, row.id, now=now())
    await users.change(connection, row.id, disabled_at=now() if disabled else None)
    await note(connection, actor, "user.disable" if disabled else "user.enable", f"user:{row.id}")


def _check_whom(actor: Actor, user_id: str) -> None:
    if user_id == OPERATOR_ID:
        message = "The operator is built in: it has no password, and neither role nor state change."
        raise Conflict(message)
    if user_id == actor.user_id:
        message = "Nobody changes themselves: ask another administrator, or POST /api/auth/password for your password."
        raise Conflict(message)


async def _keep_an_administrator(connection: Connection, row: Any) -> None:
    """Raises `Conflict` if this is the last administrator who can sign in with a password."""
    counts = row.role == "admin" and row.disabled_at is None and row.password is not None
    if counts and not await users.other_administrator(connection, row.id):
        message = "This is the last administrator who can sign in: make another one first."
        raise Conflict(message)


async def _end_setup(connection: Connection, role: Role, way_in: str | None) -> None:
    """There is an administrator who can sign in: nobody may make the first one any more."""
    if role == "admin" and way_in is not None:
        await sessions.forget_setup_tokens(connection)


async def _found(connection: Connection, user_id: str) -> Any:
    row = await users.find(connection, user_id)
    if row is None:
        message = "There is no such user."
        raise NotFound(message)
    return row


def _user(row: Any) -> User:
    return User(
        id=row.id,
        name=row.name,
        role=row.role,
        disabled=row.disabled_at is not None,
        has_password=row.password is not None,
        created_at=moment(row.created_at),
    )
