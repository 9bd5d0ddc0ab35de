"""Takes out of texts what nobody should find in the history. Calls and answers themselves stay as they are.

Whatever is looked for is found in a time that grows with the text and no faster: callers choose the texts.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from ai_proxy.core.privacy import RedactionSettings, expressions
from ai_proxy.core.types import Exchange
from ai_proxy.gateway.detectors import DETECTORS, PIECE

# What is to be stored of an exchange: a copy of it.
Redact = Callable[[Exchange], Exchange]

# What a string of JSON consists of, between its quotes.
_WRITTEN = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_raw = msgspec.json.Decoder(msgspec.Raw)

Rule = Callable[[str], str]


def size_of(exchange: Exchange) -> int:
    """How much there is to look through."""
    bodies = len(exchange.request or b"") + len(exchange.response or b"")
    kept = 0 if exchange.kept is None else len(exchange.kept.body)
    return len(exchange.question) + len(exchange.answer) + bodies + kept


class Redaction:
    """Use `of`, which knows whether there is anything to do."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules

    @classmethod
    def of(cls, settings: RedactionSettings) -> "Redaction | None":
        """That of the settings; None if nothing is looked for."""
        rules: list[Rule] = [partial(DETECTORS[name], replacement=f"[redacted:{name}]") for name in settings.detect]
        rules += [_own_rule(name, found) for name, found in expressions(settings.rules).items()]
        return cls(rules) if rules else None

    def __call__(self, exchange: Exchange) -> Exchange:
        """What is to be stored in its place. It stays as it is: its answer may still be on the way."""
        answer = self.text(exchange.answer)
        response = exchange.response and self.body(exchange.response)
        if response is not None and answer != exchange.answer and not _is_json(response):
            response = None  # parts of a stream that could not be put together: nobody can look into these
        kept = exchange.kept
        return msgspec.structs.replace(
            exchange,
            question=self.text(exchange.question),
            answer=answer,
            request=exchange.request and self.body(exchange.request),
            response=response,
            kept=kept and msgspec.structs.replace(kept, body=self.body(kept.body)),
        )

    def text(self, text: str) -> str:
        for rule in self._rules:
            text = rule(text)
        return text

    def body(self, body: bytes) -> bytes:
        """Of JSON, only strings are changed, so that it stays what it is."""
        text = body.decode(errors="surrogateescape")
        changed = self._strings(text)
        if not _is_json(body):
            changed = self.text(changed)
        return body if changed == text else changed.encode(errors="surrogateescape")

    def _strings(self, text: str) -> str:
        """A string that is cut off ends with the text."""
        parts: list[str] = []
        done = end = 0
        while (start := text.find('"', end)) >= 0:
            end = _end_of_string(text, start + 1)
            if end > start + 1:
                found = _unquoted(text[start + 1 : end])
                changed = self.text(found)
                if changed != found:
                    parts += text[done:start], _quoted(changed)[:-1]
                    done = end
            end += 1
        return "".join((*parts, text[done:])) if parts else text


def _end_of_string(text: str, at: int) -> int:
    """Where its last quote is, or what the text ends with. In pieces, as detectors do it."""
    while match := _WRITTEN.match(text, at, at + PIECE):
        if match.end() < at + PIECE - 1:  # else it may have been cut off, maybe behind a backslash
            return match.end()
        at = match.end()
    return at


def _unquoted(written: str) -> str:
    if "\\" not in written:
        return written
    try:
        text: str = json.loads(f'"{written}"', strict=False)
    except ValueError:
        return written
    return text


def _quoted(text: str) -> str:
    """With half a character in it, which JSON can hold and UTF-8 cannot, in ASCII."""
    halves = any("\ud800" <= character <= "\udfff" for character in text)
    return json.dumps(text, ensure_ascii=halves)


def _is_json(body: bytes) -> bool:
    try:
        _raw.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _own_rule(name: str, expression: Any) -> Rule:
    """An operator's: RE2 finds it in bytes."""
    replacement = f"[redacted:{name}]".encode()

    def redacted(text: str) -> str:
        data = text.encode(errors="surrogatepass")
        if expression.search(data) is None:
            return text
        parts: list[bytes] = []
        end = 0
        for match in expression.finditer(data):
            start, stop = match.span()
            if start < stop:
                parts += data[end:start], replacement
                end = stop
        parts.append(data[end:])
        return b"".join(parts).decode(errors="surrogatepass")

    return redacted
