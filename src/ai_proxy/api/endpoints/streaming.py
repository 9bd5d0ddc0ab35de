"""POST /api/streaming: one question, the answer as it is written."""

from fastapi import APIRouter, Request, Response

from ai_proxy.api.calls import told
from ai_proxy.api.dependencies import state_of
from ai_proxy.api.direct import DirectRoute
from ai_proxy.api.disconnect import UntilGone
from ai_proxy.api.endpoints.ask import open_question
from ai_proxy.api.openapi import ASK_BODY, errors
from ai_proxy.api.sse import AnswerStream, Events, PlainText
from ai_proxy.dialects.ask import chat_call

router = APIRouter(prefix="/api", tags=["ask"], route_class=DirectRoute)

_EXAMPLE = """id: 0
event: start
data: {"id": "019ab2f0-…", "model": "mock", "provider": "mock", "mock": true}

id: 1
event: delta
data: {"text": "Paris"}

id: 2
event: done
data: {"finish_reason": "stop", "usage": {"input_tokens": 7, "output_tokens": 1, …}, "cost_usd": "0.00", …}

"""


@router.post(
    "/streaming",
    summary="Ask a question, get the answer as it is written",
    description=(
        "Events: `start`, then `delta` for each piece of the answer, then `done`; or `error`, with the error object, "
        "when it fails after the start. With `Accept: text/plain`, the bare text: when that fails, the connection "
        "is cut."
    ),
    operation_id="stream",
    response_class=Response,
    responses={
        200: {
            "description": "The answer, piece by piece.",
            "content": {
                "text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE},
                "text/plain": {"schema": {"type": "string"}, "example": "Paris"},
            },
        },
        **errors(400, 401, 404, 408, 413, 415, 422, 429, 500, 502, 503, 504),
    },
    openapi_extra=ASK_BODY,
)
async def stream(request: Request) -> Response:
    exchange, question = await open_question(request)
    exchange.stream = True
    chunks = state_of(request)["gateway"].stream(exchange, chat_call(question, stream=True))
    async with UntilGone(request.scope, request.receive, exchange):
        first = await anext(chunks)
    form = PlainText() if _wants_text(request) else Events()
    return AnswerStream(exchange, first, chunks, form, told(exchange))


def _wants_text(request: Request) -> bool:
    """Only if text comes first: many clients name it after JSON in every request."""
    media_range = request.headers.get("accept", "").partition(",")[0]
    return media_range.partition(";")[0].strip().lower() == "text/plain"
