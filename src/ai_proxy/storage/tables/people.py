"""The tables of people: who may do what, and who did it."""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ai_proxy.storage.tables.base import Table


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
    """`retention_days`: how long its history is kept, if not as long as all. `keep_texts`: whether texts are at all."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    archived_at: Mapped[int | None] = mapped_column(BigInteger)
    retention_days: Mapped[int | None] = mapped_column(Integer)
    keep_texts: Mapped[bool]


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
