"""ai-proxy limits …"""

import json
from typing import Annotated

import msgspec
import typer

from ai_proxy.cli import session
from ai_proxy.core.config import load_settings
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services import limits, subjects
from ai_proxy.services.limits import NamedLimit
from ai_proxy.storage.engine import Database

app = typer.Typer(help="Limits of keys, users, projects and the service.", no_args_is_help=True)

Subject = Annotated[str, typer.Argument(help="key:ID, user:NAME, project:NAME or service.", show_default=False)]
_Number = typer.Option(min=0, max=limits.MOST, show_default=False)


@app.command(name="set")
def set_limits(
    subject: Subject,
    requests: Annotated[int | None, _Number] = None,
    tokens: Annotated[int | None, _Number] = None,
    concurrent: Annotated[int | None, _Number] = None,
) -> None:
    """Set requests and tokens a minute, and calls at one time. What is not named stays; 0 takes a limit away.

    A running service notices within five seconds.

    Example: ai-proxy limits set user:ada --requests 60 --tokens 100000 --concurrent 5
    """
    given = {"requests_per_minute": requests, "tokens_per_minute": tokens, "concurrent": concurrent}
    changes = {name: number or None for name, number in given.items() if number is not None}
    if not changes:
        message = "say at least one of --requests, --tokens, --concurrent"
        raise typer.BadParameter(message)

    async def work(database: Database) -> NamedLimit:
        whose = await subjects.named(database, subject)
        return await limits.change(database, COMMAND_LINE, whose, changes)

    typer.echo(_line(session.at_schema(load_settings(), work)))


@app.command(name="list")
def list_limits(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the limits.

    Example: ai-proxy limits list --json
    """
    found = session.at_schema(load_settings(), lambda database: limits.list_all(database, COMMAND_LINE))
    if as_json:
        items = [{**msgspec.structs.asdict(one.limit), "name": one.name} for one in found]
        typer.echo(json.dumps(items, indent=2))
        return
    for one in found:
        typer.echo(_line(one))


@app.command()
def remove(subject: Subject) -> None:
    """Take all limits of a subject away.

    Example: ai-proxy limits remove user:ada
    """

    async def work(database: Database) -> None:
        await limits.remove(database, COMMAND_LINE, await subjects.named(database, subject))

    session.at_schema(load_settings(), work)
    typer.echo("Removed.")


def _line(found: NamedLimit) -> str:
    limit = found.limit
    told = {
        "requests/min": limit.requests_per_minute,
        "tokens/min": limit.tokens_per_minute,
        "at one time": limit.concurrent,
    }
    numbers = ", ".join(f"{number:,} {name}" for name, number in told.items() if number is not None)
    return f"{limit.subject:44}  {numbers or 'no limit'}  {found.name or ''}".rstrip()
