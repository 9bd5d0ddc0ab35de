"""/api/conversations: exchanges that belong together."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from ai_proxy.api import cursor as cursors
from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentState, CurrentViewer
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.schemas.conversations import ConversationChange, ConversationItem, ConversationPage, ConversationsQuery
from ai_proxy.schemas.history import Erased
from ai_proxy.services import conversations, erasing
from ai_proxy.services.conversations import Conversation
from ai_proxy.storage.conversations import Wanted

router = APIRouter(prefix="/api", tags=["conversations"])

_READ = errors(400, 401, 403, 404, 409, 500, 503)
_WRITE = {**_READ, **errors(408, 413, 415)}

Key = Annotated[
    str | None, Query(max_length=36, pattern=r"^[^\x00]*$", description="Whose it is, if several keys have this id.")
]


@router.get(
    "/conversations",
    summary="The conversations, those first that went on last",
    operation_id="list_conversations",
    responses=errors(400, 401, 403, 500, 503),
)
async def list_conversations(
    viewer: CurrentViewer, state: CurrentState, query: Annotated[ConversationsQuery, Query()]
) -> ConversationPage:
    before = None if query.cursor is None else cursors.decode(query.cursor)
    wanted = Wanted(query.key, query.user, query.project)
    found, more = await conversations.page(state["database"], viewer, wanted, before=before, limit=query.limit)
    next_cursor = cursors.encode_text(found[-1].place) if more else None
    return ConversationPage(items=[_item(conversation) for conversation in found], next_cursor=next_cursor)


@router.get(
    "/conversations/{conversation_id}",
    summary="One conversation",
    description="Its exchanges are `GET /api/history?conversation=ID`.",
    operation_id="get_conversation",
    responses=_READ,
)
async def get_conversation(
    conversation_id: str, viewer: CurrentViewer, state: CurrentState, key: Key = None
) -> ConversationItem:
    return _item(await conversations.find(state["database"], viewer, conversation_id, key))


@router.patch(
    "/conversations/{conversation_id}",
    summary="Give a conversation a title",
    operation_id="change_conversation",
    responses=_WRITE,
    openapi_extra=json_body(ConversationChange),
)
async def change_conversation(
    request: Request, conversation_id: str, viewer: CurrentViewer, state: CurrentState, key: Key = None
) -> ConversationItem:
    body = parse(await read_json(request, state["server"]), ConversationChange)
    return _item(await conversations.rename(state["database"], viewer, conversation_id, key, body.title))


@router.delete(
    "/conversations/{conversation_id}",
    summary="Delete a conversation and its exchanges",
    description="One's own, or any for an administrator. If there is not time for all, `complete` is false.",
    operation_id="delete_conversation",
    responses=_READ,
)
async def delete_conversation(
    conversation_id: str, viewer: CurrentViewer, state: CurrentState, key: Key = None
) -> Erased:
    return Erased(**(await erasing.conversation(state["database"], viewer, conversation_id, key))._asdict())


@router.post(
    "/history/{exchange_id}/fork",
    status_code=201,
    summary="Go on from an exchange in another way",
    description="Makes a conversation that goes on after this exchange: `POST /api/ask` with its id as "
    "`conversation_id`, and the key that the exchange was made with.",
    operation_id="fork_exchange",
    responses=errors(401, 403, 404, 500, 503),
)
async def fork_exchange(exchange_id: str, viewer: CurrentViewer, state: CurrentState) -> ConversationItem:
    return _item(await conversations.fork(state["database"], viewer, exchange_id))


def _item(conversation: Conversation) -> ConversationItem:
    return ConversationItem.model_validate(conversation, from_attributes=True)
