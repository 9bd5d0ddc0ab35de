"""/api/conversations."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ai_proxy.schemas.ask import Text

_TEXT = r"^[^\x00]*$"


class ConversationsQuery(BaseModel):
    """Which conversations."""

    model_config = ConfigDict(extra="forbid")

    key: str | None = Field(None, min_length=1, max_length=36, pattern=_TEXT, description="Only this key's.")
    user: str | None = Field(None, min_length=1, max_length=36, pattern=_TEXT, description="Only this user's.")
    project: str | None = Field(None, min_length=1, max_length=36, pattern=_TEXT, description="Only this project's.")
    limit: int = Field(20, ge=1, le=200, description="Most items on a page.")
    cursor: str | None = Field(None, max_length=100, description="`next_cursor` of the page before.")


class ConversationItem(BaseModel):
    id: UUID
    title: str | None = Field(description="As it was given; else the beginning of the first question, if it is kept.")
    titled: bool = Field(description="Whether the title was given.")
    exchanges: int = Field(description="Its own, without those of what it was forked from.")
    first_at: datetime
    last_at: datetime
    key_id: str
    user_id: str
    project_id: str | None
    parent_id: UUID | None = Field(description="The conversation that it was forked from.")
    forked_from: UUID | None = Field(description="The exchange that it goes on after.")


class ConversationPage(BaseModel):
    items: list[ConversationItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")


class ConversationChange(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    title: Annotated[Text, Field(strict=True, min_length=1, max_length=200)] | None = Field(
        description="Null: the beginning of the first question again."
    )
