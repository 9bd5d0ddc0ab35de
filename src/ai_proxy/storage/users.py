"""Queries on the users."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import exists, insert, select, update
from sqlalchemy.engine import Row

from ai_proxy.core.types import OPERATOR_ID
from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import User

_users = User.__table__


async def find(connection: Connection, user_id: str) -> Row[Any] | None:
    return (await connection.execute(select(_users).where(User.id == user_id))).first()


async def find_by_name(connection: Connection, name: str) -> Row[Any] | None:
    """The name must be in its normal form, as it is stored."""
    return (await connection.execute(select(_users).where(User.name == name))).first()


async def find_by_oidc_subject(connection: Connection, subject: str) -> Row[Any] | None:
    """Who signs in by OpenID Connect as `subject`, which is the issuer and what it calls the person."""
    return (await connection.execute(select(_users).where(User.oidc_subject == subject))).first()


async def add(connection: Connection, user: dict[str, Any]) -> None:
    await connection.execute(insert(User).values(user))


async def page(connection: Connection, *, after: str | None = None, limit: int = 50) -> Sequence[Row[Any]]:
    """Oldest first. Pass the last id of one page as `after` to get the next."""
    query = select(_users).order_by(User.id).limit(limit)
    if after is not None:
        query = query.where(User.id > after)
    return (await connection.execute(query)).all()


async def change(connection: Connection, user_id: str, **values: Any) -> None:
    await connection.execute(update(User).where(User.id == user_id).values(values))


async def any_with_password(connection: Connection) -> bool:
    return bool(await connection.scalar(select(exists(select(User.id).where(User.password.is_not(None))))))


async def other_administrator(connection: Connection, user_id: str) -> bool:
    """Whether somebody else is an administrator, enabled, and can sign in with a password."""
    others = select(User.id).where(
        User.id.not_in([user_id, OPERATOR_ID]),
        User.role == "admin",
        User.disabled_at.is_(None),
        User.password.is_not(None),
    )
    return bool(await connection.scalar(select(exists(others))))
