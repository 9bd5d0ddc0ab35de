"""Groups of settings for what is stored of texts: what is taken out of them, and what they are encrypted with."""

import base64
import binascii
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from ai_proxy.core.groups import Group, with_commas

Detector = Literal["secrets", "emails", "phones", "cards", "ibans"]

_KEY_BYTES = 32
_MOST_RULES, _LONGEST_RULE = 100, 1000
_NAME = re.compile(r"[a-z0-9_-]{1,40}")


class EncryptionSettings(Group):
    keys: tuple[SecretStr, ...] = Field((), description="What texts are encrypted with: the first; all of them read.")

    @field_validator("keys", mode="before")
    @classmethod
    def _each(cls, given: object) -> object:
        return with_commas(given)

    @field_validator("keys")
    @classmethod
    def _usable(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(map(_is_a_key, keys)):
            message = "must be keys that 'ai-proxy db new-encryption-key' makes"
            raise ValueError(message)
        if keys and find_spec("cryptography") is None:
            message = "needs the extra encryption: pip install 'ai-proxy-gateway[encryption]', or 'cryptography>=46'"
            raise ValueError(message)
        return keys

    @property
    def raw_keys(self) -> list[bytes]:
        return [base64.urlsafe_b64decode(key.get_secret_value()) for key in self.keys]


def _is_a_key(key: SecretStr) -> bool:
    try:
        return len(base64.b64decode(key.get_secret_value(), altchars=b"-_", validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


class RedactionSettings(Group):
    detect: tuple[Detector, ...] = Field((), description="What is taken out of texts before they are stored.")
    rules: dict[str, str] = Field({}, description="More of it: names, and regular expressions (RE2).")

    @field_validator("detect", mode="before")
    @classmethod
    def _each(cls, given: object) -> object:
        return with_commas(given)

    @field_validator("rules")
    @classmethod
    def _compiled(cls, rules: dict[str, str]) -> dict[str, str]:
        if rules and find_spec("re2") is None:
            message = "needs the extra redaction: pip install 'ai-proxy-gateway[redaction]', or 'google-re2>=1.1'"
            raise ValueError(message)
        if len(rules) > _MOST_RULES:
            message = f"there may be {_MOST_RULES} at most"
            raise ValueError(message)
        for name in rules:
            if not _NAME.fullmatch(name):
                message = f"{name!r}: a name has up to 40 small letters, digits, - and _"
                raise ValueError(message)
        expressions(rules)
        return rules


def expressions(rules: Mapping[str, str]) -> dict[str, Any]:
    """The rules, ready to be looked for in UTF-8, in a time that grows with the text and no faster.

    Raises `ValueError`.
    """
    if not rules:
        return {}
    re2: Any = import_module("re2")
    options = re2.Options()
    options.log_errors = False
    found: dict[str, Any] = {}
    for name, rule in rules.items():
        try:
            if len(rule) > _LONGEST_RULE:
                message = f"{name}: may have {_LONGEST_RULE} characters at most"
                raise ValueError(message)
            found[name] = re2.compile(rule.encode(), options)
        except re2.error as error:
            message = f"{name}: is no regular expression of RE2: {_text(error)}"
            raise ValueError(message) from None
        if found[name].search(b"") is not None:
            message = f"{name}: finds what is not there: it matches an empty text"
            raise ValueError(message)
    return found


def _text(error: Exception) -> str:
    [reason] = error.args or ("",)
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
