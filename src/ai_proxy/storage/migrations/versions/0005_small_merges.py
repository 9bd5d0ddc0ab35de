"""SQLite's index of words is merged in small parts by those who write to it, and no more in large ones by itself."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# https://www.sqlite.org/fts5.html#the_automerge_configuration_option
_NEVER = "INSERT INTO search (search, rank) VALUES ('automerge', 0)"
_AS_USUAL = "INSERT INTO search (search, rank) VALUES ('automerge', 4)"


def upgrade() -> None:
    _on_sqlite(_NEVER)


def downgrade() -> None:
    _on_sqlite(_AS_USUAL)


def _on_sqlite(statement: str) -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute(statement)
