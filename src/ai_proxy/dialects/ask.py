"""The dialect of /api/ask and /api/streaming: a question as a chat request."""

from typing import Any

from ai_proxy.dialects.chat import ChatRequest
from ai_proxy.schemas.ask import AskRequest


def chat_request(ask: AskRequest) -> ChatRequest:
    messages: list[dict[str, Any]] = [] if ask.system is None else [{"role": "system", "content": ask.system}]
    messages.append({"role": "user", "content": ask.question})
    options: dict[str, Any] = {}
    if ask.temperature is not None:
        options["temperature"] = ask.temperature
    if ask.max_tokens is not None:
        options["max_tokens"] = ask.max_tokens
    return ChatRequest(messages, options)
