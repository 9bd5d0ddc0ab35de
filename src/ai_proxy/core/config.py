"""Settings: each field is an environment variable, a line of `.env`, or a key of `ai-proxy.toml`.

Names are `AI_PROXY_` + the field's path with `__` between its parts (`AI_PROXY_UPSTREAM__TOTAL_TIMEOUT`), but for those
that have a usual name of their own; in the file, the fields' names. Durations are in seconds, sizes in bytes.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ai_proxy.core import checks, resolved, secrets
from ai_proxy.core.catalog import ModelSettings, ProviderSettings, TargetSettings
from ai_proxy.core.presets import PRESETS
from ai_proxy.core.reasons import reason_of
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.sources import ConfigurationError, FileSource, Problem, Sources, variable_of
from ai_proxy.core.types import Limits

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=1024)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MockSettings(_Group):
    latency: float = Field(0.3, ge=0, le=600, description="Seconds before the mock answers.")
    token_delay: float = Field(0.02, ge=0, le=60, description="Seconds between the words of a mock stream.")


class UpstreamSettings(_Group):
    connect_timeout: Seconds = Field(5, description="Seconds for DNS, TCP and TLS.")
    first_byte_timeout: Seconds = Field(120, description="Seconds until the answer, or a stream's first event, begins.")
    idle_timeout: Seconds = Field(60, description="Seconds of silence between two parts of an answer.")
    total_timeout: Seconds = Field(600, description="Seconds for the whole answer.")
    max_connections: int = Field(1000, ge=1, description="Calls to a provider at one time.")
    pool_timeout: Seconds = Field(5, description="Seconds to wait for one of them to end before answering 503.")
    max_response_bytes: Bytes = Field(32 * 2**20, description="Largest answer taken from a provider.")

    @property
    def limits(self) -> Limits:
        """The limits of a call to a provider that has none of its own."""
        return Limits(
            connect=self.connect_timeout,
            first_byte=self.first_byte_timeout,
            idle=self.idle_timeout,
            total=self.total_timeout,
            max_bytes=self.max_response_bytes,
        )


class CacheSettings(_Group):
    ttl: float = Field(0, ge=0, le=31_536_000, description="Seconds that an answer is given again. 0: no answer is.")
    max_bytes: Bytes = Field(64 * 2**20, description="Memory for answers; the longest unused go first.")
    coalesce: bool = Field(False, description="Let equal calls at one time share one answer.")


class RecorderSettings(_Group):
    capacity: int = Field(10_000, ge=1, description="Calls not yet in the history; more are refused with 503.")
    max_characters: int = Field(
        64 * 2**20, ge=1024, description="Characters of text not yet in the history; more are refused."
    )
    batch: int = Field(500, ge=1, le=10_000, description="Most rows in one transaction.")
    interval: float = Field(0.02, ge=0, le=1, description="Least seconds between two transactions.")
    wait: Seconds = Field(5, description="Most seconds an answer waits for its row.")


class ServerSettings(_Group):
    max_connections: int = Field(10_000, ge=1, description="Connections of clients at one time; more are refused.")
    header_timeout: Seconds = Field(10, description="Seconds for the headers of a request.")
    body_timeout: Seconds = Field(30, description="Seconds for the body of a request.")
    write_timeout: Seconds = Field(60, description="Seconds that a client may leave sent data unread.")
    keep_alive: int = Field(75, ge=1, le=3600, description="Seconds an idle connection is kept.")
    max_header_bytes: Bytes = Field(64 * 2**10, description="Largest request line and headers.")
    max_body_bytes: Bytes = Field(10 * 2**20, description="Largest request body.")
    ping_interval: Seconds = Field(15, description="Seconds of silence before a comment is sent on a stream.")
    shutdown_timeout: int = Field(30, ge=1, le=3600, description="Seconds that running calls get at shutdown.")


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
    server: ServerSettings = ServerSettings()
    cache: CacheSettings = CacheSettings()
    providers: dict[str, ProviderSettings] = Field({}, description="Providers, first choice first.")
    models: dict[str, ModelSettings] = Field({}, description="Models by the names that callers use.")

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
        scheme, separator, rest = url.partition("://")
        if scheme not in {"sqlite", "sqlite+aiosqlite"} or not separator:
            message = "only SQLite is supported: sqlite+aiosqlite:///path/to/file.db"
            raise ValueError(message)
        if not rest.startswith("/") or rest == "/" or ":memory:" in rest:
            message = "must name a file after three slashes, as in sqlite+aiosqlite:///data/ai-proxy.db"
            raise ValueError(message)
        return f"sqlite+aiosqlite://{rest}"

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
        return Path(self.database_url.partition(":///")[2].partition("?")[0]).parent


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
