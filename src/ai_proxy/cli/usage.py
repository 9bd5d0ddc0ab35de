"""ai-proxy usage"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from ai_proxy.cli import session
from ai_proxy.cli.terminal import visible
from ai_proxy.core.config import load_settings
from ai_proxy.core.spreadsheet import as_csv
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services import usage

_SHOWN = ("calls", "failed", "cached", "unpriced", "input_tokens", "output_tokens", "cost_usd")


def show_usage(
    first: Annotated[str | None, typer.Option("--from", help="First day (UTC).", show_default="30 days ago")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day (UTC).", show_default="today")] = None,
    by: Annotated[str, typer.Option(help="Any of day, key, user, project, provider, model, with commas.")] = "day",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, for spreadsheets; noted in the audit log.")] = False,
) -> None:
    """Show what was called, and what it cost.

    Examples:

      ai-proxy usage --from 2026-11-01 --by day,model

      ai-proxy usage --by key --csv > usage.csv
    """
    report = usage.export if csv else usage.report

    async def ask(database: Any) -> usage.Report:
        return await report(database, COMMAND_LINE, usage.question(first, last, by, {}))

    found = session.at_schema(load_settings(), ask)
    if csv:
        typer.echo(as_csv(found.columns, found.items), nl=False)
    elif as_json:
        body = {"from": found.first, "to": found.last, "items": found.items, "total": found.total}
        typer.echo(json.dumps(body, indent=2))
    else:
        for line in _table(found):
            typer.echo(line)


def _table(found: usage.Report) -> Iterable[str]:
    """Lines with a heading and a total, and a name in place of an identifier where there is one."""
    wordy = [name for name in found.columns if name not in usage.FIGURES and f"{name}_name" not in found.columns]
    heading = {name: name.removesuffix("_name") for name in wordy}
    total = dict.fromkeys(wordy, "") | {wordy[0]: "total"}
    rows = [_cells(row, wordy) for row in found.items]
    lines = [[*heading.values(), *_SHOWN], *rows, _cells({**found.total, **total}, wordy)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(
            cell.ljust(width) if index < len(wordy) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )


def _cells(row: Mapping[str, Any], wordy: Sequence[str]) -> list[str]:
    return [visible(row[name]) for name in (*wordy, *_SHOWN)]
