"""Conversations, feedback, tags, an index of words, how long what is kept, and indexes for millions of exchanges."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("retention_days", sa.Integer))
    op.add_column("projects", sa.Column("keep_texts", sa.Boolean, nullable=False, server_default=sa.true()))
    _exchanges()
    _conversations()
    _remarks()
    _words()


def _exchanges() -> None:
    op.add_column("exchanges", sa.Column("waited_ms", sa.Float, nullable=False, server_default="0"))
    op.add_column("exchanges", sa.Column("first_token_ms", sa.Float))
    op.add_column("exchanges", sa.Column("texts", sa.String(10), nullable=False, server_default="plain"))
    op.drop_index("ix_exchanges_conversation_id_id", "exchanges")
    _index_where("conversation_id", "conversation_id IS NOT NULL")
    _index_where("project_id", "project_id IS NOT NULL")
    _index_where("status", "status <> 'completed'")
    for column in ("user_id", "model"):
        op.create_index(f"ix_exchanges_{column}_id", "exchanges", [column, "id"])


def _index_where(column: str, where: str) -> None:
    name, only = f"ix_exchanges_{column}_id", sa.text(where)
    op.create_index(name, "exchanges", [column, "id"], sqlite_where=only, postgresql_where=only)


def _conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("key_id", sa.String(36), sa.ForeignKey("api_keys.id"), primary_key=True),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36)),
        sa.Column("title", sa.String),
        sa.Column("first_id", sa.String(36), nullable=False),
        sa.Column("last_id", sa.String(36), nullable=False),
        sa.Column("exchanges", sa.BigInteger, nullable=False),
        sa.Column("parent_id", sa.String(36)),
        sa.Column("forked_from", sa.String(36)),
    )
    for column in ("key_id", "user_id"):
        op.create_index(f"ix_conversations_{column}_last_id", "conversations", [column, "last_id"])
    only = sa.text("project_id IS NOT NULL")
    name, columns = "ix_conversations_project_id_last_id", ["project_id", "last_id"]
    op.create_index(name, "conversations", columns, sqlite_where=only, postgresql_where=only)
    op.create_index("ix_conversations_last_id", "conversations", ["last_id"])
    op.create_index("ix_conversations_id", "conversations", ["id"])
    only = sa.text("forked_from IS NOT NULL")
    name, columns = "ix_conversations_forked_from", ["forked_from"]
    op.create_index(name, "conversations", columns, sqlite_where=only, postgresql_where=only)
    op.execute(_GATHER)


_GATHER = """
INSERT INTO conversations (key_id, id, user_id, project_id, first_id, last_id, exchanges)
SELECT key_id, conversation_id, min(user_id), min(project_id), min(id), max(id), count(*)
FROM exchanges WHERE conversation_id IS NOT NULL GROUP BY key_id, conversation_id
"""


def _remarks() -> None:
    op.create_table(
        "feedback",
        sa.Column("exchange_id", sa.String(36), sa.ForeignKey("exchanges.id"), primary_key=True),
        sa.Column("thumb", sa.Integer),
        sa.Column("score", sa.Float),
        sa.Column("comment", sa.String),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tags",
        sa.Column("exchange_id", sa.String(36), sa.ForeignKey("exchanges.id"), primary_key=True),
        sa.Column("tag", sa.String(50), primary_key=True),
    )
    op.create_index("ix_tags_tag_exchange_id", "tags", ["tag", "exchange_id"])


def _words() -> None:
    """The index of words is filled in the background, also with what was there before.

    A trigger notes what is to come: a statement more in each transaction would cost calls many times as much. Whoever
    makes the table `exchanges` anew must make its trigger anew.
    """
    op.create_table("unindexed", sa.Column("exchange_id", sa.String(36), primary_key=True), sqlite_with_rowid=False)
    op.create_table(
        "indexed",
        # SQLite numbers rows by itself only in a column of just this type.
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("exchange_id", sa.String(36), nullable=False, unique=True),
    )
    for statement in _SEARCH[op.get_context().dialect.name]:
        op.execute(statement)
    op.execute("INSERT INTO unindexed (exchange_id) SELECT id FROM exchanges")
    if op.get_context().dialect.name == "postgresql":
        _room_is_used_again()


def _room_is_used_again() -> None:
    """What was deleted is cleared away after a hundredth of a table, not after a fifth: the oldest go all the time."""
    for table in ("exchanges", "bodies", "search", "indexed", "unindexed"):
        op.execute(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.01)")


_SEARCH = {
    "sqlite": [
        # Contentless: the texts are where they are. https://www.sqlite.org/fts5.html#contentless_tables
        "CREATE VIRTUAL TABLE search USING fts5(words, facets, content='', tokenize='unicode61 remove_diacritics 2')",
        "CREATE TRIGGER exchanges_unindexed AFTER INSERT ON exchanges WHEN NEW.texts = 'plain' "
        "BEGIN INSERT INTO unindexed (exchange_id) VALUES (NEW.id); END",
    ],
    "postgresql": [
        "CREATE TABLE search (number BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
        "CREATE INDEX ix_search_words ON search USING gin (words)",
        "CREATE FUNCTION note_unindexed() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO unindexed (exchange_id) VALUES (NEW.id); RETURN NULL; END $$",
        "CREATE TRIGGER exchanges_unindexed AFTER INSERT ON exchanges FOR EACH ROW WHEN (NEW.texts = 'plain') "
        "EXECUTE FUNCTION note_unindexed()",
    ],
}


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        for table in ("exchanges", "bodies"):
            op.execute(f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor)")
        op.execute("DROP FUNCTION note_unindexed CASCADE")
    else:
        op.execute("DROP TRIGGER exchanges_unindexed")
    for name in ("search", "indexed", "unindexed", "tags", "feedback", "conversations"):
        op.execute(f"DROP TABLE {name}")
    for column in ("user_id", "model", "project_id", "status", "conversation_id"):
        op.drop_index(f"ix_exchanges_{column}_id", "exchanges")
    op.create_index("ix_exchanges_conversation_id_id", "exchanges", ["conversation_id", "id"])
    for column in ("texts", "first_token_ms", "waited_ms"):
        op.drop_column("exchanges", column)
    op.drop_column("projects", "keep_texts")
    op.drop_column("projects", "retention_days")
