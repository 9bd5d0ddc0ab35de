"""GET /api/audit."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

_TEXT = r"^[^\x00]*$"


class AuditQuery(BaseModel):
    """Which entries."""

    model_config = ConfigDict(extra="forbid")

    action: str | None = Field(None, max_length=50, pattern=_TEXT, description="Such as `key.create`.")
    actor: str | None = Field(None, max_length=200, pattern=_TEXT, description="Name or id of who did it.")
    target: str | None = Field(None, max_length=250, pattern=_TEXT, description="Such as `key:ID`.")
    first: str | None = Field(None, alias="from", max_length=10, description="First day (UTC), such as 2026-11-01.")
    last: str | None = Field(None, alias="to", max_length=10, description="Last day.")
    limit: int = Field(50, ge=1, le=200, description="Most entries on a page. A CSV has all.")
    cursor: str | None = Field(None, max_length=100, description="`next_cursor` of the page before.")
    format: Literal["json", "csv"] | None = Field(None, description="In place of an Accept header.")


class AuditItem(BaseModel):
    id: UUID
    created_at: datetime
    actor_id: str | None
    actor: str = Field(description="The name that they had then.")
    action: str
    target: str
    details: dict[str, Any] = Field(description="What it was before and after, say. Never a secret.")
    address: str
    request_id: str


class AuditPage(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "id": "019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51",
                            "created_at": "2026-11-23T05:14:09.120000Z",
                            "actor_id": "00000000-0000-7000-8000-000000000000",
                            "actor": "command line",
                            "action": "key.create",
                            "target": "key:019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a50",
                            "details": {"name": "laptop"},
                            "address": "",
                            "request_id": "",
                        }
                    ],
                    "next_cursor": "AZqy8F08fhqbRC9sDY56UQ",
                }
            ]
        }
    )

    items: list[AuditItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")
