"""/api/history."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from ai_proxy.schemas.ask import COST, Text, UsageBody

_TEXT = r"^[^\x00]*$"
_TIME = "A day (UTC) such as 2026-11-01, or an instant such as 2026-11-01T09:30:00Z."

Status = Literal["completed", "failed", "cancelled"]
Thumb = Literal["up", "down"]


def _only(what: str, longest: int) -> Any:
    return Field(None, min_length=1, max_length=longest, pattern=_TEXT, description=f"Only {what}.")


class HistoryFilters(BaseModel):
    """Which exchanges."""

    model_config = ConfigDict(extra="forbid")

    q: str | None = Field(
        None, max_length=500, pattern=_TEXT, description="Words of question or answer. The best of 1,000 come first."
    )
    model: str | None = _only("what this model answered", 200)
    provider: str | None = _only("what this provider answered", 100)
    status: Status | None = None
    key: str | None = _only("calls with the key of this id", 36)
    user: str | None = _only("calls of the user with this id", 36)
    project: str | None = _only("calls in the project of this id", 36)
    conversation: UUID | None = None
    tag: str | None = _only("what has this tag", 50)
    thumb: Thumb | None = Field(None, description="Only what has this feedback.")
    min_cost_usd: str | None = _only("what cost this much or more, in US dollars", 30)
    max_cost_usd: str | None = _only("what cost this much or less", 30)
    first: str | None = Field(None, alias="from", max_length=40, pattern=_TEXT, description=_TIME)
    last: str | None = Field(
        None, alias="to", max_length=40, pattern=_TEXT, description="The same: a day is included, an instant is not."
    )


class HistoryQuery(HistoryFilters):
    """Which exchanges, and how many of them."""

    limit: int = Field(20, ge=1, le=200, description="Most items on a page.")
    cursor: str | None = Field(None, max_length=100, description="`next_cursor` of the page before.")


class FeedbackItem(BaseModel):
    thumb: Thumb | None
    score: float | None
    comment: str | None
    user_id: str = Field(description="Who gave it.")
    created_at: datetime


class HistoryItem(BaseModel):
    id: UUID
    question: str
    answer: str = Field(description="As far as it came, when the call failed or was cancelled.")
    model: str
    provider: str
    mock: bool
    status: Status
    error: str | None = Field(description="The error's code.")
    usage: UsageBody
    cost_usd: str | None = COST
    duration_ms: float
    created_at: datetime
    conversation_id: UUID | None
    user_id: str
    key_id: str
    project_id: str | None
    tags: list[str]
    feedback: FeedbackItem | None
    texts: Literal["plain", "encrypted", "none"] = Field(
        description="How question, answer and bodies are stored; `none`: they were not kept."
    )


class UsageDetails(UsageBody):
    cache_read_tokens: int = Field(description="How many of the input tokens the provider read from its cache.")
    cache_write_tokens: int = Field(description="How many of them it wrote there.")
    input_audio_tokens: int
    output_audio_tokens: int
    reasoning_tokens: int = Field(description="How many of the output tokens nobody sees.")


class Timing(BaseModel):
    """In milliseconds."""

    duration_ms: float
    waited_ms: float = Field(description="For providers; of a stream, until its first content.")
    first_token_ms: float | None = Field(description="Until the first content; null if it was no stream.")
    overhead_ms: float | None = Field(description="What the gateway itself took; of a stream, until its first content.")


class AttemptItem(BaseModel):
    provider: str
    model: str
    outcome: str = Field(description="`completed`, `cancelled`, or an error's code.")
    duration_ms: float
    status: int | None = Field(description="The provider's own.")


class HistoryDetails(HistoryItem):
    """One exchange with all that is known of it."""

    usage: UsageDetails
    asked_model: str = Field(description="The name that the caller used.")
    dialect: str = Field(description="The wire format: `ask`, `chat`, `responses`, `messages`, …")
    stream: bool
    cached: bool = Field(description="Whether the answer is that of another call.")
    finish_reason: str | None
    price: Any = Field(description="What the cost was reckoned by; null if nobody knows.")
    timing: Timing
    attempts: list[AttemptItem] = Field(description="The tries, in their order.")
    request: Any = Field(
        description="The body of a /v1 call, as JSON, or as text if it is none. Of /api/ask and /api/streaming it is "
        "here if it says more than its question (`system`, `temperature`, `max_tokens`). Null if it was not kept."
    )
    response: Any = Field(description="That of a /v1 call's answer. A stream's events are folded into one answer.")


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class FeedbackRequest(_Input):
    """At least one of them."""

    thumb: Thumb | None = None
    score: StrictInt | StrictFloat | None = Field(None, ge=-1e9, le=1e9, allow_inf_nan=False)
    comment: Annotated[Text, Field(strict=True, max_length=2000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.thumb is None and self.score is None and self.comment is None:
            message = "name at least one of thumb, score and comment"
            raise ValueError(message)
        return self


class TagsRequest(_Input):
    tags: list[StrictStr] = Field(max_length=20, description="Up to 50 printable characters each. None: no tags.")


class TagList(BaseModel):
    tags: list[str]


class Erased(BaseModel):
    deleted: int = Field(description="Exchanges that are gone now.")
    complete: bool = Field(description="False if there was not time for all: ask again.")


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
                            "user_id": "00000000-0000-7000-8000-000000000000",
                            "key_id": "019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a50",
                            "project_id": None,
                            "tags": ["geography"],
                            "feedback": None,
                            "texts": "plain",
                        }
                    ],
                    "next_cursor": "AZqy8F08fhqbRC9sDY56UQ",
                }
            ]
        }
    )

    items: list[HistoryItem]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null on the last one. Filters may leave a page empty."
    )
