"""The tables. Queries live in the module named after the table's subject.

Identifiers are UUIDv7 in text form, so their order is the order in time. Times are microseconds since the epoch (UTC).
"""

from ai_proxy.storage.tables.base import Table
from ai_proxy.storage.tables.history import (
    Bodies,
    Conversation,
    DailyUsage,
    Exchange,
    Feedback,
    IdempotentAnswer,
    Indexed,
    Tag,
    Unindexed,
)
from ai_proxy.storage.tables.people import (
    ApiKey,
    AuditEntry,
    Budget,
    Limit,
    Member,
    Project,
    Session,
    SetupToken,
    User,
)

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Bodies",
    "Budget",
    "Conversation",
    "DailyUsage",
    "Exchange",
    "Feedback",
    "IdempotentAnswer",
    "Indexed",
    "Limit",
    "Member",
    "Project",
    "Session",
    "SetupToken",
    "Table",
    "Tag",
    "Unindexed",
    "User",
]
