"""Google's Gemini API, generateContent: the shape of its answers and errors, as far as they are read.

Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from typing import Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.pivot import Count


class FunctionCall(msgspec.Struct):
    name: str
    id: str | None = None
    args: dict[str, Any] | None = None


class Blob(msgspec.Struct):
    mimeType: str
    data: str


class Part(msgspec.Struct):
    text: str | None = None
    thought: bool = False
    thoughtSignature: str | None = None
    functionCall: FunctionCall | None = None
    inlineData: Blob | None = None


class Content(msgspec.Struct):
    parts: list[Part] | None = None


class Token(msgspec.Struct):
    token: str = ""
    logProbability: float = 0.0


class Step(msgspec.Struct):
    candidates: list[Token] = []


class Logprobs(msgspec.Struct):
    chosenCandidates: list[Token] = []
    topCandidates: list[Step] = []


class Candidate(msgspec.Struct):
    index: int = 0
    content: Content | None = None
    finishReason: str | None = None
    logprobsResult: Logprobs | None = None

    @property
    def parts(self) -> list[Part]:
        return (self.content and self.content.parts) or []


class Feedback(msgspec.Struct):
    blockReason: str | None = None


class Response(msgspec.Struct):
    candidates: list[Candidate] = []
    promptFeedback: Feedback | None = None
    usageMetadata: Any = None
    error: Any = None


class Usage(msgspec.Struct):
    promptTokenCount: Count
    candidatesTokenCount: Count = 0
    thoughtsTokenCount: Count = 0
    toolUsePromptTokenCount: Count = 0
    cachedContentTokenCount: Count = 0
    promptTokensDetails: Any = None
    candidatesTokensDetails: Any = None


class OfKind(msgspec.Struct):
    modality: str = ""
    tokenCount: Count = 0


def read(answer: dict[str, Any]) -> Response:
    """Raises `ProviderFault` for an error, for what is no answer, and for the word that the prompt was blocked."""
    try:
        response = msgspec.convert(answer, Response)
    except msgspec.ValidationError:
        raise ProviderFault("") from None
    if response.error is not None:
        raise _fault(answer)
    feedback = response.promptFeedback
    if feedback is not None and feedback.blockReason and not response.candidates:
        # As Azure's OpenAI does: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
        message = f"The prompt was blocked: {feedback.blockReason}."
        raise ProviderFault(message, status=400, code="content_filter")
    return response


class Fault(ProviderFault):
    """An error in Google's words. `retry_after` is in seconds, as a header would have it."""

    retry_after: str | None = None


def read_fault(body: bytes | msgspec.Raw) -> Fault:
    """What is wrong, from the body of a refusal: an object, or a list of one."""
    try:
        return _fault(msgspec.json.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault("")


class _Detail(msgspec.Struct):
    reason: str | None = None
    retryDelay: str | None = None


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""
    status: str | None = None
    details: list[_Detail] = []


def _fault(body: Any) -> Fault:
    """Google calls some troubles of the account a bad request, and they are none of the caller's.

    https://ai.google.dev/gemini-api/docs/troubleshooting and https://cloud.google.com/apis/design/errors#error_payloads
    """
    if isinstance(body, list) and body:
        body = body[0]
    try:
        error = msgspec.convert(body.get("error") if isinstance(body, dict) else None, _Error)
    except msgspec.ValidationError:
        return Fault("")
    status = error.code if error.code in range(400, 600) else None
    if any(detail.reason == "API_KEY_INVALID" for detail in error.details):
        status = 401
    elif error.status == "FAILED_PRECONDITION":  # its place or its billing keeps the account from the API
        status = 403
    fault = Fault(error.message, status=status, code=error.status)
    delays = (detail.retryDelay for detail in error.details)
    fault.retry_after = next((delay.removesuffix("s") for delay in delays if delay), None)
    return fault
