"""Where the next page of a list begins, as a client is given it: the last identifier of the page before."""

import base64
import binascii
from uuid import UUID

from ai_proxy.core.exceptions import BadRequest


def encode(identifier: UUID) -> str:
    return base64.urlsafe_b64encode(identifier.bytes).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The identifier. Raises `BadRequest` for what is no cursor."""
    try:
        return str(UUID(bytes=base64.b64decode(cursor.encode() + b"==", altchars=b"-_", validate=True)))
    except (ValueError, binascii.Error):
        message = "cursor: pass the next_cursor of another page, as it is."
        raise BadRequest(message, param="cursor") from None
