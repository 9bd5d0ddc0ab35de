"""The audit log: who did what to what. Written in the transaction of the change itself, and never changed."""

import time
from typing import Any

import msgspec

from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import Actor
from ai_proxy.storage import audit
from ai_proxy.storage.engine import Connection


async def note(connection: Connection, actor: Actor, action: str, target: str, **details: Any) -> None:
    """Note what `actor` does, as in `note(connection, actor, "user.role", "user:ID", before="member", after="admin")`.

    Secrets must not be among the details.
    """
    entry = {
        "id": uuid7(),
        "created_at": time.time_ns() // 1000,
        "actor_id": actor.user_id,
        "actor": actor.name,
        "action": action,
        "target": target,
        "details": msgspec.json.encode(details).decode(),
        "address": actor.address,
        "request_id": actor.request_id,
    }
    await audit.add(connection, entry)
