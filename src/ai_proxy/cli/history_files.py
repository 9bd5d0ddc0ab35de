"""ai-proxy history export and ai-proxy history import"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from ai_proxy.cli import session
from ai_proxy.cli.filters import Given, filtered, wanted
from ai_proxy.cli.progress import progress
from ai_proxy.cli.terminal import visible_text
from ai_proxy.core import files
from ai_proxy.core.config import load_settings
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services.exports import Export, form_of
from ai_proxy.services.imports import Import, Report
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage.engine import Database

_BLOCK = 2**20


@filtered
def export_history(
    file: Annotated[str, typer.Argument(help="The file to write, or - for STDOUT.", show_default=False)],
    *,
    given: Given,
    form: Annotated[str, typer.Option("--format", help="jsonl, chat (for fine-tuning) or csv.")] = "jsonl",
    words: Annotated[str | None, typer.Option("--search", help="Only what has these words.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the history to a file, oldest first. It is noted in the audit log.

    jsonl has all that is known of each exchange; csv has no bodies of calls, no tries, prices and titles. 'ai-proxy
    history import' takes either. chat has only what was completed, and has an answer in words or a tool call.

    Examples:

      ai-proxy history export history.jsonl

      ai-proxy history export - --format csv --from 2026-11-01 > november.csv
    """

    async def work(database: Database) -> Export:
        export = Export(database, Viewer(COMMAND_LINE), await wanted(database, given), form=form_of(form), words=words)
        await export.begin()
        with _only_once(), progress("Exporting", "exchanges") as tell:
            async for block in export.blocks():
                out.write(block)
                tell(export.rows, None)
        return export

    settings = load_settings()
    with _written(file, force=force) as out:
        done = session.at_schema(settings, work)
    typer.echo(f"Exported: {done.rows - done.left_out}. Left out: {done.left_out}.", err=True)


def import_history(
    file: Annotated[str, typer.Argument(help="The file to read, or - for STDIN.", show_default=False)],
    key: Annotated[
        str | None,
        typer.Option(
            help="Whose is what was another key's: an id, or the name of one of the operator's.",
            show_default="the operator's first key",
        ),
    ] = None,
) -> None:
    """Take exchanges from a file: of an export as jsonl or csv, or of the fine-tuning chat format.

    Which of them it is, its first line tells. What is there already stays as it is, so it does no harm to import a file
    twice, or to go on after an interruption. Exits with 1 if there are lines that could not be taken; the others are.

    Example: ai-proxy history import history.jsonl --key laptop
    """
    settings = load_settings()

    async def work(database: Database) -> Report:
        arriving = Import(database, COMMAND_LINE, key=key, keep_texts=settings.retention.keep_texts)
        await arriving.begin()
        with _only_once(), progress("Importing", "bytes") as tell:
            done = 0
            while block := given.read(_BLOCK):
                await arriving.take(block)
                done += len(block)
                tell(done, size)
            return await arriving.finish()

    with _read(file) as (given, size):
        report = session.at_schema(settings, work)
    typer.echo(f"Imported: {report.imported}. There already: {report.existing}. Bad lines: {report.bad}.")
    for number, reason in report.problems:
        typer.echo(f"line {number}: {visible_text(reason)}", err=True)
    typer.echo(f"What was of a key that is not here: of {visible_text(report.key_name)} ({report.key_id}).", err=True)
    if report.bad:
        raise typer.Exit(1)


@contextmanager
def _only_once() -> Iterator[None]:
    """What has begun is not begun anew when somebody holds the database's lock: a part would be written twice."""
    try:
        yield
    except DatabaseUnavailable as error:
        error.busy = False
        raise


@contextmanager
def _written(file: str, *, force: bool) -> Iterator[IO[bytes]]:
    try:
        if file == "-":
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with files.appearing(Path(file), force=force) as part, part.open("wb") as out:
                yield out
    except BrokenPipeError:  # who reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        message = f"ai-proxy: {file}: {error.strerror or error}"
        raise SystemExit(message) from None


@contextmanager
def _read(file: str) -> Iterator[tuple[IO[bytes], int | None]]:
    if file == "-":
        yield sys.stdin.buffer, None
        return
    try:
        given = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        message = f"ai-proxy: {file}: {error.strerror}"
        raise SystemExit(message) from None
    with given:
        yield given, os.fstat(given.fileno()).st_size
