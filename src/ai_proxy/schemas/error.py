"""The two shapes of errors: OpenAI's, and below /v1/messages Anthropic's."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ErrorBody(BaseModel):
    message: str = Field(description="For a person: what went wrong and what to do.")
    type: str = Field(description="The family of the error, as OpenAI clients know it.")
    code: str = Field(description="For a program: stable.")
    param: str | None = Field(description="The field at fault.")
    request_id: str | None = Field(description="The same as in the header X-Request-ID and in the log.")
    source: Literal["client", "gateway", "provider"] = Field(description="Whose fault it is.")
    provider: str | None = Field(description="The provider that failed.")
    upstream_status: int | None = Field(description="The status that the provider answered with.")
    retry_after: float | None = Field(description="Seconds after which another try makes sense.")


class ErrorResponse(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "question: String should have at least 1 character",
                        "type": "invalid_request_error",
                        "code": "invalid_request",
                        "param": "question",
                        "request_id": "019ab2f0-5d3c-7e1a-9b44-2f6c0d8e7a51",
                        "source": "client",
                        "provider": None,
                        "upstream_status": None,
                        "retry_after": None,
                    }
                }
            ]
        }
    )

    error: ErrorBody


class AnthropicErrorBody(BaseModel):
    type: str = Field(description="The family of the error, as Anthropic's clients know it.")
    message: str = Field(description="For a person: what went wrong and what to do.")
    code: str = Field(description="For a program: stable.")
    source: Literal["client", "gateway", "provider"] = Field(description="Whose fault it is.")


class AnthropicErrorResponse(BaseModel):
    type: Literal["error"]
    error: AnthropicErrorBody
    request_id: str | None = Field(description="The same as in the header Request-ID and in the log.")
