"""ai-proxy db …"""

import asyncio

import typer

from ai_proxy.core.config import load_settings
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the database to the current schema. Does nothing if it is there already."""
    asyncio.run(_upgrade())


@app.command()
def current() -> None:
    """Show the schema's revision, and the one that this version needs. Exits with 1 if they differ."""
    found = asyncio.run(_current())
    typer.echo(f"database: {found or 'empty'}\nneeded:   {schema.HEAD}")
    if found != schema.HEAD:
        raise typer.Exit(1)


async def _upgrade() -> None:
    async with _database() as database:
        await schema.upgrade(database)
    typer.echo(f"The database is at {schema.HEAD}.")


async def _current() -> str | None:
    async with _database() as database:
        return await schema.current(database)


def _database() -> Database:
    settings = load_settings()
    return Database(settings.database_url, directory=settings.data_directory)
