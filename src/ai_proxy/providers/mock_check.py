"""Whether a value fits a JSON Schema, as far as the mock knows its keywords. The rest is not looked at.

`pattern` and `patternProperties` are among the rest: a caller's expression is never run on a caller's text, because
there are expressions that need years for thirty characters.
"""

import math
from collections.abc import Callable
from typing import Any, TypeGuard
from urllib.parse import unquote

from ai_proxy.dialects.chat import ProviderFault


class Effort:
    """A bound on the work that one request may cause: there are small schemas that ask for years of it."""

    def __init__(self, steps: int = 40_000) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise ProviderFault("The JSON Schema asks for too much.", status=400)


class Document:
    """A whole schema, to which its references point."""

    def __init__(self, root: Any, effort: Effort) -> None:
        self._root = root
        self.spend = effort.spend

    def resolve(self, reference: Any) -> Any:
        """What `#/$defs/name` points to."""
        found = self._root
        try:
            path, _, inside = reference.partition("#")
            for name in inside.split("/")[1:]:
                key = unquote(name).replace("~1", "/").replace("~0", "~")
                found = found[int(key) if isinstance(found, list) else key]
        except (AttributeError, LookupError, TypeError, ValueError):
            path = "nowhere"
        if path:
            message = f"The JSON Schema has no {str(reference)[:100]}."
            raise ProviderFault(message, status=400)
        return found

    def fits(self, schema: Any, value: Any) -> bool:
        self.spend()
        if not isinstance(schema, dict):
            return schema is not False
        return all(_CHECKS[name](self, argument, value, schema) for name, argument in schema.items() if name in _CHECKS)

    def same(self, one: Any, other: Any) -> bool:
        """Equal as JSON: true is not 1, 1 is 1.0."""
        self.spend()
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self.same, one, other))
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(self.same(value, other[name]) for name, value in one.items())
        return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": is_number,
    "integer": lambda value: is_number(value) and value == math.floor(value),
}


def listed(argument: Any) -> list[Any]:
    """A keyword's argument that has to be a list."""
    return argument if isinstance(argument, list) else []


def texts(argument: Any) -> list[str]:
    """A keyword's argument that has to be a list of texts."""
    return [text for text in listed(argument) if isinstance(text, str)]


def named(argument: Any) -> dict[str, Any]:
    """A keyword's argument that has to be an object."""
    return argument if isinstance(argument, dict) else {}


def types(schema: dict[str, Any]) -> list[str]:
    """The types that a schema names."""
    given = schema.get("type")
    return [given] if isinstance(given, str) else texts(given)


_Check = Callable[[Document, Any, Any, dict[str, Any]], bool]


def _type(_: Document, argument: Any, value: Any, schema: dict[str, Any]) -> bool:
    return any(name in _TYPES and _TYPES[name](value) for name in types(schema)) or not argument


def _of_number(holds: Callable[[Any, Any], bool]) -> _Check:
    return lambda _, argument, value, __: not is_number(value) or not is_number(argument) or holds(value, argument)


def _of_size(kind: type, holds: Callable[[int, Any], bool]) -> _Check:
    return lambda _, argument, value, __: (
        not isinstance(value, kind) or not is_number(argument) or holds(len(value), argument)  # type: ignore[arg-type]
    )


def _multiple(value: float, argument: float) -> bool:
    quotient = value / argument if argument else math.inf
    return math.isfinite(quotient) and quotient == math.floor(quotient)


def _required(_: Document, argument: Any, value: Any, __: dict[str, Any]) -> bool:
    return not isinstance(value, dict) or all(name in value for name in texts(argument))


def _properties(document: Document, argument: Any, value: Any, _: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    return all(document.fits(schema, value[name]) for name, schema in named(argument).items() if name in value)


def _additional(document: Document, argument: Any, value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, dict) or "patternProperties" in schema:
        return True
    known = named(schema.get("properties"))
    return all(document.fits(argument, item) for name, item in value.items() if name not in known)


def _prefix(document: Document, argument: Any, value: Any, _: dict[str, Any]) -> bool:
    return not isinstance(value, list) or all(map(document.fits, listed(argument), value))


def _items(document: Document, argument: Any, value: Any, schema: dict[str, Any]) -> bool:
    if isinstance(argument, list):
        return _prefix(document, argument, value, schema)
    rest = value[len(listed(schema.get("prefixItems"))) :] if isinstance(value, list) else []
    return all(document.fits(argument, item) for item in rest)


def _unique(document: Document, argument: Any, value: Any, _: dict[str, Any]) -> bool:
    if argument is not True or not isinstance(value, list):
        return True
    return not any(document.same(item, earlier) for position, item in enumerate(value) for earlier in value[:position])


def _one_of(document: Document, argument: Any, value: Any, _: dict[str, Any]) -> bool:
    return sum(document.fits(schema, value) for schema in listed(argument)) == 1


def _condition(document: Document, argument: Any, value: Any, schema: dict[str, Any]) -> bool:
    return document.fits(schema.get("then" if document.fits(argument, value) else "else", True), value)


_CHECKS: dict[str, _Check] = {
    "$ref": lambda document, argument, value, _: document.fits(document.resolve(argument), value),
    "type": _type,
    "const": lambda document, argument, value, _: document.same(argument, value),
    "enum": lambda document, argument, value, _: any(document.same(member, value) for member in listed(argument)),
    "minimum": _of_number(lambda value, least: value >= least),
    "maximum": _of_number(lambda value, most: value <= most),
    "exclusiveMinimum": _of_number(lambda value, least: value > least),
    "exclusiveMaximum": _of_number(lambda value, most: value < most),
    "multipleOf": _of_number(_multiple),
    "minLength": _of_size(str, lambda size, least: size >= least),
    "maxLength": _of_size(str, lambda size, most: size <= most),
    "minItems": _of_size(list, lambda size, least: size >= least),
    "maxItems": _of_size(list, lambda size, most: size <= most),
    "minProperties": _of_size(dict, lambda size, least: size >= least),
    "maxProperties": _of_size(dict, lambda size, most: size <= most),
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "prefixItems": _prefix,
    "items": _items,
    "uniqueItems": _unique,
    "allOf": lambda document, argument, value, _: all(document.fits(schema, value) for schema in listed(argument)),
    "anyOf": lambda document, argument, value, _: any(document.fits(schema, value) for schema in listed(argument)),
    "oneOf": _one_of,
    "not": lambda document, argument, value, _: not document.fits(argument, value),
    "if": _condition,
}
