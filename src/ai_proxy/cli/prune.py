"""ai-proxy history prune"""

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from ai_proxy.cli import session
from ai_proxy.cli.filters import project_id
from ai_proxy.core.config import Settings, load_settings
from ai_proxy.core.groups import MOST_DAYS
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services import retention
from ai_proxy.services.removing import Removing
from ai_proxy.storage.engine import Database
from ai_proxy.storage.retention import Aim


def prune(
    older_than: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS", min=0, max=MOST_DAYS, help="What is older than this; else what settings and projects say."
        ),
    ] = None,
    texts: Annotated[bool, typer.Option("--texts", help="Take texts alone away; figures stay.")] = False,
    project: Annotated[str | None, typer.Option(help="Only of this project: its name, or its id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many exchanges that concerns.")] = False,
) -> None:
    """Remove what is old from the history. The sums of its days, and what they cost, stay.

    A service may be running: little is removed at a time. It can be broken off, and begun again, at any time.

    Example: ai-proxy history prune --older-than 90 --dry-run
    """
    settings = load_settings()
    if older_than is None and (texts or project is not None):
        message = "ai-proxy: --texts and --project need --older-than"
        raise SystemExit(message)

    async def work(database: Database) -> None:
        aims = await _aims(database, settings, older_than, project=project, texts=texts)
        counts = [await _count(database, aim) for aim in aims]
        if dry_run:
            typer.echo(_told(zip(aims, counts, strict=True)))
            return
        done = await _prune(database, aims, sum(counts))
        typer.echo(f"Removed: {done.removed}. Without texts now: {done.forgotten}.")

    session.at_schema(settings, work)


def _told(counted: Iterable[tuple[Aim, int]]) -> str:
    counts = {False: 0, True: 0}
    for aim, count in counted:
        counts[aim.texts] += count
    return f"To be removed: {counts[False]}. To lose their texts: {counts[True]}."


async def _aims(
    database: Database, settings: Settings, older_than: int | None, *, project: str | None, texts: bool
) -> list[Aim]:
    if older_than is None:
        return await retention.aims(database, settings.retention)
    of = None if project is None else await project_id(database, project)
    return [Aim(retention.first_kept(older_than), project=of, texts=texts)]


async def _count(database: Database, aim: Aim) -> int:
    return sum([len(ids) async for ids in Removing(database).find(aim)])


async def _prune(database: Database, aims: list[Aim], total: int) -> Removing:
    if not sys.stderr.isatty():
        return await retention.prune(database, COMMAND_LINE, aims)
    with typer.progressbar(length=total, label="Removing", file=sys.stderr) as bar:
        return await retention.prune(database, COMMAND_LINE, aims, tell=bar.update)
