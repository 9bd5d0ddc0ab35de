"""Secrets as they are written in settings: `env:NAME`, `file:PATH`, or the secret itself."""

import re
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

_OF_A_SHELL = re.compile(r"\$(?:[A-Z_][A-Z0-9_]*|\{[A-Za-z_]\w*\})")
_LEAST_SHOWN = 20  # a shorter secret has no part to spare


class UnreadableSecret(Exception):
    """`where` is the variable that is at fault, if it is one: then the message is about its value."""

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(message)
        self.where = where


def read(written: SecretStr, variable: Callable[[str], str | None]) -> SecretStr:
    """The secret that is meant, fit to be sent in a header. Raises `UnreadableSecret`, never with the secret in it."""
    text = written.get_secret_value()
    if _OF_A_SHELL.fullmatch(text):
        message = "is a variable as a shell names it: write env:NAME"
        raise UnreadableSecret(message)
    if text.startswith("env:"):
        return _of_variable(text.removeprefix("env:"), variable)
    return sendable(_contents(Path(text.removeprefix("file:"))) if text.startswith("file:") else text)


def sendable(text: str, where: str | None = None) -> SecretStr:
    """Raises `UnreadableSecret` if a header cannot carry it."""
    if not (text.isascii() and text.isprintable() and text == text.strip()):
        message = "has characters that cannot be sent in a header: spaces around it, or others than ASCII"
        raise UnreadableSecret(message, where)
    return SecretStr(text)


def masked(secret: SecretStr) -> str:
    """Enough of a secret to tell it from another, and no more."""
    text = secret.get_secret_value()
    return f"{text[:3]}…{text[-4:]}" if len(text) >= _LEAST_SHOWN else "…"


def _of_variable(name: str, variable: Callable[[str], str | None]) -> SecretStr:
    value = variable(name)
    if value is None:
        message = f"the variable {name or '(no name)'} is not set"
        raise UnreadableSecret(message)
    return sendable(value, name)


def _contents(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        message = f"the file {path} is not text"
        raise UnreadableSecret(message) from None
    except OSError as error:
        message = f"the file {path} cannot be read: {error.strerror}"
        raise UnreadableSecret(message) from None
    if not text:
        message = f"the file {path} is empty"
        raise UnreadableSecret(message)
    return text
