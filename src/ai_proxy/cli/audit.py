"""ai-proxy audit …"""

import json
from typing import Annotated, Any

import msgspec
import typer

from ai_proxy.cli import session
from ai_proxy.cli.terminal import visible
from ai_proxy.core.config import load_settings
from ai_proxy.services import audit

app = typer.Typer(help="The audit log: who did what.", no_args_is_help=True)


@app.command(name="list")
def list_entries(
    action: Annotated[str | None, typer.Option(help="Only this, such as key.create.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this one did: a name or an id.")] = None,
    target: Annotated[str | None, typer.Option(help="Only what was done to this, such as key:ID.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=audit.MAX_ROWS, help="Most entries.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the entries, newest first.

    Example: ai-proxy audit list --action login.failed --limit 10
    """

    async def look(database: Any) -> list[audit.Entry]:
        found, _ = await audit.page(database, audit.wanted(action, actor, target), limit=limit)
        return found

    found = session.at_schema(load_settings(), look)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins([entry._asdict() for entry in found]), indent=2))
        return
    for entry in found:
        typer.echo(
            f"{entry.created_at:%Y-%m-%d %H:%M:%S}  {entry.action:20}  {visible(entry.actor):16}"
            f"  {visible(entry.target)}  {json.dumps(entry.details)}"
        )
