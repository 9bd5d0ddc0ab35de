"""What a key may be given: its name, scopes, models, labels, and when it ends."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.types import Role, Scope

_SCOPES: tuple[Scope, ...] = get_args(Scope)
_OF_ROLE: Mapping[Role, frozenset[Scope]] = {
    "admin": frozenset({"calls", "history", "manage"}),
    "member": frozenset({"calls", "history", "manage"}),
    "viewer": frozenset({"history", "manage"}),
}
_MAX_NAME = 200
_MAX_LABELS, _MAX_LABEL = 20, 100
_MAX_MODELS, _MAX_MODEL = 100, 200
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)  # what is later may be in the year 10000, in UTC or when it is rounded


def checked_name(name: str, of: str = "key") -> str:
    """Raises `BadRequest` for a name that cannot be listed: a blank or long one, or one with control characters."""
    if not (name.strip() and len(name) <= _MAX_NAME and name.isprintable()):
        message = f"A {of}'s name has 1 to {_MAX_NAME} printable characters."
        raise BadRequest(message, param="name")
    return name


def checked_scopes(scopes: Sequence[Scope] | None, role: Role) -> Sequence[Scope]:
    """Those a key gets whose owner has this role; None stands for the usual ones. Raises `BadRequest`."""
    may = _OF_ROLE[role]
    if scopes is None:
        scopes = [scope for scope in apikeys.DEFAULT_SCOPES if scope in may]
    unknown = next((scope for scope in scopes if scope not in may), None)
    if unknown is not None:
        message = f"scopes: a key of a user with the role {role!r} cannot have {unknown[:50]!r}."
        if unknown not in _SCOPES:
            message = f"scopes: {unknown[:50]!r} is none: they are {', '.join(_SCOPES[:-1])} and {_SCOPES[-1]}."
        raise BadRequest(message, param="scopes")
    if not scopes:
        message = "scopes: name at least one."
        raise BadRequest(message, param="scopes")
    return sorted(set(scopes))


def checked_models(models: Sequence[str] | None) -> Sequence[str] | None:
    """Names or patterns; None for all. Raises `BadRequest`."""
    if models is None:
        return None
    if not (1 <= len(models) <= _MAX_MODELS and all(_is_text(model, _MAX_MODEL) for model in models)):
        message = (
            f"models: 1 to {_MAX_MODELS} names or patterns of up to {_MAX_MODEL} printable characters; null for all."
        )
        raise BadRequest(message, param="models")
    return list(models)


def checked_labels(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    """Raises `BadRequest`."""
    labels = labels or {}
    texts = [text for pair in labels.items() for text in pair]
    if len(labels) > _MAX_LABELS or not all(_is_text(text, _MAX_LABEL) for text in texts):
        message = f"labels: up to {_MAX_LABELS} pairs, names and values of 1 to {_MAX_LABEL} printable characters."
        raise BadRequest(message, param="labels")
    return dict(labels)


def checked_end(expires_at: datetime | None, now: int) -> int | None:
    """In microseconds since the epoch. Raises `BadRequest` for a time that has passed.

    Of the last day that there is, only its beginning can be told to a person.
    """
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    at = int(min(expires_at, _LATEST).timestamp() * 1_000_000)
    if at <= now:
        message = "expires_at: must be in the future."
        raise BadRequest(message, param="expires_at")
    return at


def checked(changes: Mapping[str, Any], role: Role, now: int) -> dict[str, Any]:
    """Changes of a key's settings, as they are stored but for JSON. Raises `BadRequest`."""
    found: dict[str, Any] = {}
    if "name" in changes:
        found["name"] = checked_name(changes["name"])
    if "scopes" in changes:
        found["scopes"] = checked_scopes(changes["scopes"], role)
    if "models" in changes:
        found["models"] = checked_models(changes["models"])
    if "labels" in changes:
        found["labels"] = checked_labels(changes["labels"])
    if "expires_at" in changes:
        found["expires_at"] = checked_end(changes["expires_at"], now)
    return found


def _is_text(text: str, longest: int) -> bool:
    return bool(text.strip()) and len(text) <= longest and text.isprintable()
