"""/api/projects."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from ai_proxy.core.groups import MOST_DAYS
from ai_proxy.core.types import Role

_Name = Annotated[StrictStr, Field(max_length=200)]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ProjectRequest(_Input):
    name: _Name


class ProjectChange(_Input):
    """What is absent stays as it is."""

    name: _Name | None = None
    retention_days: Annotated[StrictInt, Field(ge=1, le=MOST_DAYS)] | None = Field(
        None, description="Days that its calls stay in the history; null: as long as all others."
    )
    keep_texts: StrictBool | None = Field(None, description="Whether texts of its calls are kept, or figures alone.")
    archived: Literal[True] | None = Field(None, description="Its keys stop working, for good.")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        others = (self.name, self.keep_texts, self.archived)
        if "retention_days" not in self.model_fields_set and others == (None, None, None):
            message = "name at least one of name, retention_days, keep_texts and archived"
            raise ValueError(message)
        return self

    @property
    def history(self) -> dict[str, int | bool | None]:
        """What is to become different of how its history is kept."""
        return {
            name: value
            for name, value in (("retention_days", self.retention_days), ("keep_texts", self.keep_texts))
            if name in self.model_fields_set and not (name == "keep_texts" and value is None)
        }


class ProjectItem(BaseModel):
    id: UUID
    name: str
    created_at: datetime
    archived_at: datetime | None
    retention_days: int | None
    keep_texts: bool


class MemberItem(BaseModel):
    id: UUID
    name: str
    role: Role


class ProjectDetails(ProjectItem):
    members: list[MemberItem]


class ProjectList(BaseModel):
    items: list[ProjectItem]
