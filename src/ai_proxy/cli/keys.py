"""ai-proxy keys …"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar, cast

import msgspec
import typer

from ai_proxy.cli import session, times
from ai_proxy.core.config import Settings, load_settings
from ai_proxy.core.types import COMMAND_LINE, Scope
from ai_proxy.services import keys, projects, setup, users
from ai_proxy.services.keys import Key, Keys, NewKey
from ai_proxy.storage.engine import Database

app = typer.Typer(help="API keys: make, list, change, rotate, revoke.", no_args_is_help=True)

T = TypeVar("T")

KeyId = Annotated[str, typer.Argument(help="The key's id, as 'ai-proxy keys list' shows it.", show_default=False)]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="calls, history or manage; may be repeated. A new key has the first two."),
]
Models = Annotated[list[str] | None, typer.Option("--model", help="Name or pattern it may call; may be repeated.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="name=value; may be repeated.")]
Expires = Annotated[str | None, typer.Option(help="30d, or a date such as 2027-01-31.")]


@app.command()
def create(  # noqa: PLR0913, PLR0917 - each is an option
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    user: Annotated[str | None, typer.Option(help="Whose key; the operator's if it is not said.")] = None,
    project: Annotated[str | None, typer.Option(help="The project that its calls count for.")] = None,
    scope: Scopes = None,
    model: Models = None,
    label: Labels = None,
    expires: Expires = None,
) -> None:
    """Make a key. It is shown this once.

    Example: ai-proxy keys create laptop --user ada --model "gpt-*" --expires 30d
    """
    new = NewKey(
        name=name,
        scopes=cast("list[Scope] | None", scope or None),
        models=model or None,
        labels=_labels(label or []),
        expires_at=None if expires is None else times.moment(expires),
    )
    settings = load_settings()

    async def work(database: Database) -> tuple[Key, str]:
        user_id = None if user is None else (await users.find_by_name(database, user)).id
        project_id = None if project is None else (await projects.find_by_name(database, project)).id
        wanted = msgspec.structs.replace(new, user_id=user_id, project_id=project_id)
        return await (await setup.keys_at_command_line(settings, database)).create(COMMAND_LINE, wanted)

    _show(*session.at_schema(settings, work))


@app.command(name="list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the keys, oldest first: whose each is, its project, what it may do, and the models it may call.

    Example: ai-proxy keys list --json
    """
    found = session.at_schema(load_settings(), keys.list_all)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    rows = [_cells(key) for key in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(map(str.ljust, row, widths)).rstrip())


@app.command()
def change(
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    scope: Scopes = None,
    model: Models = None,
    label: Labels = None,
    expires: Annotated[str | None, typer.Option(help="30d, a date, or never.")] = None,
) -> None:
    """Change a key. What is not named stays; --model "*" allows all models. A running service notices within 5 s.

    Example: ai-proxy keys change 019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51 --name desktop --expires never
    """
    changes: dict[str, Any] = {"name": name, "scopes": scope or None}
    changes["models"] = model or None
    changes["labels"] = _labels(label) if label else None
    changes = {setting: value for setting, value in changes.items() if value is not None}
    if model == ["*"]:
        changes["models"] = None
    if expires is not None:
        changes["expires_at"] = None if expires == "never" else times.moment(expires)
    if not changes:
        message = "say at least one of --name, --scope, --model, --label, --expires"
        raise typer.BadParameter(message)
    _with_keys(load_settings(), lambda keys: keys.change(COMMAND_LINE, key_id, changes))
    typer.echo("Changed.")


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the former secret goes on working: 90s, 15m, 1h, 7d.")] = "0s",
) -> None:
    """Give a key a new secret, which is shown this once. Its id and settings stay.

    Example: ai-proxy keys rotate 019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51 --overlap 1h
    """
    seconds = times.seconds(overlap)
    _show(*_with_keys(load_settings(), lambda keys: keys.rotate(COMMAND_LINE, key_id, seconds)))


@app.command()
def revoke(key_id: KeyId) -> None:
    """Make a key useless. A running service notices within five seconds.

    Example: ai-proxy keys revoke 019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51
    """
    settings = load_settings()
    session.at_schema(settings, lambda database: Keys(database, b"").revoke(COMMAND_LINE, key_id))
    typer.echo("Revoked.")


def _with_keys(settings: Settings, work: Callable[[Keys], Awaitable[T]]) -> T:
    async def with_keys(database: Database) -> T:
        return await work(await setup.keys_at_command_line(settings, database))

    return session.at_schema(settings, with_keys)


def _show(key: Key, secret: str) -> None:
    typer.echo(f"id:  {key.id}\nkey: {secret}\nuser: {key.user}")
    if key.project is not None:
        typer.echo(f"project: {key.project}")
    typer.echo(f"scopes: {', '.join(key.scopes)}\nKeep it: it cannot be shown again.")


def _cells(key: Key) -> Sequence[str]:
    """A key as a line of the list. Its name is last, because it may have blanks in it."""
    created, scopes, models = f"{key.created_at:%Y-%m-%d %H:%M}", ",".join(key.scopes), ",".join(key.models or "*")
    return key.id, key.hint, created, _state(key), key.user, key.project or "-", scopes, models, key.name


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    return "active" if key.expires_at is None else f"expires {key.expires_at:%Y-%m-%d %H:%M}"


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            message = f"{pair}: write a label as name=value"
            raise typer.BadParameter(message)
        found[name] = value
    return found
