"""Texts as they lie on the disk when there is a key for them: AES-256-GCM.

Encrypted is: a byte that says so, which key it was (4 bytes of its digest), the nonce (12), and what was encrypted with
its tag of 16 bytes; as text, the same in base64.
"""

import binascii
import hashlib
import os
from collections.abc import Sequence
from typing import Any, Self

from ai_proxy.core.privacy import EncryptionSettings

_MARK = b"\x01"
_DIGEST, _NONCE = 4, 12
_HEADER = len(_MARK) + _DIGEST + _NONCE


class Undecipherable(ValueError):
    """Encrypted with a key that we do not have, or damaged."""


class Cipher:
    """The first of `keys`, of 32 bytes each, encrypts; all of them decrypt."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # Imported here, because it is not installed where nothing is encrypted.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self._keys: dict[bytes, Any] = {_digest(key): AESGCM(key) for key in keys}
        self._beginning = _MARK + _digest(keys[0])
        self._encrypt = self._keys[_digest(keys[0])].encrypt

    @classmethod
    def of(cls, settings: EncryptionSettings) -> Self | None:
        """That of the settings; None if nothing is to be encrypted."""
        return cls(settings.raw_keys) if settings.keys else None

    def encrypt(self, text: str) -> str:
        return binascii.b2a_base64(self.encrypt_bytes(text.encode()), newline=False).decode()

    def decrypt(self, text: str) -> str:
        """Raises `Undecipherable`."""
        try:
            data = binascii.a2b_base64(text)
        except ValueError:
            raise Undecipherable from None
        return self.decrypt_bytes(data).decode()

    def encrypt_bytes(self, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        encrypted: bytes = self._encrypt(nonce, data, None)
        return b"".join((self._beginning, nonce, encrypted))

    def decrypt_bytes(self, data: bytes) -> bytes:
        """Raises `Undecipherable`."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        key = self._keys.get(data[len(_MARK) : len(_MARK) + _DIGEST])
        if key is None or not is_encrypted(data):
            raise Undecipherable
        try:
            found: bytes = key.decrypt(data[len(_MARK) + _DIGEST : _HEADER], data[_HEADER:], None)
        except (InvalidTag, ValueError):
            raise Undecipherable from None
        return found


def is_encrypted(data: bytes) -> bool:
    """No JSON begins like this."""
    return data.startswith(_MARK)


def _digest(key: bytes) -> bytes:
    """What tells keys apart, and nothing about them."""
    return hashlib.sha256(b"which key: " + key).digest()[:_DIGEST]
