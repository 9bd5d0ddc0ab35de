"""Two JSON Schemas as the one that asks what both ask."""

import math
from collections.abc import Callable
from typing import Any

from ai_proxy.providers.mock_check import is_number, listed, named, texts, types

Schema = dict[str, Any]


def merged(one: Schema, other: Schema) -> Schema:
    """A schema without combinators: both must be such. What contradicts itself fits no value."""
    found = {**other, **one}
    for name, both in _BOTH.items():
        if name in one and name in other:
            found[name] = both(one[name], other[name])
    if "type" in one and "type" in other:
        found["type"] = _types(types(one), types(other))
    if "const" in one and "const" in other and one["const"] != other["const"]:
        found["enum"] = []
    if "properties" in one or "properties" in other:
        found["properties"] = _properties(one, other)
    return found


def _types(one: list[str], other: list[str]) -> list[str]:
    shared = [name for name in one if name in other or (name == "integer" and "number" in other)]
    shared += [name for name in other if name == "integer" and "number" in one and name not in shared]
    return shared or ["nothing"]


def _properties(one: Schema, other: Schema) -> Schema:
    """A property that one schema does not name is one of its additional ones."""
    mine, theirs = named(one.get("properties")), named(other.get("properties"))
    return {
        name: _all(
            mine.get(name, one.get("additionalProperties", True)),
            theirs.get(name, other.get("additionalProperties", True)),
        )
        for name in {**mine, **theirs}
    }


def _all(one: Any, other: Any) -> Any:
    if one is True or one == {}:
        return other
    return one if other is True or other == {} else {"allOf": [one, other]}


def _multiple(one: Any, other: Any) -> Any:
    if isinstance(one, int) and isinstance(other, int):
        return math.lcm(one, other)
    return max(one, other) if is_number(one) and is_number(other) else one


def _more(one: Any, other: Any) -> Any:
    return max(one, other) if is_number(one) and is_number(other) else one


def _less(one: Any, other: Any) -> Any:
    return min(one, other) if is_number(one) and is_number(other) else one


_BOTH: dict[str, Callable[[Any, Any], Any]] = {
    "enum": lambda one, other: [member for member in listed(one) if member in listed(other)],
    "required": lambda one, other: list(dict.fromkeys(texts(one) + texts(other))),
    "items": _all,
    "additionalProperties": _all,
    "not": lambda one, other: {"anyOf": [one, other]},
    "uniqueItems": lambda one, other: one is True or other is True,
    "multipleOf": _multiple,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), _more),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), _less),
}
