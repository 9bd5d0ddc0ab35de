"""The tables. Queries live in the module named after the table's subject.

Identifiers are UUIDv7 in text form, so their order is the order in time. Times are microseconds since the epoch (UTC).
"""

from sqlalchemy import BigInteger, Float, ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    pass


class ApiKey(Table):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)


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
