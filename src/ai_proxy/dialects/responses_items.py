"""Input items of the Responses wire format, as chat messages.

Source: https://platform.openai.com/docs/api-reference/responses/create#responses-create-input
"""

from typing import Any

from ai_proxy.dialects.responses_tools import as_arguments, qualified, refuse, text_of

REFERENCE = "item_reference"


def chat_messages(body: dict[str, Any], *, custom_tools: bool) -> list[dict[str, Any]]:
    """The conversation of a request. Raises `BadRequest`."""
    messages = _Messages(custom_tools=custom_tools)
    instructions = body.get("instructions")
    if isinstance(instructions, str) and instructions:
        messages.add_system(instructions)
    for position, item in enumerate(items_of(body)):
        messages.add(item, f"input.{position}")
    return messages.finished()


def items_of(body: dict[str, Any]) -> list[Any]:
    """The items of a request: a bare text is a message of the user."""
    given = body.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        refuse("input", "must be a text, or a list with at least one item.")
    return given


class _Messages:
    """Chat messages, as one item after the other is added."""

    def __init__(self, *, custom_tools: bool) -> None:
        self._messages: list[dict[str, Any]] = []
        self._attached: list[dict[str, Any]] = []
        self._custom_tools = custom_tools

    def finished(self) -> list[dict[str, Any]]:
        self._attach()
        if not self._messages:
            refuse("input", "must hold at least one message.")
        return self._messages

    def add(self, item: Any, param: str) -> None:
        if not isinstance(item, dict):
            refuse(param, "must be an object.")
        kind = item.get("type")
        if kind == "message" or (kind is None and "role" in item):
            self._add_message(item, param)
        elif kind in ("function_call", "custom_tool_call"):
            self._add_call(item, param)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._add_output(item, param)
        elif kind != "reasoning":  # dropped: chat has no place for it, and what is encrypted only its maker can read
            refuse(param, _item_refusal(kind))

    def add_system(self, text: str) -> None:
        """Templates of open models want the only system message at the very beginning.

        https://github.com/ggml-org/llama.cpp/pull/20079
        """
        if len(self._messages) == 1 and self._messages[0]["role"] == "system":
            self._messages[0]["content"] += f"\n\n{text}"
        else:
            self._append({"role": "system", "content": text})

    def _add_message(self, item: dict[str, Any], param: str) -> None:
        role, content = item.get("role"), _parts(item.get("content"), f"{param}.content")
        if role == "user":
            self._append({"role": "user", "content": _content(content)})
        elif role not in ("system", "developer", "assistant"):
            refuse(f"{param}.role", "must be user, assistant, system or developer.")
        elif any(part["type"] != "text" for part in content):
            refuse(f"{param}.content", f"a message of the {role} can only be text.")
        elif role == "assistant":
            self._add_assistant("".join(part["text"] for part in content))
        else:
            self.add_system(_joined(content))

    def _add_assistant(self, text: str) -> None:
        """Said after a call, it belongs to the message with the call: nothing may stand before the tool's answer."""
        last = self._messages[-1] if self._messages else {}
        if "tool_calls" in last:
            last["content"] = (last["content"] or "") + text
        else:
            self._append({"role": "assistant", "content": text})

    def _add_call(self, item: dict[str, Any], param: str) -> None:
        call = {"id": text_of(item, "call_id", param), **self._called(item, param)}
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._append({"role": "assistant", "content": None})
        self._messages[-1].setdefault("tool_calls", []).append(call)

    def _called(self, item: dict[str, Any], param: str) -> dict[str, Any]:
        namespace = item.get("namespace")
        name = qualified(text_of(item, "name", param), namespace if isinstance(namespace, str) else None)
        if item["type"] == "function_call":
            return {"type": "function", "function": {"name": name, "arguments": text_of(item, "arguments", param)}}
        text = text_of(item, "input", param)
        if self._custom_tools:
            return {"type": "custom", "custom": {"name": name, "input": text}}
        return {"type": "function", "function": {"name": name, "arguments": as_arguments(text)}}

    def _add_output(self, item: dict[str, Any], param: str) -> None:
        parts = _parts(item.get("output"), f"{param}.output")
        others = [part for part in parts if part["type"] != "text"]
        text = _joined([part for part in parts if part["type"] == "text"])
        if others and not text:
            text = "The result is attached to the next message."
        self._attached += others
        self._append({"role": "tool", "tool_call_id": text_of(item, "call_id", param), "content": text})

    def _append(self, message: dict[str, Any]) -> None:
        if message["role"] != "tool":
            self._attach()
        self._messages.append(message)

    def _attach(self) -> None:
        """What tools returned beside text. Chat's tool messages take text alone, so it follows the last of them."""
        if self._attached:
            note = {"type": "text", "text": "What the tools returned beside text:"}
            self._messages.append({"role": "user", "content": [note, *self._attached]})
            self._attached = []


def _item_refusal(kind: Any) -> str:
    if kind in (None, REFERENCE):
        return "refers to an item that is not kept here: send the item itself."
    return f"is of a type ({str(kind)[:40]}) that this model cannot be given."


def _parts(content: Any, param: str) -> list[dict[str, Any]]:
    """The content of a message, or the output of a tool, as parts of a chat message."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        refuse(param, "must be a text or a list of parts.")
    return [_part(part, f"{param}.{position}") for position, part in enumerate(content)]


def _part(part: Any, param: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": text_of(part, "text", param)}
    if kind == "refusal":
        return {"type": "text", "text": text_of(part, "refusal", param)}
    if kind == "input_image":
        return _image(part, param)
    if kind == "input_file":
        return _file(part, param)
    if kind == "input_audio":
        return _audio(part, param)
    return refuse(param, f"is a part of a type ({str(kind)[:40]}) that this model cannot be given.")


def _image(part: dict[str, Any], param: str) -> dict[str, Any]:
    if not isinstance(part.get("image_url"), str):
        refuse(f"{param}.image_url", "must be a URL: files of the Files API cannot be read here.")
    detail = part.get("detail")
    return {
        "type": "image_url",
        "image_url": {"url": part["image_url"], **({"detail": detail} if isinstance(detail, str) else {})},
    }


def _file(part: dict[str, Any], param: str) -> dict[str, Any]:
    """Chat takes a file's data or id: https://platform.openai.com/docs/guides/pdf-files?api-mode=chat."""
    file = {name: part[name] for name in ("file_data", "file_id", "filename") if isinstance(part.get(name), str)}
    if "file_data" not in file and "file_id" not in file:
        refuse(param, "must have file_data or file_id: this model cannot be given the URL of a file.")
    return {"type": "file", "file": file}


def _audio(part: dict[str, Any], param: str) -> dict[str, Any]:
    audio = part.get("input_audio")
    if not isinstance(audio, dict):
        refuse(f"{param}.input_audio", "must be an object.")
    place = f"{param}.input_audio"
    return {
        "type": "input_audio",
        "input_audio": {"data": text_of(audio, "data", place), "format": text_of(audio, "format", place)},
    }


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text alone goes as one text, because many servers take nothing else."""
    return _joined(parts) if all(part["type"] == "text" for part in parts) else parts


def _joined(parts: list[dict[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts)
