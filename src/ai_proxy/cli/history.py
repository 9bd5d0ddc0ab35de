"""ai-proxy history …"""

import shutil
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from ai_proxy.cli import session
from ai_proxy.cli.filters import Given, filtered, wanted
from ai_proxy.cli.history_files import export_history, import_history
from ai_proxy.cli.prune import prune
from ai_proxy.cli.terminal import in_one_line, visible, visible_text
from ai_proxy.core.config import load_settings
from ai_proxy.core.money import dollars_of
from ai_proxy.core.types import COMMAND_LINE, THUMB_NAMES
from ai_proxy.services import exports, history, lines, searching
from ai_proxy.services.times import moment
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage.engine import Database
from ai_proxy.storage.history import Entry
from ai_proxy.storage.transfer import Whole

app = typer.Typer(help="What was asked and answered: list, show, search, export, import, prune.", no_args_is_help=True)
app.command(name="export")(export_history)
app.command(name="import")(import_history)
app.command()(prune)

_PAGE = 200
_WIDTH = 140  # where there is no terminal
_LEAST_ROOM = 20  # for a question; else it has a line of its own
_EVERYBODY = Viewer(COMMAND_LINE)

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Most exchanges.")]


@app.command(name="list")
@filtered
def list_history(*, given: Given, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List exchanges, newest first.

    Examples:

      ai-proxy history list --status failed --from 2026-11-01

      ai-proxy history list --project search --limit 100 --json
    """

    async def look(database: Database) -> list[Whole]:
        found: list[Whole] = []
        before = None
        asked = await wanted(database, given)
        while len(found) < limit:
            most = min(_PAGE, limit - len(found))
            page = await history.page(database, _EVERYBODY, asked, before=before, limit=most)
            found += await _whole(database, page.entries)
            before = page.before
            if before is None:
                break
        return found

    _show(session.at_schema(load_settings(), look), as_json=as_json)


@app.command()
@filtered
def search(
    words: Annotated[str, typer.Argument(help="Words of question or answer.", show_default=False)],
    *,
    given: Given,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most exchanges.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Find exchanges by their words, the best matches first. A running service takes new ones in within seconds.

    Example: ai-proxy history search "capital france" --model "gpt-6-luna"
    """

    async def look(database: Database) -> list[Whole]:
        asked = await wanted(database, given)
        found, _ = await searching.page(database, _EVERYBODY, words, asked, offset=0, limit=limit)
        return await _whole(database, found)

    _show(session.at_schema(load_settings(), look), as_json=as_json)


@app.command()
def show(
    exchange_id: Annotated[
        str, typer.Argument(help="Its id, as 'ai-proxy history list' shows it.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Show one exchange: its texts, what it cost and how long it took; as JSON, with its bodies.

    Example: ai-proxy history show 019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51 --json
    """

    async def look(database: Database) -> Whole:
        found = await history.details(database, _EVERYBODY, exchange_id)
        return (await exports.read(database, [found.entry.exchange.id], bodies=True))[0]

    whole = session.at_schema(load_settings(), look)
    if as_json:
        typer.echo(msgspec.json.format(lines.encode(whole), indent=2).decode())
    else:
        typer.echo(_details(whole))


async def _whole(database: Database, entries: Sequence[Entry]) -> list[Whole]:
    return await exports.read(database, [entry.exchange.id for entry in entries]) if entries else []


def _show(found: Sequence[Whole], *, as_json: bool) -> None:
    if as_json:
        encoded = msgspec.json.encode([lines.line_of(whole) for whole in found])
        typer.echo(msgspec.json.format(encoded, indent=2).decode())
        return
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    for whole in found:
        typer.echo(_row(whole, width))


def _row(whole: Whole, width: int) -> str:
    exchange = whole.entry.exchange
    at, model = moment(exchange.created_at), in_one_line(exchange.model, 20)
    figures = f"{at:%Y-%m-%d %H:%M}  {exchange.id}  {exchange.status:9}  {_cost(whole):>9}  {model:20}"
    room = width - len(figures) - 2
    if room < _LEAST_ROOM:
        return f"{in_one_line(figures, width)}\n    {in_one_line(exchange.question, width - 4)}"
    return f"{figures}  {in_one_line(exchange.question, room)}"


def _cost(whole: Whole) -> str:
    return dollars_of(whole.entry.exchange.cost) or "-"


def _details(whole: Whole) -> str:
    exchange, remarks = whole.entry.exchange, whole.entry.remarks
    usage, feedback = exchange.usage, remarks.feedback
    shown = {
        "id": exchange.id,
        "time": f"{moment(exchange.created_at):%Y-%m-%d %H:%M:%S} UTC",
        "key": exchange.key_id,
        "user": exchange.user_id,
        "project": exchange.project_id,
        "conversation": exchange.conversation_id,
        "model": f"{exchange.model} of {exchange.provider or '-'}, asked for as {exchange.asked_model or '-'}",
        "status": f"{exchange.status} {exchange.error or ''}".strip(),
        "tokens": f"{usage.input_tokens} in, {usage.output_tokens} out",
        "cost": f"{_cost(whole)} USD",
        "took": f"{exchange.duration_ms:.0f} ms, {exchange.waited_ms:.0f} of them for providers",
        "tags": ", ".join(remarks.tags),
        "feedback": feedback and f"{THUMB_NAMES.get(feedback.thumb or 0, '-')} {feedback.comment or ''}".strip(),
        "texts": whole.entry.texts,
    }
    rows = [f"{name + ':':14}{visible(value)}" for name, value in shown.items() if value]
    texts = [f"\n{name}:\n{visible_text(text)}" for name, text in _texts(whole) if text]
    return "\n".join(rows + texts)


def _texts(whole: Whole) -> Sequence[tuple[str, str]]:
    return ("question", whole.entry.exchange.question), ("answer", whole.entry.exchange.answer)
