"""ai-proxy projects …"""

import json
from typing import Annotated

import msgspec
import typer

from ai_proxy.cli import session
from ai_proxy.core.config import load_settings
from ai_proxy.core.groups import MOST_DAYS
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services import projects, users
from ai_proxy.storage.engine import Database

app = typer.Typer(help="Projects: what keys and their costs are gathered under.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The project's name.", show_default=False)]
User = Annotated[str, typer.Argument(help="The user's name.", show_default=False)]


@app.command()
def create(name: Name) -> None:
    """Make a project.

    Example: ai-proxy projects create search
    """
    made = session.at_schema(load_settings(), lambda database: projects.create(database, COMMAND_LINE, name))
    typer.echo(f"id: {made.id}")


@app.command(name="list")
def list_projects(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the projects, oldest first.

    Example: ai-proxy projects list --json
    """
    found = session.at_schema(load_settings(), lambda database: projects.list_all(database, COMMAND_LINE))
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for project in found:
        state = "active" if project.archived_at is None else f"archived {project.archived_at:%Y-%m-%d %H:%M}"
        typer.echo(f"{project.id}  {project.created_at:%Y-%m-%d %H:%M}  {state:25}  {project.name}")


@app.command(name="set")
def set_history(
    name: Name,
    retention_days: Annotated[
        str | None, typer.Option(metavar="DAYS", help="Days that its calls stay in the history, or 'default'.")
    ] = None,
    keep_texts: Annotated[
        bool | None, typer.Option("--keep-texts/--no-texts", help="Keep texts of its calls, or figures alone.")
    ] = None,
) -> None:
    """Set what is kept of a project's history, and for how long. A running service notices within five seconds.

    Example: ai-proxy projects set search --retention-days 30 --no-texts
    """
    history: dict[str, int | bool | None] = {}
    if retention_days is not None:
        history["retention_days"] = _days(retention_days)
    if keep_texts is not None:
        history["keep_texts"] = keep_texts
    if not history:
        message = "ai-proxy: name at least one of --retention-days, --keep-texts and --no-texts"
        raise SystemExit(message)

    async def work(database: Database) -> None:
        project = await projects.find_by_name(database, name)
        await projects.change(database, COMMAND_LINE, project.id, history=history)

    session.at_schema(load_settings(), work)
    typer.echo("Set.")


def _days(text: str) -> int | None:
    if text == "default":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_DAYS):
        message = f"ai-proxy: --retention-days: must be a number of days from 1 to {MOST_DAYS}, or default"
        raise SystemExit(message)
    return int(text)


@app.command()
def add(name: Name, user: User) -> None:
    """Make a user a member.

    Example: ai-proxy projects add search ada
    """

    async def work(database: Database) -> None:
        project, member = await projects.find_by_name(database, name), await users.find_by_name(database, user)
        await projects.add_member(database, COMMAND_LINE, project.id, member.id)

    session.at_schema(load_settings(), work)
    typer.echo("Added.")


@app.command()
def remove(name: Name, user: User) -> None:
    """Remove a member. The user's keys of the project stop working; a running service notices within five seconds.

    Example: ai-proxy projects remove search ada
    """

    async def work(database: Database) -> None:
        project, member = await projects.find_by_name(database, name), await users.find_by_name(database, user)
        await projects.remove_member(database, COMMAND_LINE, project.id, member.id)

    session.at_schema(load_settings(), work)
    typer.echo("Removed.")


@app.command()
def archive(name: Name) -> None:
    """Archive a project. Its keys stop working; a running service notices within five seconds.

    Example: ai-proxy projects archive search
    """

    async def work(database: Database) -> None:
        project = await projects.find_by_name(database, name)
        await projects.change(database, COMMAND_LINE, project.id, archived=True)

    session.at_schema(load_settings(), work)
    typer.echo("Archived.")
