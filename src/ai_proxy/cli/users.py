"""ai-proxy users …"""

import json
import secrets
import sys
from typing import Annotated, get_args

import msgspec
import typer

from ai_proxy.cli import session
from ai_proxy.core.config import load_settings
from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.types import COMMAND_LINE, Role
from ai_proxy.services import passwords, users
from ai_proxy.services.passwords import Passwords
from ai_proxy.services.users import Change, User
from ai_proxy.storage.engine import Database

app = typer.Typer(help="People: make, list, change, disable.", no_args_is_help=True)

_PAGE = 200
_GENERATED_BYTES = 18

Name = Annotated[str, typer.Argument(help="The user's e-mail address or name.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from STDIN.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make up a password, and show it once.")]


@app.command()
def create(
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="The same as --role admin.")] = False,
    role: Annotated[str, typer.Option(help="admin, member or viewer.")] = "member",
    password_stdin: FromStdin = False,
    generate: Generate = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="The user has keys, and cannot sign in.")] = False,
) -> None:
    """Make a user. The password is asked for, unless it is generated, comes by STDIN, or is not wanted.

    Example: ai-proxy users create alice@example.com --admin
    """
    found = _role("admin" if admin else role, "--role")
    chosen = None if no_password else _new_password(password_stdin=password_stdin, generate=generate)

    async def work(database: Database) -> User:
        hashed = None if chosen is None else await _hash(chosen)
        return await users.create(database, COMMAND_LINE, name, role=found, password=hashed)

    made = session.at_schema(load_settings(), work)
    typer.echo(f"id: {made.id}\n{made.name} is {_article(made.role)} {made.role}.")
    if generate and chosen is not None:
        _show(chosen)


@app.command(name="list")
def list_users(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """List the users, oldest first.

    Example: ai-proxy users list --json
    """
    found = session.at_schema(load_settings(), _all)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for user in found:
        state = "disabled" if user.disabled else "active" if user.has_password else "no password"
        typer.echo(f"{user.id}  {user.role:6}  {state:11}  {user.created_at:%Y-%m-%d %H:%M}  {user.name}")


@app.command(name="role")
def change_role(name: Name, role: Annotated[str, typer.Argument(help="admin, member or viewer.")]) -> None:
    """Change what a user may do. It signs them out.

    Example: ai-proxy users role alice@example.com viewer
    """
    changed = _change(name, Change(role=_role(role, "ROLE")))
    typer.echo(f"{changed.name} is {_article(changed.role)} {changed.role}.")


@app.command()
def disable(name: Name) -> None:
    """Lock a user out: no login works, and none of their keys. A running service notices within five seconds.

    Example: ai-proxy users disable alice@example.com
    """
    _change(name, Change(disabled=True))
    typer.echo("Disabled.")


@app.command()
def enable(name: Name) -> None:
    """Let a user in again.

    Example: ai-proxy users enable alice@example.com
    """
    _change(name, Change(disabled=False))
    typer.echo("Enabled.")


@app.command(name="password")
def change_password(name: Name, password_stdin: FromStdin = False, generate: Generate = False) -> None:
    """Give a user a new password. It signs them out.

    Example: ai-proxy users password alice@example.com --generate
    """
    new = _new_password(password_stdin=password_stdin, generate=generate)
    settings = load_settings()

    async def work(database: Database) -> User:
        user = await users.find_by_name(database, name)
        return await users.change(database, COMMAND_LINE, user.id, Change(password=await _hash(new)))

    session.at_schema(settings, work)
    typer.echo("The password is changed.")
    if generate:
        _show(new)


def _change(name: str, wanted: Change) -> User:
    async def work(database: Database) -> User:
        user = await users.find_by_name(database, name)
        return await users.change(database, COMMAND_LINE, user.id, wanted)

    return session.at_schema(load_settings(), work)


async def _all(database: Database) -> list[User]:
    found, more = await users.page(database, limit=_PAGE)
    everybody = list(found)
    while more:
        found, more = await users.page(database, after=everybody[-1].id, limit=_PAGE)
        everybody += found
    return everybody


async def _hash(password: str) -> str:
    async with Passwords() as hashes:
        return await hashes.hash(password)


def _role(text: str, argument: str) -> Role:
    for role in get_args(Role):
        if role == text:
            return role  # type: ignore[no-any-return]
    message = f"ai-proxy: {argument}: {text!r} is none of {', '.join(get_args(Role))}"
    raise SystemExit(message)


def _new_password(*, password_stdin: bool, generate: bool) -> str:
    """Exits with one line if it will not do."""
    if generate:
        return secrets.token_urlsafe(_GENERATED_BYTES)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt="Once more")
    else:
        message = "ai-proxy: there is no terminal to ask for the password: pass --password-stdin or --generate"
        raise SystemExit(message)
    try:
        passwords.check(password)
    except GatewayError as error:
        message = f"ai-proxy: {error.message}"
        raise SystemExit(message) from None
    return password


def _show(password: str) -> None:
    typer.echo(f"password: {password}\nKeep it: it cannot be shown again.")


def _article(role: str) -> str:
    return "an" if role == "admin" else "a"
