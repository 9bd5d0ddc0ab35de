"""/api/history/{exchange_id}/feedback and /tags: what people note of exchanges."""

from fastapi import APIRouter, Request, Response

from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentState, CurrentViewer
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.core.types import THUMBS
from ai_proxy.schemas.history import FeedbackRequest, TagList, TagsRequest
from ai_proxy.services import remarks
from ai_proxy.services.remarks import Feedback

router = APIRouter(prefix="/api/history/{exchange_id}", tags=["history"])

_WRITE = errors(400, 401, 403, 404, 408, 413, 415, 500, 503)


@router.put(
    "/feedback",
    status_code=204,
    response_class=Response,
    summary="Say what an answer is worth",
    description="In place of what was said before.",
    operation_id="set_feedback",
    responses=_WRITE,
    openapi_extra=json_body(FeedbackRequest),
)
async def set_feedback(request: Request, exchange_id: str, viewer: CurrentViewer, state: CurrentState) -> None:
    body = parse(await read_json(request, state["server"]), FeedbackRequest)
    feedback = Feedback(thumb=THUMBS.get(body.thumb or ""), score=body.score, comment=body.comment)
    await remarks.set_feedback(state["database"], viewer, exchange_id, feedback)


@router.delete(
    "/feedback",
    status_code=204,
    response_class=Response,
    summary="Take the feedback back",
    operation_id="remove_feedback",
    responses=errors(401, 403, 404, 500, 503),
)
async def remove_feedback(exchange_id: str, viewer: CurrentViewer, state: CurrentState) -> None:
    await remarks.remove_feedback(state["database"], viewer, exchange_id)


@router.put(
    "/tags",
    summary="Set the tags",
    description="In place of those that were there.",
    operation_id="set_tags",
    responses=_WRITE,
    openapi_extra=json_body(TagsRequest),
)
async def set_tags(request: Request, exchange_id: str, viewer: CurrentViewer, state: CurrentState) -> TagList:
    body = parse(await read_json(request, state["server"]), TagsRequest)
    return TagList(tags=list(await remarks.set_tags(state["database"], viewer, exchange_id, body.tags)))
