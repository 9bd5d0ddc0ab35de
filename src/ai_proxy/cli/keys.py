"""ai-proxy keys …"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from ai_proxy.core.config import load_settings
from ai_proxy.core.exceptions import GatewayError
from ai_proxy.services import keys
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database

app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)

T = TypeVar("T")


@app.command()
def create(name: Annotated[str, typer.Argument(help="Who or what the key is for.")]) -> None:
    """Make a key. It is shown this once.

    Example: ai-proxy keys create laptop
    """
    from ai_proxy.app import secret_of  # noqa: PLC0415

    secret = secret_of(load_settings())
    key_id, key = _run(lambda database: keys.create(database, secret, name))
    typer.echo(f"id:  {key_id}\nkey: {key}\nKeep it: it cannot be shown again.")


@app.command(name="list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the keys, oldest first."""
    found = _run(keys.list_all)
    if as_json:
        typer.echo(json.dumps([key._asdict() for key in found], default=lambda value: value.isoformat(), indent=2))
        return
    for key in found:
        state = "active" if key.revoked_at is None else f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
        typer.echo(f"{key.id}  {key.hint:12}  {key.created_at:%Y-%m-%d %H:%M}  {state:24}  {key.name}")


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as 'ai-proxy keys list' shows it.")]) -> None:
    """Make a key useless. A running service notices within five seconds."""
    _run(lambda database: keys.revoke(database, key_id))
    typer.echo("Revoked.")


def _run(work: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the database, at the current schema; its errors are one line."""
    settings = load_settings()

    async def run() -> T:
        async with Database(settings.database_url, directory=settings.data_directory) as database:
            if await schema.current(database) != schema.HEAD:
                await schema.upgrade(database)
            return await work(database)

    try:
        return asyncio.run(run())
    except GatewayError as error:
        message = f"ai-proxy: {error.message}"
        raise SystemExit(message) from None
