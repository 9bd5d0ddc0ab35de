"""ai-proxy sessions …"""

import json
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from ai_proxy.cli import session
from ai_proxy.core.config import load_settings
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services import users
from ai_proxy.services.sessions import Session, Sessions
from ai_proxy.storage.engine import Database

app = typer.Typer(help="Logins: list, end.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's e-mail address or name.", show_default=False)]


@app.command(name="list")
def list_sessions(
    name: Name, as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False
) -> None:
    """List the logins of a user, newest first.

    Example: ai-proxy sessions list alice@example.com --json
    """
    settings = load_settings()
    found = session.at_schema(settings, lambda database: _of(_sessions(database), database, name))
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for login in found:
        times = f"since {login.created_at:%Y-%m-%d %H:%M}  seen {login.seen_at:%Y-%m-%d %H:%M}"
        typer.echo(f"{login.id}  {times}  {login.address:15}  {login.agent}")


@app.command()
def end(
    session_id: Annotated[
        str, typer.Argument(help="Its id, as 'ai-proxy sessions list' shows it.", show_default=False)
    ],
) -> None:
    """End a login. It is in force at once.

    Example: ai-proxy sessions end 019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51
    """
    session.at_schema(load_settings(), lambda database: _sessions(database).end(COMMAND_LINE, session_id))
    typer.echo("Ended.")


@app.command(name="end-all")
def end_all(name: Name) -> None:
    """End all logins of a user.

    Example: ai-proxy sessions end-all alice@example.com
    """

    async def work(database: Database) -> int:
        sessions = _sessions(database)
        found = await _of(sessions, database, name)
        for login in found:
            await sessions.end(COMMAND_LINE, login.id)
        return len(found)

    typer.echo(f"Ended: {session.at_schema(load_settings(), work)}.")


def _sessions(database: Database) -> Sessions:
    return Sessions(database, b"", load_settings().sessions)  # without the secret: no token is made or read here


async def _of(sessions: Sessions, database: Database, name: str) -> Sequence[Session]:
    user = await users.find_by_name(database, name)
    return await sessions.of(COMMAND_LINE, user.id)
