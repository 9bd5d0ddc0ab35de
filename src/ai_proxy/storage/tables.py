"""The tables. Queries live in the module named after the table's subject.

Identifiers are UUIDv7 in text form, so their order is the order in time. Times are microseconds since the epoch (UTC).
"""

from sqlalchemy import BigInteger, Float, ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    pass


class User(Table):
    """`password` is a hash of argon2id; who has none signs in by OpenID Connect (`oidc_subject`), or not at all."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str | None] = mapped_column(String(200))
    oidc_subject: Mapped[str | None] = mapped_column(String(500), unique=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    disabled_at: Mapped[int | None] = mapped_column(BigInteger)


class Project(Table):
    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    archived_at: Mapped[int | None] = mapped_column(BigInteger)


class Member(Table):
    __tablename__ = "members"

    project_id: Mapped[str] = mapped_column(String(36), ForeignKey("projects.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id"), primary_key=True)


class Session(Table):
    """A login. The cookie holds what `digest` is made of, and nobody else has it."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_user_id", "user_id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id"))
    created_at: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    address: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str] = mapped_column(String(200))


class SetupToken(Table):
    """Lets whoever has it make the first administrator, once."""

    __tablename__ = "setup_tokens"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class ApiKey(Table):
    """`models`, `scopes` and `labels` are JSON. After a rotation the former secret works until `previous_until`."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_user_id", "user_id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id"))
    project_id: Mapped[str | None] = mapped_column(String(36), ForeignKey("projects.id"))
    scopes: Mapped[str]
    models: Mapped[str | None]
    labels: Mapped[str]
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    previous_digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    previous_until: Mapped[int | None] = mapped_column(BigInteger)


class Limit(Table):
    """The subject is `key:ID`, `user:ID`, `project:ID` or `service`."""

    __tablename__ = "limits"

    subject: Mapped[str] = mapped_column(String(60), primary_key=True)
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    concurrent: Mapped[int | None] = mapped_column(BigInteger)


class Budget(Table):
    """`amount` is in nano-dollars; `alerts` is JSON: per cent of it."""

    __tablename__ = "budgets"

    subject: Mapped[str] = mapped_column(String(60), primary_key=True)
    period: Mapped[str] = mapped_column(String(10), primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    alerts: Mapped[str]


class Exchange(Table):
    __tablename__ = "exchanges"
    __table_args__ = (
        Index("ix_exchanges_key_id_id", "key_id", "id"),
        Index("ix_exchanges_conversation_id_id", "conversation_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(36), ForeignKey("api_keys.id"))
    conversation_id: Mapped[str | None] = mapped_column(String(36))
    question: Mapped[str]
    answer: Mapped[str]
    model: Mapped[str] = mapped_column(String(200))
    provider: Mapped[str] = mapped_column(String(100))
    mock: Mapped[bool]
    status: Mapped[str] = mapped_column(String(20))
    error: Mapped[str | None] = mapped_column(String(100))
    finish_reason: Mapped[str | None] = mapped_column(String(100))
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    usage_estimated: Mapped[bool]
    duration_ms: Mapped[float] = mapped_column(Float)
    created_at: Mapped[int] = mapped_column(BigInteger)
    dialect: Mapped[str] = mapped_column(String(20))
    stream: Mapped[bool]
    cached: Mapped[bool]
    attempts: Mapped[str]  # JSON: a list of core.types.Attempt
    user_id: Mapped[str] = mapped_column(String(36))
    project_id: Mapped[str | None] = mapped_column(String(36))
    asked_model: Mapped[str] = mapped_column(String(200))
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    input_audio_tokens: Mapped[int] = mapped_column(BigInteger)
    output_audio_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int | None] = mapped_column(BigInteger)  # nano-dollars; None: nobody knows the price
    price: Mapped[str | None]  # JSON: what the cost was reckoned by


class DailyUsage(Table):
    """What the exchanges of a day (UTC, as `2026-11-23`) add up to, written together with them.

    A project of "" is none. `unpriced` counts calls whose cost nobody knows.
    """

    __tablename__ = "daily_usage"
    __table_args__ = (Index("ix_daily_usage_key_id_day", "key_id", "day"),)

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    provider: Mapped[str] = mapped_column(String(100), primary_key=True)
    model: Mapped[str] = mapped_column(String(200), primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    cached: Mapped[int] = mapped_column(BigInteger)
    unpriced: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int] = mapped_column(BigInteger)


class AuditEntry(Table):
    """Who did what. The database itself refuses to change or delete a row. `details` is JSON, without secrets."""

    __tablename__ = "audit"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    actor_id: Mapped[str | None] = mapped_column(String(36))
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(50))
    target: Mapped[str] = mapped_column(String(250))
    details: Mapped[str]
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128))


class Bodies(Table):
    """Request and response of a /v1 call, as they went over the wire; a stream's events are folded into one answer."""

    __tablename__ = "bodies"
    __table_args__ = (Index("ix_bodies_response_id", "response_id"),)

    exchange_id: Mapped[str] = mapped_column(String(36), ForeignKey("exchanges.id"), primary_key=True)
    request: Mapped[bytes]
    response: Mapped[bytes | None]
    response_id: Mapped[str | None] = mapped_column(String(200))


class IdempotentAnswer(Table):
    """What was answered to a request with an idempotency key, for 24 hours from `created_at`."""

    __tablename__ = "idempotent_answers"
    __table_args__ = (Index("ix_idempotent_answers_created_at", "created_at"),)

    key_id: Mapped[str] = mapped_column(String(36), ForeignKey("api_keys.id"), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    body: Mapped[bytes]
    headers: Mapped[str]  # JSON: a name and a value each
    exchange_id: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[int] = mapped_column(BigInteger)
