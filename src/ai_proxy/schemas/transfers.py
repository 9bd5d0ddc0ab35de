"""/api/history/export and /api/history/import."""

from typing import Literal

from pydantic import BaseModel, Field

from ai_proxy.schemas.history import HistoryFilters


class ExportQuery(HistoryFilters):
    """Which exchanges, and in which format."""

    format: Literal["jsonl", "chat", "csv"] = Field(
        "jsonl", description="All that is known of each; the fine-tuning chat format; or a table."
    )


class ProblemItem(BaseModel):
    line: int = Field(description="Counted from 1.")
    reason: str


class ImportReport(BaseModel):
    imported: int = Field(description="Exchanges that are new.")
    existing: int = Field(description="Those that were there already, or twice in what was sent.")
    bad: int = Field(description="Lines that could not be taken.")
    key_id: str = Field(description="The key of what had one that is not here.")
    key_name: str
    problems: list[ProblemItem] = Field(description="Why, of the first 20 of them.")
