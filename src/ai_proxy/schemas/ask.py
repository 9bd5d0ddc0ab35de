"""POST /api/ask and POST /api/streaming."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ai_proxy.core.money import dollars_of
from ai_proxy.core.types import Exchange


def _without_nul(text: str) -> str:
    if "\x00" in text:
        message = "must not contain the character U+0000"
        raise ValueError(message)
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        message = "must not be blank"
        raise ValueError(message)
    return text


Text = Annotated[str, AfterValidator(_without_nul)]


class AskRequest(BaseModel):
    """A question. Unknown fields are refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"question": "What is the capital of France?"}]},
    )

    question: Annotated[Text, AfterValidator(_not_blank)] = Field(min_length=1, max_length=100_000)
    model: Text | None = Field(None, min_length=1, max_length=200, description="Unset: the configured model.")
    system: Text | None = Field(None, max_length=100_000, description="Instructions for the model.")
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    conversation_id: UUID | None = Field(
        None, strict=False, description="Earlier exchanges with this id are sent along. An unknown id starts anew."
    )

    @property
    def says_more(self) -> bool:
        """Than what an entry of the history has a field for."""
        return not (self.system is None and self.temperature is None and self.max_tokens is None)


class UsageBody(BaseModel):
    input_tokens: int
    output_tokens: int
    estimated: bool = Field(description="True when the provider did not count.")


COST = Field(description="What the call costs, in US dollars; null when nobody knows the model's price.")


class AskResponse(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51",
                    "answer": "Paris.",
                    "model": "gpt-6-luna",
                    "provider": "openai",
                    "mock": False,
                    "finish_reason": "stop",
                    "usage": {"input_tokens": 14, "output_tokens": 2, "estimated": False},
                    "cost_usd": "0.0000024",
                    "duration_ms": 412.5,
                    "created_at": "2026-11-23T05:14:09.120000Z",
                    "conversation_id": None,
                }
            ]
        }
    )

    id: UUID
    answer: str
    model: str
    provider: str
    mock: bool
    finish_reason: str
    usage: UsageBody
    cost_usd: str | None = COST
    duration_ms: float
    created_at: datetime
    conversation_id: UUID | None


def outcome(exchange: Exchange) -> dict[str, Any]:
    """What an answer and an entry of the history have in common."""
    return {
        "id": exchange.id,
        "answer": exchange.answer,
        "model": exchange.model,
        "provider": exchange.provider,
        "mock": exchange.mock,
        "usage": usage_of(exchange),
        "cost_usd": dollars_of(exchange.cost),
        "duration_ms": exchange.duration_ms,
        "created_at": datetime.fromtimestamp(exchange.created_at / 1_000_000, UTC),
        "conversation_id": exchange.conversation_id,
    }


def usage_of(exchange: Exchange) -> dict[str, Any]:
    """A `UsageBody`."""
    usage = exchange.usage
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "estimated": usage.estimated,
    }
