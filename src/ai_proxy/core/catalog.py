"""What an operator says about providers and models: the tables `[providers.NAME]` and `[models.NAME]` of ai-proxy.toml.

Durations are in seconds, prices in US dollars for a million tokens.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from ai_proxy.core import addresses
from ai_proxy.core.presets import Dialect

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Strategy = Literal["order", "weighted", "least-latency", "least-cost"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TimeoutSettings(_Table):
    """Deadlines of one call to a provider. What is unset comes from the provider, and then from `[upstream]`."""

    connect_timeout: Seconds | None = Field(None, description="Seconds for DNS, TCP and TLS.")
    first_byte_timeout: Seconds | None = Field(None, description="Seconds until the answer, or its first token.")
    idle_timeout: Seconds | None = Field(None, description="Seconds of silence between two parts of an answer.")
    total_timeout: Seconds | None = Field(None, description="Seconds for the whole answer.")


def _several(keys: object) -> object:
    return (keys,) if isinstance(keys, str | SecretStr) else keys


class ProviderSettings(TimeoutSettings):
    """One provider. Its name is a preset's, or any other with `preset` or `base_url`."""

    enabled: bool = Field(True, description="Whether it takes part at all.")
    preset: str | None = Field(None, description="The preset to start from, when the name is not one.")
    base_url: Annotated[str, AfterValidator(addresses.checked)] | None = Field(
        None, description="Address, with its path; a preset has one."
    )
    api_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_several)] = Field(
        (), description="Keys, used in turn: env:NAME, file:PATH or the key itself."
    )
    default_model: str | None = Field(None, min_length=1, description="Model for questions that name none.")
    models: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None, description="Models it has. Unset: it is asked."
    )
    dialects: tuple[Dialect, ...] | None = Field(None, description="Wire formats it takes as they are.")
    max_connections: int | None = Field(None, ge=1, description="Calls to it at one time.")
    api_version: str | None = Field(
        None, pattern=r"^[\w.-]+$", description="Azure's api-version, Anthropic's anthropic-version."
    )
    region: str | None = Field(None, pattern=r"^[a-z0-9-]+$", description="Amazon's region.")


Dollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Price(_Table):
    """What is unset costs what `input` or `output` does."""

    input: Dollars = Field(description="Dollars for a million tokens read.")
    output: Dollars = Field(description="Dollars for a million tokens written.")
    cache_read: Dollars | None = Field(None, description="Of those read, the ones from the provider's cache.")
    cache_write: Dollars | None = Field(None, description="Of those read, the ones put into the provider's cache.")
    input_audio: Dollars | None = Field(None, description="Of those read, the ones of sounds.")
    output_audio: Dollars | None = Field(None, description="Of those written, the ones of sounds.")
    request: Dollars = Field(0.0, description="Dollars for each call, besides.")


class TargetSettings(TimeoutSettings):
    """A provider's model. In the file, `"provider/model"` says the same as `{provider = …, model = …}`."""

    provider: str = Field(min_length=1, description="Name of the provider.")
    model: str = Field(min_length=1, description="The model's name there.")
    weight: float = Field(1.0, gt=0, le=1000, allow_inf_nan=False, description="Share of the calls, if weighted.")
    price: Price | None = Field(None, description="What it costs. Unset: the list price.")


def _spelled_out(target: object) -> object:
    if not isinstance(target, str):
        return target
    provider, slash, model = target.partition("/")
    if not slash:
        message = "must be 'provider/model'"
        raise ValueError(message)
    return {"provider": provider, "model": model}


class ModelSettings(_Table):
    """A model as callers name it, and where its calls go."""

    targets: tuple[Annotated[TargetSettings, BeforeValidator(_spelled_out)], ...] = Field(
        description="Where its calls go."
    )
    strategy: Strategy = Field("order", description="How the targets take turns.")
    aliases: tuple[str, ...] = Field((), description="Other names of this model.")
    retries: int = Field(1, ge=0, le=10, description="More tries of the same target after a refusal that will pass.")
    max_attempts: int = Field(4, ge=1, le=20, description="Most tries of a call over all targets.")
    total_timeout: Seconds | None = Field(
        None, description="Seconds for a call, with all its tries. Unset: as many as the target has that gets most."
    )
    hedge: bool = Field(False, description="Ask the next target too when the first is slower than it mostly is.")
    on_context_length: str | None = Field(None, description="Model for calls that are too long for this one.")
    on_content_filter: str | None = Field(None, description="Model for calls that this one's filter refuses.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.targets:
            message = "targets: there must be one at least"
            raise ValueError(message)
        names = [(target.provider, target.model) for target in self.targets]
        if len(set(names)) < len(names):
            message = "targets: each target may be named once"
            raise ValueError(message)
        return self
