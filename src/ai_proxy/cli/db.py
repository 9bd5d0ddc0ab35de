"""ai-proxy db …"""

import typer

from ai_proxy.cli import database
from ai_proxy.storage import schema

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the database to the current schema. Does nothing if it is there already.

    Example: ai-proxy db upgrade
    """
    database.run(schema.upgrade)
    typer.echo(f"The database is at {schema.HEAD}.")


@app.command()
def current() -> None:
    """Show the schema's revision, and the one that this version needs. Exits with 1 if they differ.

    Example: ai-proxy db current
    """
    found = database.run(schema.current)
    typer.echo(f"database: {found or 'empty'}\nneeded:   {schema.HEAD}")
    if found != schema.HEAD:
        raise typer.Exit(1)
