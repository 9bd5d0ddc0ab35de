"""/api/auth and /api/users."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ai_proxy.core.types import Role

Name = Annotated[str, Field(max_length=1000, description="An e-mail address or a name; case does not matter.")]
Password = Annotated[str, Field(description="12 to 1024 characters.")]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Login(_Input):
    name: Name
    password: str


class FirstAdministrator(_Input):
    token: Annotated[str, Field(max_length=200, description="As the first start of the server shows it.")]
    name: Name
    password: Password


class PasswordChange(_Input):
    old_password: str
    new_password: Password


class NewUser(_Input):
    name: Name
    role: Role = "member"
    password: Password | None = Field(None, description="Without one the user cannot sign in here.")


class UserChange(_Input):
    """What is absent stays as it is. Any change signs the user out."""

    role: Role | None = None
    disabled: bool | None = None
    password: Password | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            message = "name at least one of role, disabled and password"
            raise ValueError(message)
        return self


class UserItem(BaseModel):
    id: UUID
    name: str
    role: Role
    disabled: bool
    has_password: bool
    created_at: datetime


class UserPage(BaseModel):
    items: list[UserItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")


class Me(BaseModel):
    """Who is asking. `session_id` is null for a key, `key_id` for a session."""

    id: UUID
    name: str
    role: Role
    session_id: UUID | None
    key_id: UUID | None


class SessionItem(BaseModel):
    id: UUID
    user_id: UUID
    created_at: datetime
    seen_at: datetime
    expires_at: datetime = Field(description="When it ends if it is not used again.")
    address: str
    agent: str = Field(description="What the browser calls itself.")
    current: bool = Field(description="Whether it is the one that asks.")


class SessionList(BaseModel):
    items: list[SessionItem]
