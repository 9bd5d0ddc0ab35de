"""How one exchange looks in the spool: as bytes for the way back into the database, or as a line for people."""

import base64
import json

import msgspec

from ai_proxy.core.types import Exchange
from ai_proxy.storage.cipher import Cipher

_PLAIN, _ENCRYPTED = b"\x00", b"\x01"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Exchange).decode


def encoded(exchange: Exchange, cipher: Cipher | None) -> bytes:
    """Raises `ValueError` or `OverflowError` for one that no database takes either."""
    data = _encode(_stored(exchange))
    return _PLAIN + data if cipher is None else _ENCRYPTED + cipher.encrypt_bytes(data)


def decoded(payload: bytes, cipher: Cipher | None) -> Exchange:
    """Raises `ValueError` if it cannot be read: of a newer version, or without the key."""
    kind, data = payload[:1], payload[1:]
    if kind == _ENCRYPTED:
        if cipher is None:
            message = "encrypted, and there is no key"
            raise ValueError(message)
        data = cipher.decrypt_bytes(data)
    return _decode(data)


def line(exchange: Exchange, cipher: Cipher | None) -> bytes:
    """One line of JSON, whatever is in it."""
    text = json.dumps(msgspec.to_builtins(_stored(exchange)), default=str)
    if cipher is not None:
        secret = base64.b64encode(cipher.encrypt_bytes(text.encode()))
        text = json.dumps({"id": exchange.id, "encrypted": secret.decode()})
    return text.encode() + b"\n"


def _stored(exchange: Exchange) -> Exchange:
    """What of it concerns the history."""
    stored = msgspec.structs.replace(exchange, principal=None, reuse=None, limits_told={})
    if not exchange.keep_texts:
        stored.question = stored.answer = ""
        stored.request = stored.response = stored.kept = None
    return stored
