"""ai-proxy db …"""

import base64
import secrets

import typer

from ai_proxy.cli import session
from ai_proxy.cli.backups import backup, restore
from ai_proxy.core.config import load_settings
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database

app = typer.Typer(help="The database: its schema, backups.", no_args_is_help=True)
app.command()(backup)
app.command()(restore)


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


@app.command()
def new_encryption_key() -> None:
    """Make a key for AI_PROXY_ENCRYPTION__KEYS, which texts of the history are encrypted with. Nothing is changed.

    Example: ai-proxy db new-encryption-key
    """
    typer.echo(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


async def _look(database: Database) -> tuple[str | None, bool]:
    return await schema.current(database), await schema.is_current(database)
