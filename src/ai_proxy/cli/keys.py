"""ai-proxy keys …"""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from ai_proxy.cli import session
from ai_proxy.core.config import Settings, load_settings
from ai_proxy.services import keys, setup
from ai_proxy.storage.engine import Database

app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)

T = TypeVar("T")


@app.command()
def create(name: Annotated[str, typer.Argument(help="Who or what the key is for.")]) -> None:
    """Make a key. It is shown this once.

    Example: ai-proxy keys create laptop
    """
    settings = load_settings()
    key_id, key = _run(settings, lambda database: keys.create(database, settings, name))
    typer.echo(f"id:  {key_id}\nkey: {key}\nKeep it: it cannot be shown again.")


@app.command(name="list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the keys, oldest first.

    Example: ai-proxy keys list --json
    """
    found = _run(load_settings(), keys.list_all)
    if as_json:
        typer.echo(json.dumps([key._asdict() for key in found], default=lambda value: value.isoformat(), indent=2))
        return
    for key in found:
        state = "active" if key.revoked_at is None else f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
        typer.echo(f"{key.id}  {key.hint:12}  {key.created_at:%Y-%m-%d %H:%M}  {state:24}  {key.name}")


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as 'ai-proxy keys list' shows it.")]) -> None:
    """Make a key useless. A running service notices within five seconds.

    Example: ai-proxy keys revoke 019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51
    """
    _run(load_settings(), lambda database: keys.revoke(database, key_id))
    typer.echo("Revoked.")


def _run(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the database, at the current schema."""

    async def migrate_and_work(database: Database) -> T:
        await setup.settle_schema(settings, database)
        return await work(database)

    return session.run(settings, migrate_and_work)
