"""Projects as a person administers them: create, change, archive, and who is a member.

Administrators change them; others see those that they are members of. A project's key works while the project is not
archived and the key's user is a member, or an administrator.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from ai_proxy.core.exceptions import Conflict, NotFound
from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import Actor, Role
from ai_proxy.services.audit import note
from ai_proxy.services.key_checks import checked_name
from ai_proxy.services.times import moment, now
from ai_proxy.storage import projects, users
from ai_proxy.storage.engine import Connection, Database


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    role: Role


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project as it is listed. `retention_days` is None if its history is kept as long as all others'."""

    id: str
    name: str
    created_at: datetime
    archived_at: datetime | None
    retention_days: int | None
    keep_texts: bool


async def create(database: Database, actor: Actor, name: str) -> Project:
    """Raises `BadRequest` for a name that cannot be listed, `Conflict` for one that is taken."""
    project_id = uuid7()
    async with database.changing() as connection:
        await _check_name(connection, name)
        await projects.add(connection, {"id": project_id, "name": name, "created_at": now()})
        await note(connection, actor, "project.create", f"project:{project_id}", name=name)
        return _project(await _found(connection, actor, project_id))


async def list_all(database: Database, actor: Actor) -> Sequence[Project]:
    """Those that the actor may see, oldest first, archived ones too."""
    async with database.transaction() as connection:
        member = None if actor.role == "admin" else actor.user_id
        return [_project(row) for row in await projects.page(connection, member=member)]


async def find(database: Database, actor: Actor, project_id: str) -> tuple[Project, Sequence[Membership]]:
    """A project and its members. Raises `NotFound`."""
    async with database.transaction() as connection:
        row = await _found(connection, actor, project_id)
        members = await projects.members(connection, project_id)
    return _project(row), [Membership(id=member.id, name=member.name, role=member.role) for member in members]


async def find_by_name(database: Database, name: str) -> Project:
    """Raises `NotFound`."""
    async with database.transaction() as connection:
        row = await projects.find_by_name(connection, name)
    if row is None:
        message = f"There is no project {name!r}: see 'ai-proxy projects list'."
        raise NotFound(message)
    return _project(row)


async def change(
    database: Database,
    actor: Actor,
    project_id: str,
    *,
    name: str | None = None,
    archived: bool = False,
    history: Mapping[str, Any] = MappingProxyType({}),
) -> Project:
    """Change or archive it; the keys of an archived one stop working. `history` has what is to become different of
    `retention_days` and `keep_texts`. Raises `NotFound`, `BadRequest` or `Conflict`.
    """
    async with database.changing() as connection:
        row = await _found(connection, actor, project_id)
        if name is not None and name != row.name:
            await _check_name(connection, name)
            await projects.change(connection, project_id, name=name)
            await note(connection, actor, "project.rename", f"project:{project_id}", before=row.name, after=name)
        if after := {column: value for column, value in history.items() if value != getattr(row, column)}:
            before = {column: getattr(row, column) for column in after}
            await projects.change(connection, project_id, **after)
            await note(connection, actor, "project.history", f"project:{project_id}", before=before, after=after)
        if archived and row.archived_at is None:
            await projects.change(connection, project_id, archived_at=now())
            await note(connection, actor, "project.archive", f"project:{project_id}", name=row.name)
        return _project(await _found(connection, actor, project_id))


async def add_member(database: Database, actor: Actor, project_id: str, user_id: str) -> None:
    """Nothing happens if the user is one. Raises `NotFound`."""
    async with database.changing() as connection:
        await _found(connection, actor, project_id)
        if await users.find(connection, user_id) is None:
            message = "There is no such user."
            raise NotFound(message)
        if not await projects.has_member(connection, project_id, user_id):
            await projects.add_member(connection, project_id, user_id)
            await note(connection, actor, "member.add", f"project:{project_id}", user=user_id)


async def remove_member(database: Database, actor: Actor, project_id: str, user_id: str) -> None:
    """The user's keys of the project stop working until the user is a member again. Raises `NotFound`."""
    async with database.changing() as connection:
        await _found(connection, actor, project_id)
        if not await projects.remove_member(connection, project_id, user_id):
            message = "This user is no member of the project."
            raise NotFound(message)
        await note(connection, actor, "member.remove", f"project:{project_id}", user=user_id)


async def _check_name(connection: Connection, name: str) -> None:
    checked_name(name, "project")
    if await projects.find_by_name(connection, name) is not None:
        message = "There is a project of this name already."
        raise Conflict(message, param="name")


async def _found(connection: Connection, actor: Actor, project_id: str) -> Any:
    row = await projects.find(connection, project_id)
    if row is None or (actor.role != "admin" and not await projects.has_member(connection, project_id, actor.user_id)):
        message = "There is no such project."
        raise NotFound(message)
    return row


def _project(row: Any) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        created_at=moment(row.created_at),
        archived_at=row.archived_at and moment(row.archived_at),
        retention_days=row.retention_days,
        keep_texts=row.keep_texts,
    )
