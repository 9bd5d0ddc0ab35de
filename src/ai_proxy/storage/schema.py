"""The schema's version, and how the database is brought to it."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from ai_proxy.storage.engine import Database

HEAD = "0005"  # the newest revision in migrations/versions; a test compares the two
SCRIPTS = Path(__file__).parent / "migrations"


async def current(database: Database) -> str | None:
    """The revision that the database is at; None for an empty one. Raises `DatabaseUnavailable`."""
    async with database.transaction() as connection:
        return await connection.run_sync(_current)


async def is_current(database: Database) -> bool:
    """Whether the database is at `HEAD`. Raises `DatabaseUnavailable`."""
    return await current(database) == HEAD


async def upgrade(database: Database) -> None:
    """Bring the database to `HEAD`. When several processes start at once, one migrates and the others wait for it.

    Raises `DatabaseUnavailable`; exits with a clear line if the database was made by a newer version.
    """
    # Imported here because it takes a third of a second: a start with nothing to migrate should not pay for that, and
    # nobody should wait for it with the lock held.
    import alembic.command  # noqa: F401, PLC0415

    async with database.migrating() as connection:
        await connection.run_sync(_upgrade)


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("select version_num from alembic_version"))
    return revision


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config: Any = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        message = f"ai-proxy: DATABASE_URL: this version cannot bring the database to {HEAD}: {error}"
        raise SystemExit(message) from None
