"""Bodies of /v1 calls, how a call went, and answers kept under idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("dialect", sa.String(20), nullable=False, server_default="ask"))
    op.add_column("exchanges", sa.Column("stream", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("exchanges", sa.Column("cached", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("exchanges", sa.Column("attempts", sa.String, nullable=False, server_default="[]"))
    op.create_table(
        "bodies",
        sa.Column("exchange_id", sa.String(36), sa.ForeignKey("exchanges.id"), primary_key=True),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("response", sa.LargeBinary),
        sa.Column("response_id", sa.String(200)),
    )
    op.create_index("ix_bodies_response_id", "bodies", ["response_id"])
    op.create_table(
        "idempotent_answers",
        sa.Column("key_id", sa.String(36), sa.ForeignKey("api_keys.id"), primary_key=True),
        sa.Column("idempotency_key", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.String, nullable=False),
        sa.Column("exchange_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_idempotent_answers_created_at", "idempotent_answers", ["created_at"])


def downgrade() -> None:
    op.drop_table("idempotent_answers")
    op.drop_table("bodies")
    for column in ("attempts", "cached", "stream", "dialect"):
        op.drop_column("exchanges", column)
