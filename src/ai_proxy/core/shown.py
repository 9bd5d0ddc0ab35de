"""Settings as a person may see them: every value that is in force, and who said so. Secrets are masked."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from ai_proxy.core import databases, secrets
from ai_proxy.core.config import Settings
from ai_proxy.core.presets import PRESETS, UNKNOWN
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.sources import Location, Sources, dotted

_HOOK = ("alerts", "url")
_LIMITS = {
    "connect_timeout": "connect",
    "first_byte_timeout": "first_byte",
    "idle_timeout": "idle",
    "total_timeout": "total",
}


class Shown(NamedTuple):
    """One setting: its name as in the file, its value, and where that comes from."""

    setting: str
    value: Any
    source: str


def shown(settings: Settings, sources: Sources) -> list[Shown]:
    """The settings, the providers as they are built, and the models."""
    rows = list(_fields(settings, (), sources))
    for provider in settings.resolved_providers().values():
        rows += _provider(provider, settings, sources)
    for name, model in settings.models.items():
        rows += _fields(model, ("models", name), sources)
    return rows


def _fields(table: BaseModel, location: Location, sources: Sources) -> Iterator[Shown]:
    for field in type(table).model_fields:
        value, here = getattr(table, field), (*location, field)
        if here in {("providers",), ("models",)}:
            continue
        if isinstance(value, BaseModel):
            yield from _fields(value, here, sources)
        else:
            told = _host(value) if here == _HOOK else _plain(value)
            yield Shown(dotted(here), told, sources.origin(here) or "default")


def _provider(provider: ResolvedProvider, settings: Settings, sources: Sources) -> Iterator[Shown]:
    usual = _usual_variables(provider)
    told = settings.providers.get(provider.name)
    for field in ("kind", "base_url", "api_keys", "default_model", "models", "dialects", "api_version", "region"):
        here = ("providers", provider.name, field)
        source = sources.origin(here) or _usual_origin(usual.get(field, ()), sources) or _preset(provider)
        yield Shown(dotted(here), _plain(getattr(provider, field)), source)
    for field in (*_LIMITS, "max_connections"):
        here = ("providers", provider.name, field)
        limit = getattr(provider.limits, _LIMITS[field]) if field in _LIMITS else provider.max_connections
        said = told is not None and getattr(told, field) is not None
        yield Shown(dotted(here), limit, (said and sources.origin(here)) or f"upstream.{field}")


def _usual_variables(provider: ResolvedProvider) -> dict[str, tuple[str | None, ...]]:
    """The variables, not of ours, that decide a provider's fields where nothing else does."""
    preset = PRESETS.get(provider.preset, UNKNOWN)
    usual: dict[str, tuple[str | None, ...]] = {"region": preset.region_variables}
    if provider.api_keys:
        usual["api_keys"] = (preset.key_variable,)
    if provider.name == provider.preset:
        usual["base_url"] = (preset.base_url_variable,)
        usual["api_version"] = (preset.api_version_variable,)
    return usual


def _usual_origin(variables: tuple[str | None, ...], sources: Sources) -> str | None:
    for variable in filter(None, variables):
        if told := sources.variable_origin(variable):
            return f"{told} ({variable})"
    return None


def _preset(provider: ResolvedProvider) -> str:
    return f"preset {provider.preset}" if provider.preset else "default"


def _host(address: str | None) -> str | None:
    """Of an address that is a secret: who knows the token in its path, or the password before it, may write to it."""
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "…"
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{'' if port is None else f':{port}'}/…"


def _plain(value: object) -> Any:
    """As JSON can hold it, secrets masked."""
    match value:
        case SecretStr():
            return secrets.masked(value)
        case BaseModel():
            return {name: _plain(part) for name, part in value if part is not None}
        case tuple() | list():
            return [_plain(part) for part in value]
        case frozenset():
            return sorted(value)
        case None | bool() | int() | float():
            return value
        case _:
            return databases.masked(str(value))  # the database's address may hold a password
