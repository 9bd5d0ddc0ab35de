"""API keys as plain values: how one is made, checked for typing errors, and turned into what is stored.

A key is `aip_` + 43 random characters (256 bits) + 6 characters of CRC-32 over what stands before them, in base 62.
The checksum lets a mistyped key be refused without asking the database, and lets scanners recognise leaked keys.
"""

import hashlib
import hmac
import secrets
import string
import zlib

from ai_proxy.core.types import Scope

PREFIX = "aip_"
DEFAULT_SCOPES: tuple[Scope, ...] = ("calls", "history")
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_LENGTH = 43
_CHECKSUM_LENGTH = 6


def new_key() -> str:
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    return body + _checksum(body)


def is_mistyped(key: str) -> bool:
    """Whether a key claims to be one of ours (by its prefix) and cannot be."""
    return key.startswith(PREFIX) and not hmac.compare_digest(
        _checksum(key[:-_CHECKSUM_LENGTH]).encode(), key[-_CHECKSUM_LENGTH:].encode()
    )


def digest(key: str, secret: bytes) -> str:
    """What is stored of a key: BLAKE2b keyed with the server's secret, as 64 hexadecimal digits.

    BLAKE2 has a key of its own (RFC 7693 section 2.9) of at most 64 bytes. It takes a tenth of the time that HMAC takes
    through OpenSSL, and every call pays for it.
    """
    return hashlib.blake2b(key.encode(), digest_size=32, key=secret).hexdigest()


def hashing_secret(text: str) -> bytes:
    """A secret of any length, as the 64 bytes that `digest` takes."""
    return hashlib.blake2b(text.encode()).digest()


def hint(key: str) -> str:
    """What a person may see of a key later: enough to tell keys apart; nothing of one that a person made up."""
    return f"{key[:7]}…{key[-4:]}" if key.startswith(PREFIX) else "…"


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
