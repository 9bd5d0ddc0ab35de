"""ai-proxy limits …"""

import json
from typing import Annotated, Any

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


def _number(what: str) -> Any:
    return typer.Option(min=0, max=limits.MOST, show_default=False, help=what)


@app.command(name="set")
def set_limits(
    subject: Subject,
    requests: Annotated[int | None, _number("Requests a minute.")] = None,
    tokens: Annotated[int | None, _number("Tokens a minute, read and written together.")] = None,
    concurrent: Annotated[int | None, _number("Calls at one time.")] = None,
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

    done = session.at_schema(load_settings(), work)
    typer.echo(f"{subject}: {_numbers(done)}")


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
        typer.echo(f"{one.limit.subject:44}  {_numbers(one)}  {one.name or ''}".rstrip())


@app.command()
def remove(subject: Subject) -> None:
    """Take all limits of a subject away.

    Example: ai-proxy limits remove user:ada
    """

    async def work(database: Database) -> None:
        await limits.remove(database, COMMAND_LINE, await subjects.named(database, subject))

    session.at_schema(load_settings(), work)
    typer.echo(f"{subject} has no limit any more.")


def _numbers(found: NamedLimit) -> str:
    limit = found.limit
    told = {
        "requests/min": limit.requests_per_minute,
        "tokens/min": limit.tokens_per_minute,
        "at one time": limit.concurrent,
    }
    return ", ".join(f"{number:,} {name}" for name, number in told.items() if number is not None) or "no limit"
