"""Queries on the projects and their members."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Row

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import Member, Project, User

_projects = Project.__table__


async def add(connection: Connection, values: dict[str, Any]) -> None:
    await connection.execute(insert(Project).values(values))


async def find(connection: Connection, project_id: str) -> Row[Any] | None:
    return (await connection.execute(select(_projects).where(Project.id == project_id))).first()


async def find_by_name(connection: Connection, name: str) -> Row[Any] | None:
    return (await connection.execute(select(_projects).where(Project.name == name))).first()


async def page(connection: Connection, *, member: str | None = None) -> Sequence[Row[Any]]:
    """Oldest first, archived ones too. With `member`, those that this user is in."""
    query = select(_projects).order_by(Project.id)
    if member is not None:
        query = query.join(Member, Member.project_id == Project.id).where(Member.user_id == member)
    return (await connection.execute(query)).all()


async def change(connection: Connection, project_id: str, **values: Any) -> None:
    await connection.execute(update(Project).where(Project.id == project_id).values(values))


async def members(connection: Connection, project_id: str) -> Sequence[Row[str, str, str]]:
    """Their id, name and role, by name."""
    query = (
        select(User.id, User.name, User.role)
        .join(Member, Member.user_id == User.id)
        .where(Member.project_id == project_id)
        .order_by(User.name)
    )
    return (await connection.execute(query)).all()


async def has_member(connection: Connection, project_id: str, user_id: str) -> bool:
    query = select(Member.user_id).where(Member.project_id == project_id, Member.user_id == user_id)
    return await connection.scalar(query) is not None


async def add_member(connection: Connection, project_id: str, user_id: str) -> None:
    await connection.execute(insert(Member).values(project_id=project_id, user_id=user_id))


async def remove_member(connection: Connection, project_id: str, user_id: str) -> bool:
    """False if the user was none."""
    query = delete(Member).where(Member.project_id == project_id, Member.user_id == user_id)
    return bool((await connection.execute(query)).rowcount)
