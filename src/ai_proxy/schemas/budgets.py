"""GET, PUT and DELETE /api/budgets."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ai_proxy.core.money import nano
from ai_proxy.core.types import Period


def _nano(amount: Any) -> int:
    if isinstance(amount, float):
        amount = Decimal(str(amount))  # as it was written: its shortest digits
    return nano(amount)


Dollars = Annotated[
    int,  # nano-dollars, once it is read
    BeforeValidator(_nano),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]}),
]
Percent = Annotated[int, Field(ge=1, le=100)]


class BudgetBody(BaseModel):
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"amount_usd": "5.00", "alerts": [80, 100]}]},
    )

    amount_usd: Dollars = Field(description="More than 0, at most 1,000,000,000, with up to 9 decimals.")
    alerts: list[Percent] = Field([80, 100], max_length=5, description="Per cent of it at which somebody is told.")


class BudgetItem(BaseModel):
    """Amounts are US dollars, as text. The period is the one that it is now, in UTC."""

    subject: str = Field(description="`key:ID`, `user:ID`, `project:ID` or `service`.")
    name: str | None = Field(description="What the key, user or project is called.")
    period: Period
    amount_usd: str
    alerts: list[int]
    spent_usd: str
    remaining_usd: str
    starts_at: datetime | None = Field(description="null for `total`, which never begins anew.")
    ends_at: datetime | None


class BudgetList(BaseModel):
    items: list[BudgetItem]
