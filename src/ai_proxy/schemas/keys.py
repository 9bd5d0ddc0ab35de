"""/api/keys."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from ai_proxy.core.types import Scope

_Name = Annotated[StrictStr, Field(max_length=200, description="Who or what the key is for.")]
_Scopes = Annotated[
    list[Scope],
    Field(
        max_length=10, description="`calls`: call models; `history`: read its history and usage; `manage`: this API."
    ),
]
_Models = Annotated[
    list[StrictStr] | None,
    Field(max_length=100, description="Names or patterns (`gpt-*`, `openai/*`) of what it may call; null for all."),
]
_Labels = Annotated[dict[StrictStr, StrictStr], Field(max_length=20, description="Up to 20 pairs of your own.")]
_End = Annotated[AwareDatetime | None, Field(description="When it stops working; null for never.")]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KeyRequest(_Input):
    name: _Name
    user_id: UUID | None = Field(None, description="Whose key; another's for administrators. Unset: one's own.")
    project_id: UUID | None = Field(None, description="The project that its calls count for.")
    scopes: _Scopes | None = Field(None, description="Unset: `calls` and `history`, as far as the user's role goes.")
    models: _Models = None
    labels: _Labels = {}
    expires_at: _End = None


class KeyChange(_Input):
    """What is absent stays as it is."""

    name: _Name = ""
    scopes: _Scopes = []
    models: _Models = None
    labels: _Labels = {}
    expires_at: _End = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            message = "name at least one of name, scopes, models, labels and expires_at"
            raise ValueError(message)
        return self


class Rotation(_Input):
    overlap: StrictInt = Field(0, ge=0, le=30 * 86_400, description="Seconds that the former secret goes on working.")


class KeyItem(BaseModel):
    id: UUID
    name: str
    hint: str = Field(description="Its beginning and end.")
    user_id: UUID
    user: str
    project_id: UUID | None
    project: str | None
    scopes: list[Scope]
    models: list[str] | None
    labels: dict[str, str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(
        description="When its newest call began; its day, if the history has it no more."
    )
    former_until: datetime | None = Field(description="After a rotation: when the former secret stops working.")


class KeyWithSecret(KeyItem):
    key: str = Field(description="The key itself. It is shown this once.")


class KeyPage(BaseModel):
    items: list[KeyItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")
