"""What people look for in texts: words, "phrases", beginnings* and -words that must not be there.

Anything else in a query is text, so none can be wrong in a database's own language of queries.
"""

import re
import unicodedata
from os.path import commonprefix
from typing import Literal

import msgspec
import Stemmer  # type: ignore[import-not-found]

from ai_proxy.core.exceptions import BadRequest

_MOST_CHARACTERS, _MOST_WORDS = 500, 32
_SHORTEST_STEM = 3  # also of a beginning: with less, too much of the index would have to be read

_TERM = re.compile(r'(?<!\S)(-?)"([^"]*)"?|(?<!\S)(-?)(\S+)|(\S+)')
_WORD = re.compile(r"[^\W_]+")
_CYRILLIC, _LATIN = re.compile("[\u0430-\u044f]+"), re.compile("[a-z]+")


class Term(msgspec.Struct, frozen=True):
    """Words that stand side by side. Of the last one: its forms, what begins with it, or it alone."""

    words: tuple[str, ...]
    last: Literal["forms", "beginning", "exact"] = "forms"


class Words(msgspec.Struct, frozen=True):
    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...] = ()


def folded(text: str) -> str:
    """A text as words are compared: in lower case, and letters with their accents in one character.

    The Russian letter io is an ie to those who are in a hurry.
    """
    return unicodedata.normalize("NFC", text).lower().replace("\u0451", "\u0435")


def split(text: str) -> list[str]:
    """The words of a text, folded."""
    return _WORD.findall(folded(text))


def parse(query: str) -> Words:
    """Raises `BadRequest` if there is no word in it that could be found, or if it is too long."""
    if len(query) > _MOST_CHARACTERS:
        message = f"A search has at most {_MOST_CHARACTERS} characters."
        raise BadRequest(message)
    wanted: list[Term] = []
    unwanted: list[Term] = []
    for match in _TERM.finditer(query):
        quoted_minus, phrase, minus, text, rest = match.groups()
        term = _term(phrase if phrase is not None else text or rest, is_phrase=phrase is not None)
        if term.words:
            (unwanted if quoted_minus or minus else wanted).append(term)
    _check(wanted, unwanted)
    return Words(tuple(wanted), tuple(unwanted))


def _check(wanted: list[Term], unwanted: list[Term]) -> None:
    if sum(len(term.words) for term in (*wanted, *unwanted)) > _MOST_WORDS:
        message = f"A search has at most {_MOST_WORDS} words."
        raise BadRequest(message)
    if not wanted:
        message = "A search needs a word that is to be found: letters or digits, without a minus."
        raise BadRequest(message)
    if any(term.last == "beginning" and len(term.words[-1]) < _SHORTEST_STEM for term in (*wanted, *unwanted)):
        message = f"The beginning of a word has at least {_SHORTEST_STEM} characters before the star."
        raise BadRequest(message)


def _term(text: str, *, is_phrase: bool) -> Term:
    if is_phrase:
        return Term(tuple(split(text)), "exact")
    return Term(tuple(split(text)), "beginning" if text.endswith("*") else "forms")


def stem(word: str) -> str | None:
    """What the forms of a word begin with; None if it has none: it is short, or of another language."""
    language = "russian" if _CYRILLIC.fullmatch(word) else "english" if _LATIN.fullmatch(word) else None
    if language is None or len(word) <= _SHORTEST_STEM:
        return None
    found = Stemmer.Stemmer(language).stemWord(word)
    if language == "english":
        found = found.removesuffix("i")  # which stands for a y as well: "happi" is the stem of "happy"
    common = commonprefix([word, found])  # noqa: RUF071 - of letters, not of paths
    return common if len(common) >= _SHORTEST_STEM else None
