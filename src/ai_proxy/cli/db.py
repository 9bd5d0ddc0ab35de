"""ai-proxy db …"""

import typer

from ai_proxy.cli import session
from ai_proxy.core.config import load_settings
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the database to the current schema. Does nothing if it is there already.

    Example: ai-proxy db upgrade
    """
    session.run(load_settings(), schema.upgrade)
    typer.echo(f"The database is at {schema.HEAD}.")


@app.command()
def current() -> None:
    """Show the schema's revision, and the one that this version needs. Exits with 1 if they differ.

    Example: ai-proxy db current
    """
    found, is_current = session.run(load_settings(), _look)
    typer.echo(f"database: {found or 'empty'}\nneeded:   {schema.HEAD}")
    if not is_current:
        raise typer.Exit(1)


async def _look(database: Database) -> tuple[str | None, bool]:
    return await schema.current(database), await schema.is_current(database)
