"""Which models a key may call: names and patterns, as in a shell (`gpt-*`, `openai/*`)."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from ai_proxy.core.exceptions import ModelNotAllowed
from ai_proxy.core.types import Principal
from ai_proxy.gateway.targets import Route

Lookup = Callable[[str | None], Route]


def check_model(principal: Principal | None, asked: str | None, route_of: Lookup) -> None:
    """Raises `ModelNotAllowed` if a pattern fits neither the name that was asked for nor where it leads.

    A name that the operator configured leads to several models, and all of them must be allowed if the name is not.
    Where an allowed call goes when something fails is the operator's choice.
    """
    if principal is None or principal.models is None:
        return
    if asked is not None and _fits(asked, principal.models):
        return
    route = route_of(asked)
    if not (asked is None and _fits(route.name, principal.models)) and not _leads(route, principal.models):
        raise ModelNotAllowed(asked or route.name)


def visible(owners: Mapping[str, str], principal: Principal | None, route_of: Lookup) -> dict[str, str]:
    """Of the models and their owners, those that the key may call."""
    models = None if principal is None else principal.models
    if models is None:
        return dict(owners)
    return {name: owner for name, owner in owners.items() if _may(name, owner, models, route_of)}


def _may(name: str, owner: str, models: tuple[str, ...], route_of: Lookup) -> bool:
    if _fits(name, models):
        return True
    return _leads(route_of(name), models) if owner == "ai-proxy" else _fits(f"{owner}/{name}", models)


def _leads(route: Route, models: tuple[str, ...]) -> bool:
    return all(_fits(f"{target.provider.name}/{target.model}", models) for target in route.targets)


def _fits(name: str, models: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in models)
