"""Users, projects, logins, what keys may do, limits, budgets, what calls cost, and who changed what."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPERATOR = "00000000-0000-7000-8000-000000000000"
_TOKENS = ("cache_read", "cache_write", "input_audio", "output_audio", "reasoning")


def upgrade() -> None:
    _people()
    _keys()
    _limits()
    _exchanges()
    _audit()


def _people() -> None:
    users = op.create_table(
        "users",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("password", sa.String(200)),
        sa.Column("oidc_subject", sa.String(500), unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("disabled_at", sa.BigInteger),
    )
    made_at = int(datetime.now(UTC).timestamp() * 1_000_000)
    op.bulk_insert(users, [{"id": _OPERATOR, "name": "operator", "role": "admin", "created_at": made_at}])
    op.create_table(
        "projects",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("archived_at", sa.BigInteger),
    )
    op.create_table(
        "members",
        sa.Column("project_id", sa.String(36), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), primary_key=True),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("agent", sa.String(200), nullable=False),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "setup_tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )


# As it is before: `alembic upgrade --sql` has no database to look into.
_API_KEYS = sa.Table(
    "api_keys",
    sa.MetaData(),
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("hint", sa.String(20), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("revoked_at", sa.BigInteger),
)


def _keys() -> None:
    with op.batch_alter_table("api_keys", copy_from=_API_KEYS) as table:
        table.add_column(sa.Column("user_id", sa.String(36), nullable=False, server_default=_OPERATOR))
        table.add_column(sa.Column("project_id", sa.String(36)))
        table.add_column(sa.Column("scopes", sa.String, nullable=False, server_default='["calls", "history"]'))
        table.add_column(sa.Column("models", sa.String))
        table.add_column(sa.Column("labels", sa.String, nullable=False, server_default="{}"))
        table.add_column(sa.Column("expires_at", sa.BigInteger))
        table.add_column(sa.Column("previous_digest", sa.String(64)))
        table.add_column(sa.Column("previous_until", sa.BigInteger))
        table.create_foreign_key("fk_api_keys_user_id", "users", ["user_id"], ["id"])
        table.create_foreign_key("fk_api_keys_project_id", "projects", ["project_id"], ["id"])
        table.create_unique_constraint("uq_api_keys_previous_digest", ["previous_digest"])
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])


def _limits() -> None:
    op.create_table(
        "limits",
        sa.Column("subject", sa.String(60), primary_key=True),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("concurrent", sa.BigInteger),
    )
    op.create_table(
        "budgets",
        sa.Column("subject", sa.String(60), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("alerts", sa.String, nullable=False),
    )


def _exchanges() -> None:
    op.add_column("exchanges", sa.Column("user_id", sa.String(36), nullable=False, server_default=_OPERATOR))
    op.add_column("exchanges", sa.Column("project_id", sa.String(36)))
    op.add_column("exchanges", sa.Column("asked_model", sa.String(200), nullable=False, server_default=""))
    for kind in _TOKENS:
        op.add_column("exchanges", sa.Column(f"{kind}_tokens", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("exchanges", sa.Column("cost", sa.BigInteger))
    op.add_column("exchanges", sa.Column("price", sa.String))
    names = ("day", "key_id", "user_id", "project_id", "provider", "model")
    sizes = (10, 36, 36, 36, 100, 200)
    counts = ("calls", "failed", "cached", "unpriced", "input_tokens", "output_tokens")
    op.create_table(
        "daily_usage",
        *(sa.Column(name, sa.String(size), primary_key=True) for name, size in zip(names, sizes, strict=True)),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in counts),
        sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_daily_usage_key_id_day", "daily_usage", ["key_id", "day"])
    if op.get_context().dialect.name == "sqlite":  # no other database has had exchanges before
        op.execute(_SUM_UP)


_SUM_UP = """
INSERT INTO daily_usage
SELECT date(created_at / 1000000, 'unixepoch'), key_id, user_id, '', provider, model, count(*),
       sum(status = 'failed'), sum(cached), sum(status = 'completed' AND NOT cached AND NOT mock),
       sum(input_tokens), sum(output_tokens), 0, 0, 0, 0
FROM exchanges GROUP BY 1, 2, 3, 5, 6
"""


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("actor_id", sa.String(36)),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("target", sa.String(250), nullable=False),
        sa.Column("details", sa.String, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
    )
    for statement in _REFUSALS[op.get_context().dialect.name]:
        op.execute(statement)


_REFUSALS = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{verb} BEFORE {verb} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        for verb in ("update", "delete")
    ],
    "postgresql": [
        "CREATE FUNCTION audit_refusal() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refusal()",
    ],
}


def downgrade() -> None:
    for name in ("audit", "daily_usage", "budgets", "limits", "setup_tokens", "sessions", "members"):
        op.drop_table(name)
    op.execute("DROP FUNCTION IF EXISTS audit_refusal" if op.get_context().dialect.name == "postgresql" else "SELECT 1")
    for column in ("price", "cost", *(f"{kind}_tokens" for kind in reversed(_TOKENS)), "asked_model", "project_id"):
        op.drop_column("exchanges", column)
    op.drop_column("exchanges", "user_id")
    op.drop_index("ix_api_keys_user_id", "api_keys")
    with op.batch_alter_table("api_keys") as table:
        table.drop_constraint("uq_api_keys_previous_digest", type_="unique")
        table.drop_constraint("fk_api_keys_project_id", type_="foreignkey")
        table.drop_constraint("fk_api_keys_user_id", type_="foreignkey")
        for column in ("previous_until", "previous_digest", "expires_at", "labels", "models", "scopes"):
            table.drop_column(column)
        table.drop_column("project_id")
        table.drop_column("user_id")
    op.drop_table("projects")
    op.drop_table("users")
