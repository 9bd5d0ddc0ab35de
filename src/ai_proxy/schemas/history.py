"""GET /api/history."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ai_proxy.schemas.ask import COST, UsageBody


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
    cost_usd: str | None = COST
    duration_ms: float
    created_at: datetime
    conversation_id: UUID | None


class HistoryPage(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "id": "019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51",
                            "question": "What is the capital of France?",
                            "answer": "Paris.",
                            "model": "gpt-6-luna",
                            "provider": "openai",
                            "mock": False,
                            "status": "completed",
                            "error": None,
                            "usage": {"input_tokens": 14, "output_tokens": 2, "estimated": False},
                            "cost_usd": "0.0000024",
                            "duration_ms": 412.5,
                            "created_at": "2026-11-23T05:14:09.120000Z",
                            "conversation_id": None,
                        }
                    ],
                    "next_cursor": "AZqy8F08fhqbRC9sDY56UQ",
                }
            ]
        }
    )

    items: list[HistoryItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")
