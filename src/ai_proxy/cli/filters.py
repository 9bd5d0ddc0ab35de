"""Which exchanges a command is about: the same options for all that list or carry them."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_args
from uuid import UUID

import typer

from ai_proxy.core.types import Status
from ai_proxy.services import history_questions, imports, projects, users
from ai_proxy.storage.engine import Database
from ai_proxy.storage.filters import Wanted

Given = dict[str, Any]


def _options(  # noqa: PLR0913, PLR0917 - each is an option
    model: Annotated[str | None, typer.Option(help="Only what this model answered.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only what this provider answered.")] = None,
    status: Annotated[str | None, typer.Option(help="completed, failed or cancelled.")] = None,
    key: Annotated[str | None, typer.Option(help="Only with this key: its name or id.")] = None,
    user: Annotated[str | None, typer.Option(help="Only of this user: a name or id.")] = None,
    project: Annotated[str | None, typer.Option(help="Only in this project: its name or id.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Only of the conversation with this id.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    thumb: Annotated[str | None, typer.Option(help="up or down.")] = None,
    min_cost_usd: Annotated[str | None, typer.Option("--min-cost", help="US dollars, or more.")] = None,
    max_cost_usd: Annotated[str | None, typer.Option("--max-cost", help="US dollars, or less.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="A day such as 2026-11-01 (UTC), or an instant.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The same: a day is included, an instant is not.")] = None,
) -> None:
    """The signature is what counts."""


_PARAMETERS = tuple(
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in inspect.signature(_options).parameters.values()
)
_CHOICES = {"status": get_args(Status), "thumb": ("up", "down")}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """The command gets what is given of these options as `given`, a keyword argument of its own."""
    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "given"]

    @wraps(command)
    def run(**arguments: Any) -> None:
        given = {parameter.name: arguments.pop(parameter.name) for parameter in _PARAMETERS}
        for name, choices in _CHOICES.items():
            if given[name] is not None and given[name] not in choices:
                message = f"--{name}: must be one of {', '.join(choices)}"
                raise typer.BadParameter(message)
        command(**arguments, given=given)

    signature = inspect.Signature([parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own])
    signature = signature.replace(parameters=[*signature.parameters.values(), *_PARAMETERS])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    return run


async def wanted(database: Database, given: Given) -> Wanted:
    """Names become identifiers. Raises `BadRequest` or `NotFound`."""
    asked = dict(given)
    if asked["key"] is not None:
        async with database.transaction() as connection:
            asked["key"] = await imports.key_id(connection, asked["key"])
    if asked["user"] is not None and not _is_id(asked["user"]):
        asked["user"] = (await users.find_by_name(database, asked["user"])).id
    if asked["project"] is not None:
        asked["project"] = await project_id(database, asked["project"])
    return history_questions.wanted(asked)


async def project_id(database: Database, written: str) -> str:
    """By its identifier, or its name. Raises `NotFound`."""
    return written if _is_id(written) else (await projects.find_by_name(database, written)).id


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
