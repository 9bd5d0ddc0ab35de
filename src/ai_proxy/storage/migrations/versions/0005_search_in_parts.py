"""SQLite's index of words is in parts, which are made as they are needed: see `storage/search_sqlite.py`."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PARTS = "SELECT name FROM sqlite_master WHERE name GLOB 'search_[0-9]*' AND sql GLOB 'CREATE VIRTUAL TABLE*'"
_WHOLE = "CREATE VIRTUAL TABLE search USING fts5(words, facets, content='', tokenize='unicode61 remove_diacritics 2')"


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE search")
        _index_anew()


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        for (part,) in op.get_bind().exec_driver_sql(_PARTS).all():
            op.execute(f"DROP TABLE {part}")
        op.execute(_WHOLE)
        _index_anew()


def _index_anew() -> None:
    """It is done in the background."""
    op.execute("INSERT OR IGNORE INTO unindexed (exchange_id) SELECT exchange_id FROM indexed")
    op.execute("DELETE FROM indexed")
