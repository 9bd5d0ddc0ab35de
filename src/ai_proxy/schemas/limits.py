"""GET, PUT and DELETE /api/limits."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[int, Field(ge=1, le=10**9)]


class LimitChange(BaseModel):
    """What is absent stays as it is; null takes it away."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"requests_per_minute": 60, "tokens_per_minute": 100_000, "concurrent": 5}]},
    )

    requests_per_minute: Number | None = None
    tokens_per_minute: Number | None = Field(None, description="Read and written together.")
    concurrent: Number | None = Field(None, description="Calls at one time.")


class LimitItem(BaseModel):
    """null: there is no limit."""

    subject: str = Field(description="`key:ID`, `user:ID`, `project:ID` or `service`.")
    name: str | None = Field(description="What the key, user or project is called.")
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None


class LimitList(BaseModel):
    items: list[LimitItem]
