"""Settings: each field is an environment variable, or a line of `.env` in the working directory.

Names are `AI_PROXY_` + the field's path with `__` between its parts (`AI_PROXY_UPSTREAM__TOTAL_TIMEOUT`), but for those
that have a usual name of their own. Durations are in seconds, sizes in bytes.
"""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

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
    max_connections: int = Field(1000, ge=1, description="Calls to providers at one time.")
    pool_timeout: Seconds = Field(5, description="Seconds to wait for one of them to end before answering 503.")
    max_response_bytes: Bytes = Field(32 * 2**20, description="Largest answer taken from a provider.")


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

    host: str = Field("127.0.0.1", validation_alias="HOST", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, validation_alias="PORT", description="Port to listen on.")
    database_url: str = Field(
        "sqlite+aiosqlite:///data/ai-proxy.db",
        validation_alias="DATABASE_URL",
        description="Where the history is kept.",
    )
    mock_mode: bool | None = Field(
        None, validation_alias="MOCK_MODE", description="Answer without a provider. Unset: only when no key is set."
    )
    openai_api_key: SecretStr | None = Field(None, validation_alias="OPENAI_API_KEY", description="Key for OpenAI.")
    openai_base_url: str = Field(
        "https://api.openai.com/v1",
        validation_alias="OPENAI_BASE_URL",
        description="OpenAI, or any server that speaks its wire format.",
    )
    openrouter_api_key: SecretStr | None = Field(
        None, validation_alias="OPENROUTER_API_KEY", description="Key for OpenRouter."
    )
    openrouter_base_url: str = Field(
        "https://openrouter.ai/api/v1", validation_alias="OPENROUTER_BASE_URL", description="OpenRouter's address."
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

    @property
    def uses_mock(self) -> bool:
        """Whether answers come from the mock provider."""
        if self.mock_mode is None:
            return self.openai_api_key is None and self.openrouter_api_key is None
        return self.mock_mode

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

    @field_validator("openai_base_url", "openrouter_base_url")
    @classmethod
    def _base_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            message = "must begin with http:// or https://"
            raise ValueError(message)
        parts = urlsplit(url)
        if not (url.isascii() and url.isprintable() and " " not in url and parts.hostname and parts.port != 0):
            message = "is not an address"
            raise ValueError(message)
        if parts.query or parts.fragment:
            message = "must end with its path: a query or a fragment cannot be kept"
            raise ValueError(message)
        if parts.username is not None or parts.password is not None:
            message = "must not hold a name or a password: the key goes into its own variable"
            raise ValueError(message)
        return url.rstrip("/")

    @field_validator("api_key", "openai_api_key", "openrouter_api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        text = "" if key is None else key.get_secret_value()
        if not (text.isascii() and text.isprintable() and text == text.strip()):
            message = "has characters that cannot be sent in a header: spaces around it, or others than ASCII"
            raise ValueError(message)
        return key

    @model_validator(mode="after")
    def _has_a_provider(self) -> Self:
        if self.mock_mode is False and self.openai_api_key is None and self.openrouter_api_key is None:
            message = "MOCK_MODE is false and no provider key is set: set OPENAI_API_KEY or OPENROUTER_API_KEY"
            raise ValueError(message)
        return self

    @property
    def given_key(self) -> str | None:
        """The operator's own API key."""
        return None if self.api_key is None else self.api_key.get_secret_value()

    @property
    def data_directory(self) -> Path:
        """The directory of the database file, where the server's secret is kept too."""
        return Path(self.database_url.partition(":///")[2].partition("?")[0]).parent


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. Exits with one clear line a problem when a value is wrong."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [f"ai-proxy: {_variable(problem['loc'])}: {_reason(problem)}" for problem in error.errors()]
        raise SystemExit("\n".join(problems)) from None
    except (OSError, UnicodeDecodeError) as error:
        message = f"ai-proxy: .env cannot be read: {error}"
        raise SystemExit(message) from None


def _reason(problem: ErrorDetails) -> str:
    """What is wrong, without the value: it may be a secret."""
    if problem["type"] in {"too_short", "string_too_short"}:
        return f"must have at least {problem['ctx']['min_length']} characters"
    if problem["type"] in {"too_long", "string_too_long"}:
        return f"must have at most {problem['ctx']['max_length']} characters"
    return problem["msg"].removeprefix("Value error, ")


def _variable(location: tuple[int | str, ...]) -> str:
    """The environment variable that a validation error speaks of."""
    if not location:
        return "settings"
    field = Settings.model_fields.get(str(location[0]))
    if field is None:
        return str(location[0])
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return "AI_PROXY_" + "__".join(str(part) for part in location).upper()
