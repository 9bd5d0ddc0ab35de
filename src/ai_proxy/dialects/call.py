"""A call: one request to a model in its caller's wire format, read as far as the gateway must understand it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ai_proxy.core.exceptions import BadRequest, PreviousResponseNotFound
from ai_proxy.core.types import Turn
from ai_proxy.dialects.responses import chat_request, looks_like_responses
from ai_proxy.dialects.size import characters
from ai_proxy.dialects.turns import messages_of

Dialect = Literal["chat", "completions", "embeddings", "moderations", "responses", "messages", "count_tokens"]

_STREAMED = frozenset({"chat", "completions", "responses", "messages"})
_MAX_MODEL = 200  # characters of a model's name
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Call(msgspec.Struct, frozen=True):
    """One request. `body` is decoded; `fields` is its top level again, each value as the JSON that came.

    `question` is the last text of the user. `headers` go to a provider that speaks the dialect itself.
    """

    dialect: Dialect
    body: dict[str, Any]
    fields: Mapping[str, Any]
    question: str
    headers: Mapping[str, str] = {}

    @property
    def model(self) -> str | None:
        return self.body.get("model")

    @property
    def stream(self) -> bool:
        return self.dialect in _STREAMED and self.body.get("stream") is True

    @property
    def is_ours(self) -> bool:
        """Whether we worded it, by translation or from a question, so that nothing in it must stay as it is."""
        return self.fields is self.body

    def payload(self, model: str, changes: Mapping[str, Any] | None = None) -> bytes:
        """The body to send under the provider's own model name.

        But for `changes`, every value is as it came; what they set to None is left out.
        """
        body = {**self.fields, "model": model}
        if changes:
            body |= changes
            body = {name: value for name, value in body.items() if value is not None}
        return msgspec.json.encode(body)

    def after(self, turns: Sequence[Turn]) -> "Call":
        """The same chat call with earlier exchanges, oldest first, before the last message."""
        *before, last = self.body["messages"]
        earlier = [message for turn in turns for message in messages_of(turn)]
        return of("chat", {**self.body, "messages": [*before, *earlier, last]}, question=self.question)

    def characters(self) -> int:
        """How much text the provider is asked to read, for an estimate of its tokens."""
        return characters(self.body)


def of(dialect: Dialect, body: dict[str, Any], *, question: str) -> Call:
    """A call that we make ourselves."""
    return Call(dialect, body, body, question)


def changed(call: Call, body: dict[str, Any], *, sent: dict[str, Any]) -> Call:
    """The same call with another body, and another one yet to a provider that speaks its format."""
    return Call(call.dialect, body, sent, call.question, call.headers)


def parse(dialect: Dialect, data: bytes, headers: Mapping[str, str] | None = None) -> Call:
    """Read a body. Raises `BadRequest`, naming the field at fault."""
    try:
        body = msgspec.json.decode(data)
        fields = _fields.decode(data) if isinstance(body, dict) else {}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = "The body must be valid JSON in UTF-8."
        raise BadRequest(message) from None
    except RecursionError:
        message = "The body is nested too deeply."
        raise BadRequest(message) from None
    if not isinstance(body, dict):
        message = "The body must be a JSON object."
        raise BadRequest(message)
    _check(body)
    if dialect == "chat" and looks_like_responses(body):
        body = fields = _as_chat(body)
    return Call(dialect, body, fields, _QUESTIONS[dialect](body), headers or {})


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """A request in the form of responses that came to chat completions, as Cursor's do."""
    previous = body.get("previous_response_id")
    if previous is not None:
        raise PreviousResponseNotFound(str(previous))
    kept: dict[str, Any] = {name: body[name] for name in ("model", "stream", "stream_options") if name in body}
    return {**chat_request(body, custom_tools=True), **kept}


def _check(body: dict[str, Any]) -> None:
    model, stream = body.get("model"), body.get("stream")
    if model is not None and not (isinstance(model, str) and 0 < len(model) <= _MAX_MODEL and model.isprintable()):
        message = f"model: must be a text of 1 to {_MAX_MODEL} characters."
        raise BadRequest(message, param="model")
    if stream is not None and not isinstance(stream, bool):
        message = "stream: must be true or false."
        raise BadRequest(message, param="stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        message = "stream_options: must be an object."
        raise BadRequest(message, param="stream_options")


def _of_messages(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        message = "messages: must be a list with at least one message."
        raise BadRequest(message, param="messages")
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            param = f"messages.{position}"
            reason = f"{param}: must be an object with a role."
            raise BadRequest(reason, param=param)
    return _last_of_user(messages)


def _of_input(body: dict[str, Any]) -> str:
    """Of responses: a text, or a list of items, some of which are messages."""
    given = body.get("input")
    if isinstance(given, list):
        return _last_of_user([item for item in given if isinstance(item, dict)])
    return given if isinstance(given, str) else ""


def _of_texts(name: str) -> Callable[[dict[str, Any]], str]:
    def read(body: dict[str, Any]) -> str:
        given = body.get(name)
        if given is None or given == []:
            reason = f"{name}: must be given."
            raise BadRequest(reason, param=name)
        texts = given if isinstance(given, list) else [given]
        return next((text for text in reversed(texts) if isinstance(text, str)), "")

    return read


def _last_of_user(messages: list[dict[str, Any]]) -> str:
    user = next((message for message in reversed(messages) if message.get("role") == "user"), None)
    return "" if user is None else "\n".join(_texts(user.get("content")))


def _texts(content: object) -> Iterator[str]:
    """The texts of a message: of one in parts, those of its text parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


_QUESTIONS: dict[Dialect, Callable[[dict[str, Any]], str]] = {
    "chat": _of_messages,
    "messages": _of_messages,
    "count_tokens": _of_messages,
    "responses": _of_input,
    "completions": _of_texts("prompt"),
    "embeddings": _of_texts("input"),
    "moderations": _of_texts("input"),
}
