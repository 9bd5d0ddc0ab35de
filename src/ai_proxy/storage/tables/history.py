"""The tables of the history: exchanges, what they add up to, and what hangs on them."""

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from ai_proxy.storage.tables.base import Table


def _index_where(name: str, *columns: str, where: str) -> Index:
    """Of the rows that have what is asked for: the others cost nothing."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class Exchange(Table):
    """`texts` says what question, answer and bodies are: `plain`, `encrypted`, or `none` if they are not kept.

    `waited_ms` is the time that passed at providers, `first_token_ms` that until a stream's first content.
    """

    __tablename__ = "exchanges"
    __table_args__ = (
        Index("ix_exchanges_key_id_id", "key_id", "id"),
        Index("ix_exchanges_user_id_id", "user_id", "id"),
        Index("ix_exchanges_model_id", "model", "id"),
        _index_where("ix_exchanges_project_id_id", "project_id", "id", where="project_id IS NOT NULL"),
        _index_where("ix_exchanges_conversation_id_id", "conversation_id", "id", where="conversation_id IS NOT NULL"),
        _index_where("ix_exchanges_status_id", "status", "id", where="status <> 'completed'"),
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
    waited_ms: Mapped[float] = mapped_column(Float)
    first_token_ms: Mapped[float | None] = mapped_column(Float)
    texts: Mapped[str] = mapped_column(String(10))


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


class Bodies(Table):
    """Request and response of a /v1 call, as they went over the wire; a stream's events are folded into one answer.

    Of /api/ask and /api/streaming the request is here if it says more than its question.
    """

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


class Conversation(Table):
    """What a key's exchanges with one `conversation_id` are together; written with each of them.

    A fork goes on after the exchange `forked_from`, which belongs to the conversation `parent_id` of the same key.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        Index("ix_conversations_key_id_last_id", "key_id", "last_id"),
        Index("ix_conversations_user_id_last_id", "user_id", "last_id"),
        _index_where("ix_conversations_project_id_last_id", "project_id", "last_id", where="project_id IS NOT NULL"),
        Index("ix_conversations_last_id", "last_id"),
        Index("ix_conversations_id", "id"),
        _index_where("ix_conversations_forked_from", "forked_from", where="forked_from IS NOT NULL"),
    )

    key_id: Mapped[str] = mapped_column(String(36), ForeignKey("api_keys.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(36))
    project_id: Mapped[str | None] = mapped_column(String(36))
    title: Mapped[str | None]
    first_id: Mapped[str] = mapped_column(String(36))
    last_id: Mapped[str] = mapped_column(String(36))
    exchanges: Mapped[int] = mapped_column(BigInteger)
    parent_id: Mapped[str | None] = mapped_column(String(36))
    forked_from: Mapped[str | None] = mapped_column(String(36))


class Feedback(Table):
    """What a person thinks of an answer. `thumb` is 1 or -1."""

    __tablename__ = "feedback"

    exchange_id: Mapped[str] = mapped_column(String(36), ForeignKey("exchanges.id"), primary_key=True)
    thumb: Mapped[int | None] = mapped_column(Integer)
    score: Mapped[float | None] = mapped_column(Float)
    comment: Mapped[str | None]
    user_id: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[int] = mapped_column(BigInteger)


class Tag(Table):
    __tablename__ = "tags"
    __table_args__ = (Index("ix_tags_tag_exchange_id", "tag", "exchange_id"),)

    exchange_id: Mapped[str] = mapped_column(String(36), ForeignKey("exchanges.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(50), primary_key=True)


class Unindexed(Table):
    """Exchanges whose texts are yet to be put into the index of words. A trigger puts them here."""

    __tablename__ = "unindexed"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012

    exchange_id: Mapped[str] = mapped_column(String(36), primary_key=True)


class Indexed(Table):
    """An exchange's number in the index of words, `search`, which each database has in its own way."""

    __tablename__ = "indexed"

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    exchange_id: Mapped[str] = mapped_column(String(36), unique=True)
