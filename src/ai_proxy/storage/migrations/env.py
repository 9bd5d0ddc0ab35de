"""What alembic runs: with the connection that `ai-proxy db upgrade` hands it, or with one of its own for `alembic`."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from ai_proxy.core.config import load_settings
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import Table


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_by_settings() -> None:
    settings = load_settings()
    async with (
        Database(settings.database_url, directory=settings.data_directory) as database,
        database.migrating() as connection,
    ):
        await connection.run_sync(migrate)


def print_sql() -> None:
    dialect = load_settings().database_url.partition(":")[0]
    context.configure(dialect_name=dialect, target_metadata=Table.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
elif (connection := context.config.attributes.get("connection")) is not None:
    migrate(connection)
else:
    asyncio.run(migrate_by_settings())
