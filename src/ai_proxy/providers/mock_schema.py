"""A JSON value that fits a JSON Schema, made of what a question offers.

Known are the keywords of `mock_check`, `pattern` and `format`; the others are ignored.
A schema that contains itself is followed once; further in, only what must be is made.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_check import Document, Effort, is_number, listed, named, texts, types
from ai_proxy.providers.mock_facts import Facts
from ai_proxy.providers.mock_merge import Schema, merged
from ai_proxy.providers.mock_strings import of_format, of_pattern

_COMBINATORS = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else"})
_NOT_BY_CONSTRUCTION = frozenset({"oneOf", "not", "if"})
_KEYWORDS = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_DEEPEST = 60  # references inside references
_TRIES = 5
_INTEGERS = range(-(2**63), 2**63)
_LONGEST = 10_000

_Path = tuple[str, ...]  # the references that led here


def instance(schema: Any, facts: Facts, effort: Effort, *, turn: int = 0, sparing: bool = False) -> Any:
    """A value that fits. Raises `ProviderFault` when the mock finds none.

    `sparing`: fields that need not be there are left out, unless the question has something for them.
    """
    try:
        return _Maker(Document(schema, effort), facts, turn, sparing=sparing).make(schema, ("#",))
    except (_NoValue, OverflowError):
        if sparing:  # there are schemas that only a fuller value fits
            return instance(schema, facts, effort, turn=turn)
        raise ProviderFault("The mock finds no value that fits the JSON Schema.", status=400) from None
    except RecursionError:
        raise ProviderFault("The JSON Schema is nested too deeply.", status=400) from None


class _NoValue(Exception):
    pass


class _Maker:
    """Makes one value. `turn` goes up to get other values from the same schema."""

    def __init__(self, document: Document, facts: Facts, turn: int, *, sparing: bool) -> None:
        self._document = document
        self._facts = facts
        self._turn = turn
        self._sparing = sparing
        self._optional = False  # what is being made may be left out
        self._by_type: dict[str, Callable[[Schema, _Path], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": lambda schema, _: self._string(schema),
            "integer": lambda schema, _: self._number(schema, whole=True),
            "number": lambda schema, _: self._number(schema, whole=False),
            "boolean": lambda _, __: self._turn % 2 == 0,
            "null": lambda _, __: None,
        }

    def make(self, schema: Any, path: _Path) -> Any:
        if isinstance(schema, bool):
            schema = {"type": "string"} if schema else {"enum": []}
        for plain, inner in self._alternatives(schema, path):
            try:
                return self._checked(schema, plain, inner)
            except _NoValue:
                continue
        raise _NoValue

    def _checked(self, schema: Schema, plain: Schema, path: _Path) -> Any:
        if _NOT_BY_CONSTRUCTION.isdisjoint({*schema, *plain}):
            return self._plain(plain, path)
        for value in self._turns(lambda: self._plain(plain, path), _TRIES):
            if self._document.fits(schema, value) and self._document.fits(plain, value):
                return value
        raise _NoValue

    def _turns(self, make: Callable[[], Any], tries: int) -> Iterator[Any]:
        turn = self._turn
        try:
            for self._turn in range(turn, turn + tries):
                yield make()
        finally:
            self._turn = turn

    def _alternatives(self, schema: Any, path: _Path) -> Iterator[tuple[Schema, _Path]]:
        """The schemas without combinators of which one has to be met, and the references that led to them."""
        self._document.spend()
        if schema is False or len(path) > _DEEPEST:
            return
        schema = {} if schema is True else schema
        if not isinstance(schema, dict):
            raise ProviderFault("A JSON Schema must be an object or a boolean.", status=400)
        plain = {name: value for name, value in schema.items() if name not in _COMBINATORS}
        found: Iterator[tuple[Schema, _Path]] = iter([(plain, path)])
        for group in self._groups(schema):
            found = self._joined(found, group)
        yield from found

    def _groups(self, schema: Schema) -> Iterator[list[tuple[Any, _Path]]]:
        """The combinators: of each group, one member has to be met. A member comes with its own reference, if any."""
        if "$ref" in schema:
            yield [(self._document.resolve(schema["$ref"]), (schema["$ref"],))]
        for member in listed(schema.get("allOf")):
            yield [(member, ())]
        for name in ("anyOf", "oneOf"):
            if name in schema:
                yield [(member, ()) for member in listed(schema[name])]
        if "if" in schema:
            condition = schema["if"]
            yes, no = [condition, schema.get("then", True)], [{"not": condition}, schema.get("else", True)]
            yield [({"allOf": yes}, ()), ({"allOf": no}, ())]

    def _joined(
        self, heads: Iterable[tuple[Schema, _Path]], group: list[tuple[Any, _Path]]
    ) -> Iterator[tuple[Schema, _Path]]:
        for head, path in heads:
            members = group if len(group) == 1 else self._ordered(group, path)
            for member, reference in members:
                for plain, inner in self._alternatives(member, path + reference):
                    yield merged(head, plain), inner

    def _ordered(self, group: list[tuple[Any, _Path]], path: _Path) -> list[tuple[Any, _Path]]:
        """Null comes last: an answer says more. Inside a repetition, it comes first, and objects last."""
        key = self._size if _repeats(path) else _is_null
        return sorted(group, key=lambda member: key(member[0]))

    def _size(self, schema: Any) -> int:
        schema = self._document.resolve(schema["$ref"]) if isinstance(schema, dict) and "$ref" in schema else schema
        if not isinstance(schema, dict) or not _COMBINATORS.isdisjoint(schema):
            return 3
        kinds = _kinds(schema)
        return 0 if _is_null(schema) else 3 if "object" in kinds else 2 if "array" in kinds else 1

    def _plain(self, schema: Schema, path: _Path) -> Any:
        self._document.spend()
        if "const" in schema:
            return self._one_of([schema["const"]], schema)
        if "enum" in schema:
            members = listed(schema["enum"])
            start = self._turn % max(len(members), 1)
            said = self._facts.mentioned(members) if self._turn == 0 else None
            return self._one_of([*([] if said is None else [said]), *members[start:], *members[:start]], schema)
        for kind in sorted(_kinds(schema), key=lambda kind: kind == "null"):
            if kind in self._by_type:
                try:
                    return self._by_type[kind](schema, path)
                except _NoValue:
                    continue
        raise _NoValue

    def _one_of(self, values: Iterable[Any], schema: Schema) -> Any:
        for value in values:
            if self._document.fits(schema, value):
                return value
        raise _NoValue

    def _number(self, schema: Schema, *, whole: bool) -> int | float:
        def fits(value: Any) -> bool:
            right = is_number(value) and (value in _INTEGERS if isinstance(value, int) else not whole)
            return right and self._document.fits(schema, value)

        found = None if self._turn else self._facts.number(fits, quoted=not self._optional)
        candidates = [*_given(schema), *_numbers(schema, self._turn, whole=whole)] if found is None else [found]
        return self._one_of(filter(fits, candidates), schema)  # type: ignore[no-any-return]

    def _string(self, schema: Schema) -> str:
        def fits(value: Any) -> bool:
            return isinstance(value, str) and self._document.fits(schema, value)

        if "pattern" in schema:
            candidates: Iterable[Any] = chain(
                _given(schema), of_pattern(schema["pattern"], self._turn, self._document.spend)
            )
        elif (formatted := of_format(schema.get("format"), self._turn)) is not None:
            candidates = [*_given(schema), formatted]
        else:
            name = None if self._turn else self._facts.name(fits)
            candidates = chain([name], _given(schema), (self._word(schema) for _ in range(_TRIES)))
        return str(self._one_of(filter(fits, candidates), schema))

    def _word(self, schema: Schema) -> str:
        least, most = _bound(schema, "minLength", 0), _bound(schema, "maxLength", _LONGEST)
        word = self._facts.word()
        word = f"{word}{self._turn}" if self._turn else word
        return (word * -(-min(least, _LONGEST) // len(word)) if least > len(word) else word)[:most]

    def _array(self, schema: Schema, path: _Path) -> list[Any]:
        kinds, rest = listed(schema.get("prefixItems")), schema.get("items", True)
        if isinstance(rest, list):
            kinds, rest = rest, schema.get("additionalItems", True)
        least, most = _bound(schema, "minItems", 0), _bound(schema, "maxItems", _LONGEST)
        wanted = 0 if _repeats(path) else max(len(kinds), 1)
        items: list[Any] = []
        while len(items) < min(max(least, wanted), most):
            try:
                kind = kinds[len(items)] if len(items) < len(kinds) else rest
                items.append(self._item(kind, path, items if schema.get("uniqueItems") is True else []))
            except _NoValue:
                break
        return list(self._one_of([items], schema))

    def _item(self, schema: Any, path: _Path, others: list[Any]) -> Any:
        """An item that is not among the others."""
        for value in self._turns(lambda: self.make(schema, path), len(others) + _TRIES):
            if not any(self._document.same(value, other) for other in others):
                return value
        raise _NoValue

    def _object(self, schema: Schema, path: _Path) -> dict[str, Any]:
        properties, rest = named(schema.get("properties")), schema.get("additionalProperties", True)
        required = texts(schema.get("required"))
        optional = [] if _repeats(path) else list(properties)
        least, most = _bound(schema, "minProperties", 0), _bound(schema, "maxProperties", _LONGEST)
        if not properties and isinstance(rest, dict) and not _repeats(path):
            least = max(least, 1)
        made = {name: self.make(properties.get(name, rest), path) for name in dict.fromkeys(required)}
        for name in optional:
            if len(made) < most and name not in made:
                self._add(made, name, partial(self._offered, properties[name], path))
        for name in [*properties, *(f"{self._facts.word()}{number}" for number in range(min(least, _LONGEST)))]:
            if len(made) < least and name not in made:
                self._add(made, name, partial(self.make, properties.get(name, rest), path))
        ordered = {name: made[name] for name in [*properties, *made] if name in made}
        return dict(self._one_of([ordered], schema))

    def _add(self, made: dict[str, Any], name: str, make: Callable[[], Any]) -> None:
        with contextlib.suppress(_NoValue):
            made[name] = make()

    def _offered(self, schema: Any, path: _Path) -> Any:
        """A value that may be left out; when sparing, it is if nothing in it is from the question."""
        if not self._sparing:
            return self.make(schema, path)
        given, outer, self._optional = self._facts.given, self._optional, True
        try:
            value = self.make(schema, path)
        finally:
            self._optional = outer
        if self._facts.given == given:
            raise _NoValue
        return value


def _numbers(schema: Schema, turn: int, *, whole: bool) -> Iterator[int | float]:
    """Numbers that may fit: small ones, those at the bounds, and multiples of the step near them."""
    lows, highs = _present(schema, "minimum", "exclusiveMinimum"), _present(schema, "maximum", "exclusiveMaximum")
    bounds = [*([max(lows)] if lows else []), *([min(highs)] if highs else [])]
    step = next((step for step in _present(schema, "multipleOf") if step > 0), 1)
    yield from (turn + 1 if whole or not turn else turn + 0.5, turn + 1, (turn + 1) * step, turn)
    for bound in bounds:
        nearest = math.floor(bound / step)
        for distance in (turn, turn + 1, -turn, -turn - 1, 0, 1, -1):
            yield int((nearest + distance) * step) if whole else (nearest + distance) * step
    if not whole:
        yield from bounds
        yield sum(bounds) / 2


def _present(schema: Schema, *names: str) -> list[int | float]:
    """The arguments of those keywords that are numbers."""
    return [argument for name in names if is_number(argument := schema.get(name))]


def _given(schema: Schema) -> list[Any]:
    """What the schema itself offers."""
    return [*([schema["default"]] if "default" in schema else []), *listed(schema.get("examples"))]


def _kinds(schema: Schema) -> list[str]:
    """The types that a plain schema allows: those that it names, or those whose keywords it uses."""
    if "type" in schema:
        return types(schema)
    return [kind for kind, keywords in _KEYWORDS.items() if any(name in schema for name in keywords)] or ["string"]


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and (schema.get("type") == "null" or schema.get("const", 0) is None)


def _repeats(path: _Path) -> bool:
    return len(set(path)) < len(path)


def _bound(schema: Schema, name: str, otherwise: int) -> int:
    return next((math.ceil(bound) for bound in _present(schema, name) if bound >= 0), otherwise)
