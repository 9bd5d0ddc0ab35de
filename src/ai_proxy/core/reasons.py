"""What is wrong with a setting, in words for who wrote it."""

import difflib
from collections.abc import Iterator
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ai_proxy.core.sources import Location

_LENGTHS = {
    "too_short": "must have at least {min_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_long": "must have at most {max_length} characters",
    "string_too_long": "must have at most {max_length} characters",
}
_LISTS = frozenset({"tuple_type", "list_type"})
_NUMBERS = {
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
}


def reason_of(problem: ErrorDetails, location: Location, settings: type[BaseModel]) -> str:
    """What is wrong at this place, without the value: it may be a secret."""
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"there is no such setting{_nearest(location, settings)}"
    if kind == "missing":
        return "is missing"
    if kind in _LISTS:
        return "must be a list"
    if kind in _NUMBERS:
        return f"must be {_NUMBERS[kind]}{_of_seconds(location, settings)}, as 10"
    if kind in _LENGTHS:
        return _LENGTHS[kind].format(**problem["ctx"])
    return problem["msg"].removeprefix("Value error, ")


def _nearest(location: Location, settings: type[BaseModel]) -> str:
    table = _table(location[:-1], settings)
    near = difflib.get_close_matches(str(location[-1]), table.model_fields if table else (), n=1)
    return f": is it {near[0]}?" if near else ""


def _of_seconds(location: Location, settings: type[BaseModel]) -> str:
    table = _table(location[:-1], settings)
    field = table.model_fields.get(str(location[-1])) if table else None
    return " of seconds" if field and "seconds" in (field.description or "").lower() else ""


def _table(location: Location, settings: type[BaseModel]) -> type[BaseModel] | None:
    """What describes the table at this place. None: there is none."""
    table: type[BaseModel] | None = settings
    parts = iter(location)
    for part in parts:
        field = table.model_fields.get(str(part)) if table else None
        table = _inside(field) if field else None
        if field and get_origin(field.annotation) in {dict, tuple}:
            next(parts, None)  # a name that the operator chose, or a number
    return table


def _inside(field: FieldInfo) -> type[BaseModel] | None:
    return next(_tables(field.annotation), None)


def _tables(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables(inner)
