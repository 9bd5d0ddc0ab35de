"""Chat messages as the conversation of an Anthropic request.

Source: https://platform.claude.com/docs/en/api/messages/create
"""

import re
from typing import Any

from ai_proxy.dialects import pivot

_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")  # other providers' tool calls have ids that Anthropic refuses


def conversation(messages: list[pivot.Message]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system prompt's blocks, and the messages: those of one role in a row become one. Raises `BadRequest`.

    Instructions from the midst of the conversation go to the front: only some models take them where they are.
    """
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for position, message in enumerate(messages):
        at = f"messages.{position}"
        if message.role in ("system", "developer"):
            system += _texts(message, at)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _READERS[message.role](message, at)
        if blocks and turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        pivot.refuse("must say something besides instructions", "messages")
    return system, turns


def _texts(message: pivot.Message, at: str) -> list[dict[str, Any]]:
    """Text blocks. Empty ones, which Anthropic refuses, are left out."""
    if not isinstance(message.content, list):
        text = message.content or message.refusal
        return [{"type": "text", "text": text}] if text else []
    pivot.text_of(message, at)  # nothing but texts
    return [_text(part) for part in message.content if part.text or part.refusal]


def _text(part: pivot.Part) -> dict[str, Any]:
    return {"type": "text", "text": part.text or part.refusal, **_mark(part)}


def _mark(part: pivot.Part) -> dict[str, Any]:
    """https://platform.claude.com/docs/en/build-with-claude/prompt-caching"""
    return {"cache_control": part.cache_control} if part.cache_control else {}


def _user(message: pivot.Message, at: str) -> list[dict[str, Any]]:
    if not isinstance(message.content, list):
        return _texts(message, at)
    blocks = []
    for position, part in enumerate(message.content):
        if part.text is not None:
            blocks += [_text(part)] if part.text else []
        else:
            blocks.append(_media(part, f"{at}.content.{position}") | _mark(part))
    return blocks


def _media(part: pivot.Part, at: str) -> dict[str, Any]:
    media = pivot.media_of(part, at)
    if media.kind == "audio":
        pivot.refuse("Anthropic's models do not listen", at)
    source = {"type": "url", "url": media.url} if media.url else _data(media)
    if media.kind == "image":
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, **({"title": media.name} if media.name else {})}


def _data(media: pivot.Media) -> dict[str, Any]:
    return {"type": "base64", "media_type": media.mime, "data": media.data}


def _assistant(message: pivot.Message, at: str) -> list[dict[str, Any]]:
    """Reasoning is left out: Anthropic takes none without its own signature."""
    blocks = _texts(message, at)
    for position, call in enumerate(message.tool_calls or ()):
        arguments = pivot.arguments_of(call, f"{at}.tool_calls.{position}")
        block = {"type": "tool_use", "id": _identifier(call.id), "name": call.function.name, "input": arguments}
        blocks.append(block)
    return blocks


def _tool(message: pivot.Message, at: str) -> list[dict[str, Any]]:
    if not message.tool_call_id:
        pivot.refuse("must be given", f"{at}.tool_call_id")
    content = _user(message, at)
    result = {"type": "tool_result", "tool_use_id": _identifier(message.tool_call_id)}
    return [{**result, "content": content} if content else result]


def _identifier(given: str) -> str:
    return _NOT_IN_IDS.sub("_", given)


_READERS = {"user": _user, "assistant": _assistant, "tool": _tool}
