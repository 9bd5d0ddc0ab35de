"""The conversation of an Anthropic Messages request, as chat messages.

Source: https://platform.claude.com/docs/en/api/messages/create
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ai_proxy.core.exceptions import BadRequest


class Source(msgspec.Struct, frozen=True):
    """Where an image or a document comes from."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: "str | list[Block] | None" = None


class Block(msgspec.Struct, frozen=True):
    """A content block of any type: what its type does not have is None."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | list[Block] | dict[str, Any] | None" = None
    is_error: bool | None = None


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[Block]


def chat_messages(system: str | list[Block] | None, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Raises `BadRequest`, naming the block at fault, for one that chat has no place for."""
    chat = _system(system or "", "system")
    for position, message in enumerate(messages):
        at = f"messages.{position}"
        match message.role:
            case "user":
                chat += _user(message.content, f"{at}.content")
            case "assistant":
                chat += _assistant(message.content, f"{at}.content")
            case "system":  # https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages
                chat += _system(message.content, f"{at}.content")
            case _:
                raise refused("must be user, assistant or system", f"{at}.role")
    return chat


def refused(why: str, param: str | None) -> BadRequest:
    return BadRequest(f"{param}: {why}." if param else f"{why}.", param=param)


def _system(content: str | list[Block], at: str) -> list[dict[str, Any]]:
    text = content if isinstance(content, str) else "\n\n".join(_texts(content, at))
    return [{"role": "system", "content": text}] if text else []


def _texts(blocks: list[Block], at: str) -> Iterator[str]:
    for position, block in enumerate(blocks):
        if block.type != "text":
            raise refused("must be a text here", f"{at}.{position}")
        yield _needed(block.text, f"{at}.{position}.text")


def _user(content: str | list[Block], at: str) -> list[dict[str, Any]]:
    """Results of tools come first: chat wants them right after the calls, whatever else the user says."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for position, block in enumerate(content):
        if block.type == "tool_result":
            result, shown = _tool_result(block, f"{at}.{position}")
            results.append(result)
            images += shown
        else:
            parts += _parts(block, f"{at}.{position}")
    return [*results, *_said([*images, *parts])]


def _said(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A lone text goes as a bare string, which every server takes."""
    if not parts:
        return []
    alone = len(parts) == 1 and parts[0]["type"] == "text"
    return [{"role": "user", "content": parts[0]["text"] if alone else parts}]


def _tool_result(block: Block, at: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A `tool` message, which can only have text, and the images and files that the next message shows for it."""
    call = _needed(block.tool_use_id, f"{at}.tool_use_id")
    parts = _content(block.content, f"{at}.content")
    texts = [part["text"] for part in parts if part["type"] == "text"]
    images = [part for part in parts if part["type"] != "text"]
    if images:
        texts.append("(The next message of the user shows what else this tool returned.)")
        images.insert(0, _text(f"Returned by the tool call {call}:"))
    text = "\n".join(texts)
    if block.is_error:  # chat has no flag for it
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": call, "content": text}, images


def _content(content: str | list[Block] | dict[str, Any] | None, at: str) -> list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        return [_text(content)] if content else []
    if isinstance(content, dict):
        raise refused("must be a text or a list of blocks", at)
    return [part for position, block in enumerate(content) for part in _parts(block, f"{at}.{position}")]


def _parts(block: Block, at: str) -> list[dict[str, Any]]:
    match block:
        case Block(type="text"):
            return [_text(_needed(block.text, f"{at}.text"))]
        case Block(type="image", source=Source() as source):
            return [_image(source, f"{at}.source")]
        case Block(type="document", source=Source() as source):
            return _document(block, source, f"{at}.source")
        case Block(type="search_result", source=str(url), content=list(content)):
            return [_text(f"{block.title or ''}\n{url}"), *_content(content, f"{at}.content")]
    raise _foreign(block, at)


def _image(source: Source, at: str) -> dict[str, Any]:
    match source:
        case Source(type="base64", media_type=str(mime), data=str(data)):
            return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
        case Source(type="url", url=str(url)):
            return {"type": "image_url", "image_url": {"url": url}}
    raise refused("must be of type base64 or url for the model's provider", at)


def _document(block: Block, source: Source, at: str) -> list[dict[str, Any]]:
    heading = [_text(text) for text in (block.title, block.context) if text]
    match source:
        case Source(type="text", data=str(text)):
            return [*heading, _text(text)]
        case Source(type="content"):
            return [*heading, *_content(source.content, f"{at}.content")]
        case Source(type="base64", media_type=str(mime), data=str(data)):
            file = {"filename": block.title or "document.pdf", "file_data": f"data:{mime};base64,{data}"}
            return [*heading, {"type": "file", "file": file}]
    raise refused("must be of type text, content or base64 for the model's provider", at)


def _assistant(content: str | list[Block], at: str) -> list[dict[str, Any]]:
    """Thinking is left out: chat has no place for it, and no other model could make use of its signature."""
    if isinstance(content, str):
        return [{"role": "assistant", "content": content}]
    text, calls = "", []
    for position, block in enumerate(content):
        match block.type:
            case "text":
                text += _needed(block.text, f"{at}.{position}.text")
            case "tool_use":
                calls.append(_call(block, f"{at}.{position}"))
            case "thinking" | "redacted_thinking":
                pass
            case _:
                raise _foreign(block, f"{at}.{position}")
    if calls:
        return [{"role": "assistant", "content": text or None, "tool_calls": calls}]
    return [{"role": "assistant", "content": text}] if text else []


def _call(block: Block, at: str) -> dict[str, Any]:
    function = {
        "name": _needed(block.name, f"{at}.name"),
        "arguments": msgspec.json.encode(block.input or {}).decode(),
    }
    return {"id": _needed(block.id, f"{at}.id"), "type": "function", "function": function}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _needed(value: str | None, at: str) -> str:
    if value is None:
        raise refused("must be given", at)
    return value


def _foreign(block: Block, at: str) -> BadRequest:
    why = f"a block of type {block.type!r} with these fields cannot be passed on to the model's provider"
    return refused(why, at)
