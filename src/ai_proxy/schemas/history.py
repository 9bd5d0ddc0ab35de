"""GET /api/history."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from ai_proxy.schemas.ask import UsageBody


class HistoryItem(BaseModel):
    id: UUID
    question: str
    answer: str = Field(description="As far as it came, when the call failed or was cancelled.")
    model: str
    provider: str
    mock: bool
    status: Literal["completed", "failed", "cancelled"]
    error: str | None = Field(description="The error's code.")
    usage: UsageBody
    duration_ms: float
    created_at: datetime
    conversation_id: UUID | None


class HistoryPage(BaseModel):
    items: list[HistoryItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")
