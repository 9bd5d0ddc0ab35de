"""The dialect of /api/ask and /api/streaming: a question as a chat call."""

from typing import Any

from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.turns import user_message
from ai_proxy.schemas.ask import AskRequest


def chat_call(ask: AskRequest, *, stream: bool) -> Call:
    messages: list[dict[str, Any]] = [] if ask.system is None else [{"role": "system", "content": ask.system}]
    messages.append(user_message(ask.question))
    body: dict[str, Any] = {"messages": messages}
    if ask.model is not None:
        body["model"] = ask.model
    if ask.temperature is not None:
        body["temperature"] = ask.temperature
    if ask.max_tokens is not None:
        body["max_tokens"] = ask.max_tokens
    if stream:
        body["stream"] = True
    return calls.of("chat", body, question=ask.question)
