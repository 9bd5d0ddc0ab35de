"""Queries on the logins, and on the one-time token that makes the first administrator. Only digests are stored."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.engine import Row

from ai_proxy.storage.engine import Connection
from ai_proxy.storage.tables import AuditEntry, Session, SetupToken, User

_LISTED = 200


async def add(connection: Connection, session: dict[str, Any]) -> None:
    await connection.execute(insert(Session).values(session))


async def find(connection: Connection, digest: str) -> Row[Any] | None:
    """The login with this digest, with its user's name and role. None if there is none, or the user is disabled."""
    query = (
        select(Session.__table__, User.name, User.role)
        .join(User, User.id == Session.user_id)
        .where(Session.digest == digest, User.disabled_at.is_(None))
    )
    return (await connection.execute(query)).first()


async def find_by_id(connection: Connection, session_id: str) -> Row[Any] | None:
    return (await connection.execute(select(Session.__table__).where(Session.id == session_id))).first()


async def of_user(connection: Connection, user_id: str, *, now: int, seen_after: int) -> Sequence[Row[Any]]:
    """The user's newest logins that have not ended, newest first."""
    query = (
        select(Session.__table__)
        .where(Session.user_id == user_id, Session.expires_at > now, Session.seen_at > seen_after)
        .order_by(Session.id.desc())
        .limit(_LISTED)
    )
    return (await connection.execute(query)).all()


async def seen(connection: Connection, session_id: str, *, seen_at: int) -> None:
    await connection.execute(update(Session).where(Session.id == session_id).values(seen_at=seen_at))


async def end(connection: Connection, session_id: str, *, now: int) -> bool:
    """End a login; where it came from stays known. False if there is none that has not ended."""
    change = update(Session).where(Session.id == session_id, Session.expires_at > now).values(expires_at=now)
    return bool((await connection.execute(change)).rowcount)


async def end_all(connection: Connection, user_id: str, *, now: int, but: str | None = None) -> None:
    """End all logins of a user `but` one. Where they came from stays known: guessers must not lock the user out."""
    change = update(Session).where(Session.user_id == user_id, Session.expires_at > now).values(expires_at=now)
    await connection.execute(change if but is None else change.where(Session.id != but))


async def forget_old(connection: Connection, *, before: int) -> None:
    """Forget logins that ended before this time."""
    await connection.execute(delete(Session).where(Session.expires_at < before))


async def came_from(connection: Connection, user_id: str, address: str) -> bool:
    """Whether the user has signed in from this address before."""
    earlier = select(Session.id).where(Session.user_id == user_id, Session.address == address)
    return bool(await connection.scalar(select(exists(earlier))))


async def failed_logins(connection: Connection, *, since: int, limit: int) -> Sequence[Any]:
    """The newest failed attempts to sign in, newest first, as the audit log has them."""
    query = (
        select(AuditEntry.created_at, AuditEntry.address, AuditEntry.details)
        .where(AuditEntry.action == "login.failed", AuditEntry.created_at > since)
        .order_by(AuditEntry.id.desc())
        .limit(limit)
    )
    return (await connection.execute(query)).all()


async def add_setup_token(connection: Connection, *, digest: str, expires_at: int) -> None:
    """It takes the place of an earlier one."""
    await connection.execute(delete(SetupToken))
    await connection.execute(insert(SetupToken).values(digest=digest, expires_at=expires_at))


async def setup_token_works(connection: Connection, digest: str, *, now: int) -> bool:
    token = select(SetupToken.digest).where(SetupToken.digest == digest, SetupToken.expires_at > now)
    return bool(await connection.scalar(select(exists(token))))


async def claim_setup_token(connection: Connection, digest: str, *, now: int) -> bool:
    """Use the token up. Of several who try at once, one gets True."""
    claim = delete(SetupToken).where(SetupToken.digest == digest, SetupToken.expires_at > now)
    return bool((await connection.execute(claim)).rowcount)


async def forget_setup_tokens(connection: Connection) -> None:
    await connection.execute(delete(SetupToken))
