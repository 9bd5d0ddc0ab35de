"""Queries on the subjects of limits and budgets: keys, users, projects."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, literal, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import ApiKey, Member, Project, User

_TABLES: Mapping[str, type[ApiKey | User | Project]] = {"key": ApiKey, "user": User, "project": Project}
KINDS = tuple(_TABLES)

_AT_ONCE = 1000  # identifiers in one query: databases take only so many


async def is_there(connection: Connection, kind: str, identifier: str) -> bool:
    table = _TABLES[kind]
    return await connection.scalar(select(table.id).where(table.id == identifier)) is not None


async def is_visible(connection: Connection, kind: str, identifier: str, *, to: str) -> bool:
    """Whether it is this user, a key of theirs, or a project that they are a member of."""
    match kind:
        case "user":
            return identifier == to
        case "key":
            query = select(ApiKey.id).where(ApiKey.id == identifier, ApiKey.user_id == to)
        case _:
            query = select(Member.project_id).where(Member.project_id == identifier, Member.user_id == to)
    return await connection.scalar(query) is not None


def visible_to(user_id: str, subject: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The same of a column of subjects, such as `key:ID`."""
    keys = select(literal("key:") + ApiKey.id).where(ApiKey.user_id == user_id)
    projects = select(literal("project:") + Member.project_id).where(Member.user_id == user_id)
    return or_(subject == f"user:{user_id}", subject.in_(keys), subject.in_(projects))


async def ids_of(connection: Connection, kind: str, name: str) -> Sequence[str]:
    """Who has this name. Keys may share one; users and projects do not."""
    table = _TABLES[kind]
    return (await connection.scalars(select(table.id).where(table.name == name))).all()


async def names(connection: Connection, subjects: Iterable[str]) -> dict[str, str]:
    """What keys, users and projects are called."""
    found: dict[str, str] = {}
    wanted = set(subjects)
    for kind, table in _TABLES.items():
        ids = [subject.partition(":")[2] for subject in wanted if subject.startswith(f"{kind}:")]
        for start in range(0, len(ids), _AT_ONCE):
            query = select(table.id, table.name).where(table.id.in_(ids[start : start + _AT_ONCE]))
            found |= {f"{kind}:{row.id}": row.name for row in await connection.execute(query)}
    return found
