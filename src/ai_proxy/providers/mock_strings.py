"""Strings by what a JSON Schema asks of them: a format, or a regular expression."""

import re
import warnings
from collections.abc import Callable, Iterator
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]  # there is no public one
from typing import Any

_MOST_PATTERN = 1000
_FILLS = (1, 0, 2, 5, 20, 100, 1000)  # how often a part is repeated that may be repeated at will
_PRINTABLE = "a0A _-." + "".join(map(chr, range(33, 127))) + "é世"


def of_format(name: Any, turn: int) -> str | None:
    """A text of a format that JSON Schema knows; another one for each turn. None for other formats."""
    return _FORMATS[name].format(turn % 28 + 1, turn % 60, turn) if isinstance(name, str) and name in _FORMATS else None


_FORMATS = {
    "date-time": "2025-01-{0:02}T12:{1:02}:00Z",
    "date": "2025-01-{0:02}",
    "time": "12:{1:02}:00Z",
    "duration": "PT{0}M",
    "email": "mock{2}@example.com",
    "idn-email": "mock{2}@example.com",
    "hostname": "mock{2}.example.com",
    "idn-hostname": "mock{2}.example.com",
    "ipv4": "192.0.2.{0}",
    "ipv6": "2001:db8::{0:x}",
    "uuid": "00000000-0000-4000-8000-{2:012x}",
    "uri": "https://example.com/{2}",
    "url": "https://example.com/{2}",
    "iri": "https://example.com/{2}",
    "uri-reference": "/{2}",
    "iri-reference": "/{2}",
    "uri-template": "https://example.com/{{id}}/{2}",
    "json-pointer": "/{2}",
    "relative-json-pointer": "{0}",
    "regex": "^mock{2}$",
}


def of_pattern(pattern: Any, turn: int, spend: Callable[[int], None]) -> Iterator[str]:
    """Texts that the expression matches, of different lengths; others for each turn. None when it is not understood.

    They are built from the expression and never matched against it: that could take years. Work is told to `spend`.
    """
    if not isinstance(pattern, str) or len(pattern) > _MOST_PATTERN:
        return
    spend(len(pattern) // 8)
    try:
        with warnings.catch_warnings(action="ignore"):
            parsed = parser.parse(pattern)
        for fill in _FILLS:
            yield _Sample(fill, turn, spend).text(parsed)
    except (re.error, RecursionError, OverflowError, _NotUnderstood):
        return


class _NotUnderstood(Exception):
    pass


class _Sample:
    """One text for a parsed expression, with optional repetitions made `fill` times."""

    def __init__(self, fill: int, turn: int, spend: Callable[[int], None]) -> None:
        self._fill = fill
        self._turn = turn
        self._spend = spend
        self._groups: dict[int, str] = {}
        self._signs: dict[int, str] = {}
        self._by_code: dict[Any, Callable[[Any], str]] = {
            op.LITERAL: chr,
            op.NOT_LITERAL: lambda sign: next(other for other in _PRINTABLE if ord(other) != sign),
            op.ANY: lambda _: "a",
            op.AT: lambda _: "",
            op.ASSERT_NOT: lambda _: "",  # most often it forbids an odd case, such as the empty text
            op.IN: self._any_of,
            op.BRANCH: lambda branch: self.text(branch[1][0]),
            op.SUBPATTERN: self._group,
            op.ATOMIC_GROUP: self.text,
            op.GROUPREF: lambda number: self._groups.get(number, ""),
            **dict.fromkeys((op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT), self._repeated),
        }

    def text(self, parsed: Any) -> str:
        return "".join(self._part(code, argument) for code, argument in parsed)

    def _part(self, code: Any, argument: Any) -> str:
        self._spend(1)
        if code not in self._by_code:
            raise _NotUnderstood  # a condition, a look-ahead: what fits depends on the rest
        return self._by_code[code](argument)

    def _repeated(self, argument: tuple[int, int, Any]) -> str:
        least, most, repeated = argument
        return "".join(self.text(repeated) for _ in range(min(max(least, self._fill), most)))

    def _group(self, argument: tuple[Any, ...]) -> str:
        number, *_, inside = argument
        self._groups[number] = text = self.text(inside)
        return text

    def _any_of(self, members: Any) -> str:
        if id(members) not in self._signs:
            signs = [sign for sign in _candidates(members) if _allows(members, sign)]
            if not signs:
                raise _NotUnderstood
            self._signs[id(members)] = signs[self._turn % len(signs)]
        return self._signs[id(members)]


def _candidates(members: Any) -> Iterator[str]:
    for code, argument in members:
        if code is op.RANGE:
            yield chr(argument[0])
        elif code is op.LITERAL:
            yield chr(argument)
    yield from _PRINTABLE


def _allows(members: Any, sign: str) -> bool:
    negated = members[0][0] is op.NEGATE
    return negated != any(_holds(code, argument, sign) for code, argument in members)


def _holds(code: Any, argument: Any, sign: str) -> bool:
    if code is op.LITERAL:
        return bool(ord(sign) == argument)
    if code is op.RANGE:
        return bool(argument[0] <= ord(sign) <= argument[1])
    if code is op.CATEGORY:
        return re.match(_CATEGORIES[argument], sign) is not None
    return False


_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
}
