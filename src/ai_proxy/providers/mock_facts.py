"""What a question offers to a mock that has to fill fields: its numbers, its names, its words, in their order."""

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

Number = int | float
_Value = TypeVar("_Value")

_READ = 4000  # characters of a question that are looked at
_MOST_VALUES = 200
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,15})?(?!\w)")
_QUOTED = r"\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|`([^`\n]{1,200})`|(?<!\w)'([^'\n]{1,200})'(?!\w)"
_CAPITAL = "A-ZÀ-ÖØ-ÞА-ЯЁ"
_NAMED = rf"(?<![\w'\u2019-])([{_CAPITAL}][\w'\u2019-]*(?:,? [{_CAPITAL}][\w'\u2019-]*)*)"
_PHRASE = re.compile(f"{_QUOTED}|{_NAMED}")
_QUOTATION = re.compile(_QUOTED)
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = ".?!:;\n"
_COMMON_WORDS = """
about also answer apply asked call could does each from function give given have help here into input just know
like make many mock more much need number only other output please result return returns should show some string
take tell text than that their them then there these they this tool tools using used user value want well were
what when where which while will with would your
"""
_COMMON = frozenset(_COMMON_WORDS.split())


class Facts:
    """Numbers and names are given out once each; words go round. `turn` makes another choice of the same question.

    `given` counts what was found in the question and given out; made-up words are not.
    """

    def __init__(self, text: str, *, otherwise: str = "", turn: int = 0) -> None:
        text, otherwise = text[:_READ], otherwise[:_READ]
        numbered = text if _NUMBER.search(text) else otherwise
        self._numbers = _numbers(_QUOTATION.sub(" ", numbered))
        self._quoted_numbers = _numbers(" ".join(quoted(numbered)))
        self._names = _names(text) or _names(otherwise)
        self._words = significant(text) or significant(otherwise) or _WORD.findall(text) or ["mock"]
        self._text = text.casefold()
        self._turn = turn
        self.given = 0

    def number(self, fits: Callable[[Number], bool], *, quoted: bool = True) -> Number | None:
        """`quoted`: a number will do that is a part of what stands in quotes, such as a path."""
        found = _taken(self._numbers, fits)
        return self._counted(_taken(self._quoted_numbers, fits) if found is None and quoted else found)

    def name(self, fits: Callable[[str], bool]) -> str | None:
        return self._counted(_taken(self._names, fits))

    def word(self) -> str:
        self._turn += 1
        return self._words[(self._turn - 1) % len(self._words)]

    def mentioned(self, values: Iterable[Any]) -> Any:
        """The first of the values that the question names, or None."""
        said = (value for value in islice(values, _MOST_VALUES) if isinstance(value, str) and self._says(value))
        return self._counted(next(said, None))

    def _counted(self, found: _Value) -> _Value:
        self.given += found is not None
        return found

    def _says(self, value: str) -> bool:
        folded = value.casefold()
        return folded in self._text and re.search(rf"(?<!\w){re.escape(folded)}(?!\w)", self._text) is not None


def significant(text: str) -> list[str]:
    """The words that say what a text is about."""
    return [word for word in _WORD.findall(text) if len(word) > 3 and word.casefold() not in _COMMON]  # noqa: PLR2004


def quoted(text: str) -> list[str]:
    return ["".join(found) for found in re.findall(_QUOTED, text[:_READ])]


def _numbers(text: str) -> list[Number]:
    return [float(found) if "." in found else int(found) for found in _NUMBER.findall(text)]


def _names(text: str) -> list[str]:
    """What stands in quotes, then what begins with a capital letter inside a sentence."""
    named = [match[5] for match in _PHRASE.finditer(text) if match[5] and match[5] != "I" and _inside(text, match)]
    return quoted(text) + named


def _inside(text: str, match: re.Match[str]) -> bool:
    before = text[max(match.start() - 3, 0) : match.start()].rstrip(" ")
    return bool(before) and before[-1] not in _SENTENCE_END


def _taken(values: list[_Value], fits: Callable[[_Value], bool]) -> _Value | None:
    for position, value in enumerate(values):
        if fits(value):
            return values.pop(position)
    return None
