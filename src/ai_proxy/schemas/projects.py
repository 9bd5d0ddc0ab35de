"""/api/projects."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from ai_proxy.core.types import Role

_Name = Annotated[StrictStr, Field(max_length=200)]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ProjectRequest(_Input):
    name: _Name


class ProjectChange(_Input):
    """What is absent stays as it is."""

    name: _Name | None = None
    archived: Literal[True] | None = Field(None, description="Its keys stop working, for good.")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.name is None and self.archived is None:
            message = "name at least one of name and archived"
            raise ValueError(message)
        return self


class ProjectItem(BaseModel):
    id: UUID
    name: str
    created_at: datetime
    archived_at: datetime | None


class MemberItem(BaseModel):
    id: UUID
    name: str
    role: Role


class ProjectDetails(ProjectItem):
    members: list[MemberItem]


class ProjectList(BaseModel):
    items: list[ProjectItem]
