"""What must fit together in settings: names that refer to others, and addresses that must not lead back here."""

from collections.abc import Iterator, Mapping

from ai_proxy.core import addresses, databases
from ai_proxy.core.catalog import ModelSettings, ProviderSettings
from ai_proxy.core.presets import PRESETS
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.sources import Problem, Sources


def models_fit(
    models: Mapping[str, ModelSettings],
    known: Mapping[str, object],
    given: Mapping[str, ProviderSettings],
    sources: Sources,
) -> Iterator[Problem]:
    """Targets must name providers that are `known`, aliases must be names of one model only."""
    for name, model in models.items():
        for number, target in enumerate(model.targets):
            if target.provider not in known:
                where = sources.where(["models", name, "targets", number])
                yield Problem(where, _unknown(target.provider, known, given))
        for field in ("on_context_length", "on_content_filter"):
            fallback = getattr(model, field)
            if fallback is not None and not _leads_somewhere(fallback, models, known):
                yield Problem(sources.where(["models", name, field]), f"there is no model {fallback!r}")
    yield from _names_clash(models, sources)


def no_circle(
    providers: Mapping[str, ResolvedProvider], *, host: str, port: int, sources: Sources
) -> Iterator[Problem]:
    """A provider whose address is this service's own would be asked by itself, and ask itself, and so on."""
    for name, provider in providers.items():
        if addresses.leads_to(provider.base_url, host, port):
            what = "is the address of this service itself, as HOST and PORT have it: change one of the two"
            yield Problem(sources.where(["providers", name, "base_url"]), f"{provider.base_url} {what}")


def shared_secret(url: str, secret: object, sources: Sources) -> Iterator[Problem]:
    """Processes on several machines share a database on a server, so none can make up the secret of its keys."""
    if secret is None and databases.is_on_a_server(url):
        what = (
            "must be set with PostgreSQL: all processes that share a database need the same (openssl rand -base64 32)"
        )
        yield Problem(sources.where(["secret"]), what)


def variables_of_providers(given: Mapping[str, ProviderSettings]) -> frozenset[str]:
    """All that may be read for a provider: the presets' usual variables, and those that tables name."""
    usual = (
        name
        for preset in PRESETS.values()
        for name in (
            preset.key_variable,
            preset.base_url_variable,
            preset.api_version_variable,
            *preset.region_variables,
        )
    )
    named = (key.get_secret_value() for settings in given.values() for key in settings.api_keys)
    return frozenset(filter(None, usual)) | {key.removeprefix("env:") for key in named if key.startswith("env:")}


def _names_clash(models: Mapping[str, ModelSettings], sources: Sources) -> Iterator[Problem]:
    owners = {name: name for name in models}
    for name, model in models.items():
        if not name.strip():
            yield Problem(sources.where(["models", name]), "a model must have a name")
        for alias in model.aliases:
            owner = owners.setdefault(alias, name)
            if owner != name or alias == name or model.aliases.count(alias) > 1:
                where = sources.where(["models", name, "aliases"])
                yield Problem(where, f"{alias!r} is already a name of the model {owner!r}")


def _leads_somewhere(name: str, models: Mapping[str, ModelSettings], known: Mapping[str, object]) -> bool:
    provider, slash, _ = name.partition("/")
    if slash and provider in known:
        return True
    return name in models or any(name in model.aliases for model in models.values())


def _unknown(provider: str, known: Mapping[str, object], given: Mapping[str, ProviderSettings]) -> str:
    if provider in given:
        return f"the provider {provider!r} is switched off"
    preset = PRESETS.get(provider)
    if preset is None:
        return f"there is no provider {provider!r}, only {', '.join(known) or 'the mock'}"
    way = f"set {preset.key_variable}, or " if preset.by_key and preset.key_variable else ""
    return f"the provider {provider!r} is not set up: {way}add [providers.{provider}]"
