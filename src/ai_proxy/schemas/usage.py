"""GET /api/usage and GET /api/me/usage."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_FIGURES: dict[str, Any] = {
    "calls": 2,
    "failed": 0,
    "cached": 0,
    "unpriced": 0,
    "input_tokens": 28,
    "output_tokens": 4,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "cost_usd": "0.000052",
}


_TEXT = r"^[^\x00]*$"


class UsageQuery(BaseModel):
    """Which days, by what, and of whom."""

    model_config = ConfigDict(extra="forbid")

    first: str | None = Field(None, alias="from", max_length=10, description="First day (UTC), such as 2026-11-01.")
    last: str | None = Field(None, alias="to", max_length=10, description="Last day. Without any: the last 30 days.")
    group_by: str = Field(
        "day", max_length=100, description="Any of day, key, user, project, provider and model, with commas between."
    )
    key: str | None = Field(None, max_length=36, pattern=_TEXT, description="Only calls with the key of this id.")
    user: str | None = Field(None, max_length=36, pattern=_TEXT, description="Only calls of the user with this id.")
    project: str | None = Field(
        None, max_length=36, description="Only calls in the project of this id; empty: in none."
    )
    provider: str | None = Field(
        None, max_length=100, pattern=_TEXT, description="Only calls that this provider answered."
    )
    model: str | None = Field(None, max_length=200, pattern=_TEXT, description="Only calls that this model answered.")
    format: Literal["json", "csv"] | None = Field(None, description="In place of an Accept header.")

    def filters(self) -> dict[str, str | None]:
        return self.model_dump(include={"key", "user", "project", "provider", "model"})


class Figures(BaseModel):
    calls: int = Field(description="All, also those that failed or were cancelled.")
    failed: int
    cached: int = Field(description="Those that an answer from memory was given to.")
    unpriced: int = Field(description="Those that were answered for a price that nobody knows: not in `cost_usd`.")
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = Field(description="How many of the input tokens the provider read from its cache.")
    cache_write_tokens: int = Field(description="How many of them it wrote there.")
    reasoning_tokens: int = Field(description="How many of the output tokens nobody sees.")
    cost_usd: str = Field(description="US dollars.")


class UsageItem(Figures):
    """The names that `group_by` has are there, and no others."""

    day: date | None = None
    key: str | None = None
    key_name: str | None = None
    user: str | None = None
    user_name: str | None = None
    project: str | None = None
    project_name: str | None = None
    provider: str | None = None
    model: str | None = None


class UsageReport(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": "2026-10-25",
                    "to": "2026-11-23",
                    "items": [{"day": "2026-11-23", "model": "gpt-6-luna", **_FIGURES}],
                    "total": _FIGURES,
                }
            ]
        }
    )

    first: date = Field(alias="from")
    last: date = Field(alias="to")
    items: list[UsageItem]
    total: Figures


class OwnKey(BaseModel):
    id: str
    name: str


class OwnLimit(BaseModel):
    """Null is no limit."""

    subject: str = Field(description="`key:ID`, `user:ID` or `project:ID`.")
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None


class OwnBudget(BaseModel):
    subject: str = Field(description="`key:ID`, `user:ID` or `project:ID`.")
    period: Literal["day", "week", "month", "total"]
    amount_usd: str
    spent_usd: str = Field(description="By all whose calls count against it.")
    remaining_usd: str
    ends_at: datetime | None = Field(description="When the period ends and the next begins; null: never.")


class OwnUsageItem(Figures):
    day: date
    model: str | None


class OwnUsage(BaseModel):
    """What the key that asks has used. Days, weeks (from Monday) and months are those of UTC."""

    key: OwnKey
    today: Figures
    this_week: Figures
    this_month: Figures
    total: Figures
    days: list[OwnUsageItem] = Field(description="The last 30 days with calls, by model.")
    limits: list[OwnLimit]
    budgets: list[OwnBudget]
