"""What would become of a call for a model, as data and as text."""

from collections.abc import Iterator
from typing import Any

from ai_proxy.core import secrets
from ai_proxy.core.config import Settings
from ai_proxy.core.money import dollars
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.gateway.pricing import Rates
from ai_proxy.gateway.routes import build
from ai_proxy.gateway.routing import Found, Router
from ai_proxy.gateway.targets import Route, Target
from ai_proxy.providers.http import Http

_TRANSLATED = ("chat", "responses", "messages")
_PASSED_ON = ("completions", "embeddings", "moderations")
_UNLESS_LISTED = " (unless a provider's own list has it: lists are not read here)"


async def explain(settings: Settings, model: str | None) -> dict[str, Any]:
    """Raises `ModelNotFound` where a call would get that, `BadRequest` if a model must be named."""
    found = (await router(settings)).explain(model)
    return _as_data(model, found, settings.resolved_providers())


async def router(settings: Settings) -> Router:
    """All as it is built for the service, but no provider is asked. Raises `ConfigurationError`."""
    async with Http() as http:
        return build(settings, http)[0]


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The same for a person."""
    yield f"{found['model'] or '(no model)'}: {found['rule']}{_UNLESS_LISTED if found['unless_listed'] else ''}"
    yield (
        f"At most {found['max_attempts']} tries in {found['total_timeout']:g} s; "
        f"{found['retries']} more of the same target after a refusal that will pass."
    )
    if found["hedge"]:
        yield "The next target is asked too when the first is slower than it mostly is."
    for field, reason in (("on_context_length", "is too long"), ("on_content_filter", "is refused by a filter")):
        if found[field]:
            yield f"If the call {reason}: {found[field]}"
    yield f"Targets ({found['strategy']}):"
    for number, target in enumerate(found["targets"], start=1):
        yield from _target_lines(number, target)


def _target_lines(number: int, target: dict[str, Any]) -> Iterator[str]:
    yield f"{number:3}. {target['provider']}: {target['model']}"
    yield f"     address   {target['base_url']}"
    yield f"     key       {target['api_key'] or '(none)'}"
    yield "     deadlines " + ", ".join(f"{name} {seconds:g} s" for name, seconds in target["deadlines"].items())
    for how in ("native", "translated", "refused"):
        names = [name for name, way in target["dialects"].items() if way == how]
        if names:
            yield f"     {how:9} {', '.join(names)}"
    if target["price"] is not None:
        price = target["price"]
        yield f"     price     ${price['input']} read, ${price['output']} written, a million tokens ({price['source']})"


def _as_data(model: str | None, found: Found, resolved: dict[str, ResolvedProvider]) -> dict[str, Any]:
    route = found.route
    return {
        "model": model,
        "route": route.name,
        "rule": found.rule,
        "unless_listed": found.yields_to_lists and len(resolved) > 1,  # with one provider there is nowhere else to go
        "strategy": route.strategy,
        "retries": route.retries,
        "max_attempts": route.max_attempts,
        "total_timeout": route.total_timeout,
        "hedge": route.hedge,
        "on_context_length": route.on_context_length,
        "on_content_filter": route.on_content_filter,
        "targets": list(_targets(route, resolved)),
    }


def _targets(route: Route, resolved: dict[str, ResolvedProvider]) -> Iterator[dict[str, Any]]:
    for group in route.groups:
        for number, target in enumerate(group):
            yield _target(target, resolved[target.provider.name], number)


def _target(target: Target, provider: ResolvedProvider, key: int) -> dict[str, Any]:
    limits = target.limits
    return {
        "provider": provider.name,
        "model": target.model,
        "base_url": provider.base_url,
        "api_key": secrets.masked(provider.api_keys[key]) if provider.api_keys else None,
        "deadlines": {
            "connect": limits.connect,
            "first_byte": limits.first_byte,
            "idle": limits.idle,
            "total": limits.total,
        },
        "dialects": {dialect: _way(dialect, target) for dialect in (*_TRANSLATED, *_PASSED_ON)},
        "weight": target.weight,
        "price": _price(target.rates),
    }


def _price(rates: Rates | None) -> dict[str, str] | None:
    if rates is None:
        return None
    return {"input": dollars(rates.input), "output": dollars(rates.output), "source": rates.source}


def _way(dialect: str, target: Target) -> str:
    if dialect in target.provider.dialects:
        return "native"
    return "translated" if dialect in _TRANSLATED else "refused"
