"""Providers as they will be built: what the operator says of one, over its preset, with its keys read."""

import re
from collections.abc import Mapping

import msgspec
from pydantic import SecretStr

from ai_proxy.core import addresses, secrets
from ai_proxy.core.catalog import ProviderSettings, TimeoutSettings
from ai_proxy.core.presets import PRESETS, UNKNOWN, Dialect, Kind, Preset
from ai_proxy.core.sources import ConfigurationError, Problem, Sources
from ai_proxy.core.types import Bounds

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # of one case, since variables' names are compared without regard to it
_REGION = re.compile(r"[a-z0-9-]+")
_CHAT: frozenset[Dialect] = frozenset({"chat"})
_OPENAI: frozenset[Dialect] = frozenset({"chat", "responses", "messages", "completions", "embeddings", "moderations"})
_CAN_TAKE: dict[Kind, frozenset[Dialect]] = {"openai": _OPENAI, "anthropic": frozenset({"chat", "messages"})}


class ResolvedProvider(msgspec.Struct, frozen=True, kw_only=True):
    """All that the builder of a provider needs. For what a field means see `Preset`.

    Of the kinds openai and anthropic, `base_url` is what `/chat/completions`, `/messages`, `/models` … follow; of
    gemini, what `/models/NAME:generateContent` follows; of bedrock, `/model/NAME/converse`. If `deployments`,
    `/deployments/MODEL` stands between, and `?api-version=` at the end.
    """

    name: str
    preset: str  # "": none
    kind: Kind
    base_url: str
    api_keys: tuple[SecretStr, ...] = ()
    key_header: str
    default_model: str
    models: tuple[str, ...] | None
    dialects: frozenset[Dialect]
    max_connections: int
    limits: Bounds
    api_version: str | None
    region: str | None
    prefixes: tuple[str, ...]
    vendored: bool
    own_names: tuple[str, ...]
    deployments: bool
    usage_option: bool
    completion_limit: bool | None


class Defaults(msgspec.Struct, frozen=True):
    """What holds for every provider that does not say otherwise."""

    limits: Bounds
    max_connections: int


def resolve(
    given: Mapping[str, ProviderSettings], sources: Sources, defaults: Defaults, *, required: bool = True
) -> dict[str, ResolvedProvider]:
    """Providers by name, first choice first: those given, then those whose variables are set.

    Raises `ConfigurationError` with all that is wrong. Unless `required`, no key is read, and what is missing is not
    wrong: it is left out.
    """
    problems = _wrong_addresses(sources)
    found: dict[str, ResolvedProvider] = {}
    for name, settings in _taking_part(given, sources).items():
        draft = _Draft(name, settings, sources, required=required)
        provider = draft.resolve(defaults)
        problems += draft.problems
        if provider is not None:
            found[name] = provider
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))
    return found


def mock(defaults: Defaults) -> ResolvedProvider:
    """The mock, which answers when nothing else is set up."""
    return _resolved("mock", ProviderSettings(), PRESETS["mock"], defaults)


def address_without_key(sources: Sources) -> tuple[str, str] | None:
    """The usual variables of a provider of which only that for the address is set. It stays off."""
    for preset in PRESETS.values():
        address, key = preset.base_url_variable, preset.key_variable
        if address and key and sources.variable(address) and not sources.variable(key):
            return address, key
    return None


def narrowed(limits: Bounds, settings: TimeoutSettings) -> Bounds:
    """The limits, with what a provider or a target says otherwise."""
    given = {
        "connect": settings.connect_timeout,
        "first_byte": settings.first_byte_timeout,
        "idle": settings.idle_timeout,
        "total": settings.total_timeout,
    }
    return msgspec.structs.replace(limits, **{name: value for name, value in given.items() if value is not None})


class _Draft:
    """One provider on its way; `problems` are what is wrong with it."""

    def __init__(self, name: str, settings: ProviderSettings, sources: Sources, *, required: bool) -> None:
        self._name = name
        self._settings = settings
        self._sources = sources
        self._required = required
        self._preset = PRESETS.get(settings.preset or name, UNKNOWN)
        self._is_the_preset = name in PRESETS and settings.preset in {None, name}  # not a second one beside it
        self.problems: list[Problem] = []

    def resolve(self, defaults: Defaults) -> ResolvedProvider | None:
        if not self._is_known():
            return None
        region, api_version = self._region(), self._api_version()
        base_url = self._address(region, api_version)
        if base_url is None:
            return None
        self._check_dialects()
        home = self._preset.base_url.replace("{region}", region or "")
        at_home = self._preset.local or not home or addresses.is_at(base_url, home)
        keys = self._keys(at_home=at_home) if self._required else ()
        settings = self._settings.model_copy(
            update={"base_url": base_url, "region": region, "api_version": api_version, "api_keys": keys}
        )
        return _resolved(self._name, settings, self._preset if at_home else _elsewhere(self._preset), defaults)

    def _is_known(self) -> bool:
        if not _NAME.fullmatch(self._name):
            self._wrong("is no name for a provider: small letters, digits, dots, dashes and underscores only")
        elif self._settings.preset and self._settings.preset not in PRESETS:
            self._wrong(f"there is no such preset, only {', '.join(PRESETS)}", "preset")
        elif self._preset is UNKNOWN and self._settings.base_url is None:
            self._wrong(f"is no preset's name, so preset or base_url must be set. Presets: {', '.join(PRESETS)}")
        else:
            return True
        return False

    def _region(self) -> str | None:
        if self._settings.region is not None:
            return self._settings.region
        for variable in self._preset.region_variables:
            if region := self._sources.variable(variable):
                if _REGION.fullmatch(region):
                    return region
                self.problems.append(Problem(variable, "is not a region"))
        return None

    def _api_version(self) -> str | None:
        usual = self._sources.variable(self._preset.api_version_variable) if self._is_the_preset else None
        return self._settings.api_version or usual or self._preset.api_version

    def _address(self, region: str | None, api_version: str | None) -> str | None:
        preset = self._preset
        base_url = self._settings.base_url or self._usual_address() or preset.base_url
        if not base_url:
            self._missing(f"is missing: set {preset.base_url_variable}", "base_url")
            return None
        if "{region}" in base_url and region is None:
            self._missing(f"is missing: set {preset.region_variables[0]}", "region")
            return None
        base_url = addresses.ending_with(base_url.replace("{region}", region or ""), preset.path)
        return base_url.removesuffix("/v1") if preset.deployments and _is_dated(api_version) else base_url

    def _usual_address(self) -> str | None:
        url = self._sources.variable(self._preset.base_url_variable) if self._is_the_preset else None
        return url.rstrip("/") if url else None  # whether it is one at all has been looked at

    def _check_dialects(self) -> None:
        foreign = set(self._settings.dialects or ()) - _CAN_TAKE.get(self._preset.kind, _CHAT)
        if foreign:
            self._wrong(f"no provider of this kind takes {', '.join(sorted(foreign))} as it is", "dialects")

    def _keys(self, *, at_home: bool) -> tuple[SecretStr, ...]:
        """Keys that are given; else the preset's usual one, which goes nowhere but to its own address or name."""
        preset, given = self._preset, self._settings.api_keys
        if not given and (at_home or self._is_the_preset) and self._sources.variable(preset.key_variable):
            given = (SecretStr(f"env:{preset.key_variable}"),)
        if not given and at_home and not (preset.local or preset.keyless):
            self._missing(f"is missing: set {preset.key_variable}", "api_keys")
        return tuple(key for key in map(self._key, given) if key is not None)

    def _key(self, written: SecretStr) -> SecretStr | None:
        try:
            return secrets.read(written, self._sources.variable)
        except secrets.UnreadableSecret as error:
            self.problems.append(Problem(error.where or self._where("api_keys"), str(error)))
            return None

    def _missing(self, what: str, field: str) -> None:
        if self._required:
            self._wrong(what, field)

    def _wrong(self, what: str, field: str | None = None) -> None:
        self.problems.append(Problem(self._where(field), what))

    def _where(self, field: str | None) -> str:
        return self._sources.where(["providers", self._name, *([field] if field else [])])


def _taking_part(given: Mapping[str, ProviderSettings], sources: Sources) -> dict[str, ProviderSettings]:
    found = {name: settings for name, settings in given.items() if settings.enabled}
    for name, preset in PRESETS.items():
        by_key = preset.by_key and sources.variable(preset.key_variable)
        by_address = preset.local and sources.variable(preset.base_url_variable)
        if name not in given and (by_key or by_address):
            found[name] = ProviderSettings()
    return found


def _wrong_addresses(sources: Sources) -> list[Problem]:
    """The usual variables for addresses are looked at whether they are in use or not."""
    problems = []
    for preset in PRESETS.values():
        variable = preset.base_url_variable
        url = sources.variable(variable)
        if variable is None or url is None:
            continue
        try:
            addresses.checked(url)
        except ValueError as error:
            problems.append(Problem(variable, str(error)))
    return problems


def _elsewhere(preset: Preset) -> Preset:
    """What remains of a preset at an address that is not its own: the format that it is known to speak."""
    if preset.kind != "openai":
        return preset
    kept = preset.dialects & UNKNOWN.dialects
    return msgspec.structs.replace(preset, dialects=kept, models=None, completion_limit=None)


def _is_dated(api_version: str | None) -> bool:
    return api_version is not None and api_version[0].isdigit()


def _resolved(name: str, settings: ProviderSettings, preset: Preset, defaults: Defaults) -> ResolvedProvider:
    deployments = preset.deployments and _is_dated(settings.api_version)
    usual_dialects = preset.dialects - {"responses"} if deployments else preset.dialects
    return ResolvedProvider(
        name=name,
        preset=settings.preset or (name if name in PRESETS else ""),
        kind=preset.kind,
        base_url=settings.base_url or preset.base_url,
        api_keys=settings.api_keys,
        key_header=preset.key_header,
        default_model=settings.default_model or preset.default_model,
        models=preset.models if settings.models is None else settings.models,
        dialects=usual_dialects if settings.dialects is None else _CHAT | set(settings.dialects),
        max_connections=settings.max_connections or defaults.max_connections,
        limits=narrowed(defaults.limits, settings),
        api_version=settings.api_version,
        region=settings.region,
        prefixes=preset.prefixes,
        vendored=preset.vendored,
        own_names=preset.own_names,
        deployments=deployments,
        usage_option=preset.usage_option,
        completion_limit=preset.completion_limit,
    )
