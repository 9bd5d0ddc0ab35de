"""Texts of the history as they can be read: whatever way they were kept, and whether their key is still there."""

from typing import Protocol

from ai_proxy.core.types import Exchange
from ai_proxy.storage.cipher import Cipher, Undecipherable, is_encrypted

PLAIN, ENCRYPTED, NONE = "plain", "encrypted", "none"

_MARK = "\x01"  # before an encrypted text in a column that has no other that says so; no text of a person has it


def stored(cipher: Cipher | None, exchange: Exchange) -> tuple[str, str, str]:
    """Question and answer as they are stored, and what they are then."""
    if not exchange.keep_texts:
        return "", "", NONE
    if cipher is None:
        return exchange.question, exchange.answer, PLAIN
    return cipher.encrypt(exchange.question), cipher.encrypt(exchange.answer), ENCRYPTED


def stored_bytes(cipher: Cipher | None, data: bytes | None) -> bytes | None:
    """A body as it is stored."""
    return data if cipher is None or data is None else cipher.encrypt_bytes(data)


class WithTexts(Protocol):
    """A row of `exchanges`, or of a query for these columns."""

    @property
    def texts(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...


def readable(cipher: Cipher | None, row: WithTexts) -> tuple[str, str]:
    """Question and answer; "" for one that was not kept, or whose key is gone."""
    return readable_text(cipher, row.texts, row.question), readable_text(cipher, row.texts, row.answer)


def readable_text(cipher: Cipher | None, texts: str, text: str) -> str:
    """One of them."""
    if texts == PLAIN:
        return text
    if texts == NONE or cipher is None or not text:
        return ""
    try:
        return cipher.decrypt(text)
    except Undecipherable:
        return ""


def readable_bytes(cipher: Cipher | None, texts: str, data: bytes | None) -> bytes | None:
    """A body; None for one that was not kept, or whose key is gone."""
    if texts == PLAIN or data is None:
        return data
    if texts == NONE or cipher is None:
        return None
    return opened_bytes(cipher, data)


def opened_bytes(cipher: Cipher | None, data: bytes) -> bytes | None:
    """What may be encrypted or not, and says so itself; None if its key is gone."""
    if not is_encrypted(data):
        return data
    try:
        return None if cipher is None else cipher.decrypt_bytes(data)
    except Undecipherable:
        return None


def sealed(cipher: Cipher | None, text: str | None) -> str | None:
    """A text for a column that has encrypted and plain ones."""
    if text is None:
        return None
    return text.lstrip(_MARK) if cipher is None else _MARK + cipher.encrypt(text)


def opened(cipher: Cipher | None, text: str | None) -> str | None:
    """The text of such a column; None also if its key is gone."""
    if text is None or not text.startswith(_MARK):
        return text
    try:
        return None if cipher is None else cipher.decrypt(text.removeprefix(_MARK))
    except Undecipherable:
        return None
