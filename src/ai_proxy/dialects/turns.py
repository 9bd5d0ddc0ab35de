"""What was asked and answered before, in any dialect, as messages of chat completions."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.types import Turn
from ai_proxy.dialects import messages, responses

_Object = dict[str, Any]


def messages_of(turn: Turn) -> list[_Object]:
    """With all that its request had before, if that is kept and chat completions can say it."""
    asked = _asked(turn)
    return asked if not turn.answer else [*asked, {"role": "assistant", "content": turn.answer}]


def _asked(turn: Turn) -> list[_Object]:
    found = None if turn.request is None else chat_request(turn.dialect, turn.request)
    return [user_message(turn.question)] if found is None else found["messages"]


def user_message(text: str) -> _Object:
    return {"role": "user", "content": text}


def chat_request(dialect: str, request: bytes | None) -> _Object | None:
    """A request of any dialect, as it was kept, as one of chat completions; None if it cannot be had so."""
    body, as_chat = json_object(request), _AS_CHAT.get(dialect)
    if as_chat is None or not body:
        return None
    try:
        found = as_chat(body)
    except GatewayError:  # what chat completions cannot say
        return None
    asked = found.get("messages")
    return found if isinstance(asked, list) and asked else None


def json_object(body: bytes | None) -> _Object:
    """An empty one for what is none."""
    try:
        found = msgspec.json.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_ask(body: _Object) -> _Object:
    system, question = body.get("system"), body.get("question")
    before = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": [*before, user_message(question)]} if isinstance(question, str) else {}


def _of_chat(body: _Object) -> _Object:
    return responses.chat_request(body, custom_tools=True) if responses.looks_like_responses(body) else body


_AS_CHAT: Mapping[str, Callable[[_Object], _Object]] = {
    "ask": _of_ask,
    "chat": _of_chat,
    "responses": responses.chat_request,
    "messages": messages.chat_request,
}
