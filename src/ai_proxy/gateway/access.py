"""Which models a key may call: names and patterns, as in a shell (`gpt-*`, `openai/*`)."""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ai_proxy.core.exceptions import BadRequest, ModelNotAllowed
from ai_proxy.core.types import Principal
from ai_proxy.gateway.targets import Route

_MOST_ALTERNATIVES = 20

Lookup = Callable[[str | None], Route]


def check_models(principal: Principal | None, body: Mapping[str, Any], route_of: Lookup) -> None:
    """Raises `ModelNotAllowed` for the model that is asked for, or one that shall take its place."""
    if principal is None or principal.models is None:
        return
    asked = body.get("model")
    check_model(principal.models, asked, route_of)
    if "models" in body:
        for name in alternatives(route_of(asked), body):
            if not (_fits(name, principal.models) or _fits(name.partition("/")[2], principal.models)):
                raise ModelNotAllowed(name)


def alternatives(route: Route, body: Mapping[str, Any]) -> Iterator[str]:
    """Models that a call itself names in case its own fails, each with its provider, which is the one that is asked.

    https://openrouter.ai/docs/guides/routing/model-fallbacks
    """
    names = body.get("models")
    if not isinstance(names, list):
        return
    if len(names) > _MOST_ALTERNATIVES:
        message = f"models: at most {_MOST_ALTERNATIVES} models can be named here."
        raise BadRequest(message, param="models")
    for provider in dict.fromkeys(target.provider.name for target in route.targets):
        for name in names:
            if isinstance(name, str):
                yield f"{provider}/{name}"


def check_model(allowed: tuple[str, ...], asked: str | None, route_of: Lookup) -> None:
    """Raises `ModelNotAllowed` if a pattern fits neither the name that was asked for nor where it leads.

    A name that the operator configured leads to several models, and all of them must be allowed if the name is not.
    Where an allowed call goes when something fails is the operator's choice.
    """
    if asked is not None and _fits(asked, allowed):
        return
    route = route_of(asked)
    if not (asked is None and _fits(route.name, allowed)) and not _leads(route, allowed):
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
