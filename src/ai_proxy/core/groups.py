"""The groups of settings: how much of what, and for how long. Durations are in seconds, sizes in bytes."""

import base64
import binascii
import ipaddress
import re
from importlib.util import find_spec
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from ai_proxy.core.catalog import Seconds
from ai_proxy.core.types import Bounds

Bytes = Annotated[int, Field(ge=1024)]


MOST_DAYS = 36_500

_Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def with_commas(given: object) -> object:
    """Several values, as a variable has them: with commas in between."""
    return tuple(filter(None, map(str.strip, given.split(",")))) if isinstance(given, str) else given


class MockSettings(Group):
    latency: float = Field(0.3, ge=0, le=600, description="Seconds before the mock answers.")
    token_delay: float = Field(0.02, ge=0, le=60, description="Seconds between the words of a mock stream.")


class UpstreamSettings(Group):
    connect_timeout: Seconds = Field(5, description="Seconds for DNS, TCP and TLS.")
    first_byte_timeout: Seconds = Field(120, description="Seconds until the answer, or a stream's first event, begins.")
    idle_timeout: Seconds = Field(60, description="Seconds of silence between two parts of an answer.")
    total_timeout: Seconds = Field(600, description="Seconds for the whole answer.")
    max_connections: int = Field(1000, ge=1, description="Calls to a provider at one time.")
    pool_timeout: Seconds = Field(5, description="Seconds to wait for one of them to end before answering 503.")
    max_response_bytes: Bytes = Field(32 * 2**20, description="Largest answer taken from a provider.")

    @property
    def limits(self) -> Bounds:
        """The limits of a call to a provider that has none of its own."""
        return Bounds(
            connect=self.connect_timeout,
            first_byte=self.first_byte_timeout,
            idle=self.idle_timeout,
            total=self.total_timeout,
            max_bytes=self.max_response_bytes,
        )


class CacheSettings(Group):
    ttl: float = Field(0, ge=0, le=31_536_000, description="Seconds that an answer is given again. 0: no answer is.")
    max_bytes: Bytes = Field(64 * 2**20, description="Memory for answers; the longest unused go first.")
    coalesce: bool = Field(False, description="Let equal calls at one time share one answer.")


class RecorderSettings(Group):
    capacity: int = Field(10_000, ge=1, description="Calls not yet in the history; more are refused with 503.")
    max_characters: int = Field(
        64 * 2**20, ge=1024, description="Characters of text not yet in the history; more are refused."
    )
    batch: int = Field(500, ge=1, le=10_000, description="Most rows in one transaction.")
    interval: float = Field(0.02, ge=0, le=1, description="Least seconds between two transactions.")
    wait: Seconds = Field(5, description="Most seconds an answer waits for its row to be in the database.")
    spool_max_bytes: int = Field(
        2**30, ge=1024, description="Most bytes of rows that wait on the disk; more calls are refused with 503."
    )


class RetentionSettings(Group):
    days: _Days | None = Field(None, description="Days that calls stay in the history; unset: for ever.")
    text_days: _Days | None = Field(None, description="Days that texts stay, if not as long as figures.")
    keep_texts: bool = Field(True, description="Whether texts are kept at all; if not, figures alone are.")


class ServerSettings(Group):
    max_connections: int = Field(10_000, ge=1, description="Connections of clients at one time; more are refused.")
    header_timeout: Seconds = Field(10, description="Seconds for the headers of a request.")
    body_timeout: Seconds = Field(30, description="Seconds for the body of a request.")
    write_timeout: Seconds = Field(60, description="Seconds that a client may leave sent data unread.")
    keep_alive: int = Field(75, ge=1, le=3600, description="Seconds an idle connection is kept.")
    max_header_bytes: Bytes = Field(64 * 2**10, description="Largest request line and headers.")
    max_body_bytes: Bytes = Field(10 * 2**20, description="Largest request body.")
    ping_interval: Seconds = Field(15, description="Seconds of silence before a comment is sent on a stream.")
    shutdown_timeout: int = Field(30, ge=1, le=3600, description="Seconds that running calls get at shutdown.")
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses and networks of reverse proxies, with commas between them; `none` for no proxy.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        """As they are, each with a form that it can have: all the others would never be met."""
        if text.strip() == "none":
            return ""
        try:
            networks = [str(ipaddress.ip_network(part.strip())) for part in text.split(",")]
        except ValueError:
            message = "must be addresses or networks, as in 127.0.0.1,10.0.0.0/8, or none"
            raise ValueError(message) from None
        return ",".join(networks)


class PricingSettings(Group):
    unpriced: Literal["allow", "refuse"] = Field("allow", description="What becomes of calls whose price nobody knows.")


class BudgetSettings(Group):
    max_output_tokens: int = Field(
        16_384, ge=1, description="Most tokens an answer may have when its call is under a budget and says no limit."
    )
    wait: float = Field(5, ge=0, le=60, description="Seconds to wait for running calls to release what is reserved.")


class AlertSettings(Group):
    url: str | None = Field(None, pattern=r"^https?://", description="Address that is told when a budget runs out.")
    secret: SecretStr | None = Field(None, min_length=16, description="What these messages are signed with.")

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, secret: SecretStr | None) -> SecretStr | None:
        """`whsec_` says that base64 follows, and what cannot be read is found out at start."""
        text = "" if secret is None else secret.get_secret_value()
        if text.startswith("whsec_"):
            try:
                base64.b64decode(text.removeprefix("whsec_"), validate=True)
            except binascii.Error:
                message = "begins with whsec_, and what follows is not base64"
                raise ValueError(message) from None
        return secret

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if self.url is not None and self.secret is None:
            message = "secret: must be set when url is: messages without a signature could be anybody's"
            raise ValueError(message)
        return self


class SessionSettings(Group):
    idle_timeout: int = Field(12 * 3600, ge=60, description="Seconds without a request after which a login ends.")
    lifetime: int = Field(7 * 86_400, ge=300, description="Seconds after which a login ends in any case.")


class OidcSettings(Group):
    issuer: str | None = Field(None, max_length=200, description="Address of who vouches for people; unset: nobody.")
    client_id: str | None = Field(None, min_length=1, description="What we are called there.")
    client_secret: SecretStr | None = Field(None, min_length=1, description="What we prove that with.")
    callback_url: str | None = Field(
        None, pattern=r"^https?://[^/?#]+/api/auth/oidc/callback$", description="Where browsers come back to."
    )
    name_claim: str = Field("email", min_length=1, description="What of the ID token becomes the user's name.")
    default_role: Literal["member", "viewer"] = Field("member", description="Role of users at their first login.")
    allowed_domains: tuple[str, ...] = Field((), description="Domains of e-mail addresses that may sign in.")

    @field_validator("allowed_domains", mode="before")
    @classmethod
    def _each(cls, given: object) -> object:
        return with_commas(given)

    @field_validator("issuer")
    @classmethod
    def _over_tls(cls, issuer: str | None) -> str | None:
        if issuer is not None and not re.match(r"https://[^/]|http://(127\.0\.0\.1|localhost|\[::1\])(:|/|$)", issuer):
            message = "must begin with https://, or with http:// on this machine"
            raise ValueError(message)
        if issuer is not None and find_spec("joserfc") is None:
            message = "needs the extra oidc: pip install 'ai-proxy-gateway[oidc]', or pip install 'joserfc>=1.8,<2'"
            raise ValueError(message)
        return issuer

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = [name for name in ("client_id", "client_secret", "callback_url") if getattr(self, name) is None]
        if self.issuer is not None and missing:
            message = f"{missing[0]}: must be set when issuer is"
            raise ValueError(message)
        return self
