"""Whom limits and budgets hold for: a key, a user, a project, or the service; and who may see and change them."""

from uuid import UUID

from ai_proxy.core.exceptions import BadRequest, NotFound, PermissionDenied
from ai_proxy.core.types import SERVICE, Actor
from ai_proxy.services.users import normal
from ai_proxy.storage import subjects
from ai_proxy.storage.engine import Connection, Database


def viewer(actor: Actor) -> str | None:
    """The user whose own are all that the actor may see. None: the actor may see all."""
    return None if actor.role == "admin" else actor.user_id


async def check_changeable(connection: Connection, actor: Actor, subject: str) -> None:
    """Raises `NotFound` for what is not there or not the actor's to see, `PermissionDenied` for what is not to change.

    Administrators change what is there, others their own keys' limits and budgets.
    """
    kind, _, identifier = subject.partition(":")
    if subject != SERVICE:
        await _check_visible(connection, actor, kind, identifier)
    if actor.role != "admin" and (kind != "key" or actor.role != "member"):
        message = "Limits and budgets of users, projects and the service are set by administrators."
        raise PermissionDenied(message)


async def _check_visible(connection: Connection, actor: Actor, kind: str, identifier: str) -> None:
    user_id = viewer(actor)
    known = kind in subjects.KINDS and _is_id(identifier)
    if known and user_id is None:
        known = await subjects.is_there(connection, kind, identifier)
    elif known and user_id is not None:
        known = await subjects.is_visible(connection, kind, identifier, to=user_id)
    if not known:
        message = "There is no such key, user or project."
        raise NotFound(message)


async def named(database: Database, written: str) -> str:
    """The subject that a person means: `service`, `key:ID`, or `user:` or `project:` with a name or an id.

    Raises `BadRequest` for another form, `NotFound` if there is none.
    """
    if written == SERVICE:
        return SERVICE
    kind, _, name = written.partition(":")
    if kind not in subjects.KINDS or not name:
        message = f"{written}: write key:ID, user:NAME, project:NAME or service."
        raise BadRequest(message, param="subject")
    async with database.transaction() as connection:
        if _is_id(name) and await subjects.is_there(connection, kind, name):
            return f"{kind}:{name}"
        known_as = normal(name) if kind == "user" else name
        found = () if kind == "key" else await subjects.ids_of(connection, kind, known_as)
    if not found:
        message = f"There is no {kind} {name}: see 'ai-proxy {kind}s list'."
        raise NotFound(message)
    return f"{kind}:{found[0]}"


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
