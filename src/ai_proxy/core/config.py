"""Settings: each field is an environment variable, a line of `.env`, or a key of `ai-proxy.toml`.

Names are `AI_PROXY_` + the field's path with `__` between its parts (`AI_PROXY_UPSTREAM__TOTAL_TIMEOUT`), but for those
that have a usual name of their own; in the file, the fields' names. Durations are in seconds, sizes in bytes.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ai_proxy.core import checks, databases, resolved, secrets
from ai_proxy.core.catalog import ModelSettings, Price, ProviderSettings, TargetSettings
from ai_proxy.core.groups import (
    AlertSettings,
    BudgetSettings,
    CacheSettings,
    MockSettings,
    OidcSettings,
    PricingSettings,
    RecorderSettings,
    RetentionSettings,
    ServerSettings,
    SessionSettings,
    UpstreamSettings,
)
from ai_proxy.core.presets import PRESETS
from ai_proxy.core.privacy import EncryptionSettings, RedactionSettings
from ai_proxy.core.reasons import reason_of
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.sources import ConfigurationError, FileSource, Problem, Sources, variable_of


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="AI_PROXY_",
        env_nested_delimiter="__",
        enable_decoding=False,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    config: Path | None = Field(None, description="The file of settings, instead of ai-proxy.toml.")
    host: str = Field("127.0.0.1", validation_alias="HOST", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, validation_alias="PORT", description="Port to listen on.")
    database_url: str = Field(
        "sqlite+aiosqlite:///data/ai-proxy.db",
        validation_alias="DATABASE_URL",
        repr=False,  # there may be a password in it
        description="Where the history is kept.",
    )
    mock_mode: bool | None = Field(
        None, validation_alias="MOCK_MODE", description="Answer without a provider. Unset: only when none is set up."
    )
    default_model: str | None = Field(None, min_length=1, description="Model for questions that name none.")
    api_key: SecretStr | None = Field(
        None, min_length=20, max_length=512, description="The first API key, instead of a generated one."
    )
    secret: SecretStr | None = Field(
        None, min_length=20, description="Server secret that keys are hashed with, instead of a generated file."
    )
    migrate: bool = Field(True, description="Bring the database to the current schema at start.")
    conversation_budget: int = Field(
        100_000, ge=0, description="Most characters of earlier exchanges sent along with a question."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="One JSON object a line, or colours; auto: colours on a terminal."
    )
    mock: MockSettings = MockSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    recorder: RecorderSettings = RecorderSettings()
    retention: RetentionSettings = RetentionSettings()
    server: ServerSettings = ServerSettings()
    cache: CacheSettings = CacheSettings()
    pricing: PricingSettings = PricingSettings()
    budgets: BudgetSettings = BudgetSettings()
    alerts: AlertSettings = AlertSettings()
    sessions: SessionSettings = SessionSettings()
    oidc: OidcSettings = OidcSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    redaction: RedactionSettings = RedactionSettings()
    providers: dict[str, ProviderSettings] = Field({}, description="Providers, first choice first.")
    models: dict[str, ModelSettings] = Field({}, description="Models by the names that callers use.")
    prices: dict[str, Price] = Field({}, description="Prices by provider/model, instead of the list prices.")

    _providers: dict[str, ResolvedProvider] = PrivateAttr(default_factory=dict)
    _address_without_key: tuple[str, str] | None = PrivateAttr(None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first that says something wins."""
        above = (init_settings, env_settings, dotenv_settings)
        path = next((told["config"] for source in above if (told := source()).get("config")), None)
        return (*above, FileSource.of(settings_cls, path))

    @property
    def uses_mock(self) -> bool:
        """Whether answers come from the mock provider alone."""
        return not self._providers if self.mock_mode is None else self.mock_mode

    def resolved_providers(self) -> dict[str, ResolvedProvider]:
        """Providers by name, ready to be built, first choice first. Never empty."""
        return {"mock": resolved.mock(self._defaults)} if self.uses_mock else dict(self._providers)

    def resolved_models(self) -> dict[str, ModelSettings]:
        """Models by the names that callers use. In mock mode all of them are the mock's."""
        if not self.uses_mock:
            return self.models
        return {
            name: model.model_copy(update={"targets": (TargetSettings(provider="mock", model=name),)})
            for name, model in self.models.items()
        }

    @property
    def address_without_key(self) -> tuple[str, str] | None:
        """A variable that gives a provider an address, and the one that is unset and would turn that provider on."""
        return self._address_without_key

    @field_validator("database_url")
    @classmethod
    def _async_driver(cls, url: str) -> str:
        return databases.normalized(url)

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        try:
            return None if key is None else secrets.sendable(key.get_secret_value())
        except secrets.UnreadableSecret as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _resolve_providers(self) -> Self:
        """Read the keys and see whether all fits together. Raises `ConfigurationError`."""
        sources = Sources(type(self), self.config)
        found = resolved.resolve(self.providers, sources, self._defaults, required=not self.mock_mode)
        known = {**PRESETS, **found} if self.mock_mode else found
        problems = list(checks.models_fit(self.models, known, self.providers, sources))
        problems += checks.shared_secret(self.database_url, self.secret, sources)
        if not self.mock_mode:
            problems += checks.no_circle(found, host=self.host, port=self.port, sources=sources)
        if self.mock_mode is False and not found:
            what = "is false, and no provider is set up: set OPENAI_API_KEY or OPENROUTER_API_KEY, or another one's key"
            problems.append(Problem(sources.where(["mock_mode"]), what))
        if problems:
            raise ConfigurationError(*problems)
        self._providers.update(found)
        self._address_without_key = resolved.address_without_key(sources)
        return self

    @property
    def _defaults(self) -> resolved.Defaults:
        return resolved.Defaults(self.upstream.limits, self.upstream.max_connections)

    @property
    def given_key(self) -> str | None:
        """The operator's own API key."""
        return None if self.api_key is None else self.api_key.get_secret_value()

    @property
    def data_directory(self) -> Path:
        """The directory of the database file, where the server's secret is kept too."""
        return databases.directory(self.database_url)


def read_settings(**overrides: object) -> Settings:
    """The settings as they are now. Raises `ConfigurationError` with all that is wrong with them."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [_problem(details, overrides) for details in error.errors()]
        raise ConfigurationError(*problems) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(Problem(".env", f"cannot be read: {error}")) from None


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. Exits with one clear line a problem when a value is wrong."""
    try:
        return read_settings(**overrides)
    except ConfigurationError as error:
        raise SystemExit("\n".join(f"ai-proxy: {problem}" for problem in error.problems)) from None


def _problem(details: ErrorDetails, overrides: dict[str, object]) -> Problem:
    first, *rest = details["loc"]
    location = (_ALIASES.get(first, first), *rest)
    reason = reason_of(details, location, Settings)
    if location[0] in overrides:
        return Problem(variable_of(Settings, location), reason)
    return Problem(Sources(Settings).where(location), reason)


_ALIASES: dict[str | int, str] = {
    field.validation_alias: name
    for name, field in Settings.model_fields.items()
    if isinstance(field.validation_alias, str)
}
