"""Anthropic messages that pass through: what the gateway reads from them.

Source: https://platform.claude.com/docs/en/api/messages/create
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ai_proxy.core.types import Usage
from ai_proxy.dialects import usage as counts
from ai_proxy.dialects.chat import ABSENT, NULL, Chunk, Completion, ProviderFault
from ai_proxy.dialects.shapes import as_list, as_object, text_of

FINISH = {  # stop reasons in chat's terms
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_answer(body: bytes) -> Completion:
    """Decode a message. Raises `ProviderFault` for an error in its place, `msgspec.MsgspecError` for a broken one."""
    answer = _answer.decode(body)
    if answer.type == "error":
        raise fault_of(_decoded(answer.error))
    if answer.content is None:
        message = "no content in the answer"
        raise msgspec.ValidationError(message)
    text = "".join(block.text or "" for block in answer.content)
    return Completion(body, text, FINISH.get(answer.stop_reason or "", "stop"), _read_usage(answer.usage))


def read_event(data: bytes) -> Chunk:
    """Decode one event of a stream. Raises as `read_answer` does.

    Usage is cumulative, and comes in two parts from servers that count the input in the first event only: `joined` in
    `usage.py` puts them together.
    """
    event = _event.decode(data)
    match event.type:
        case "content_block_delta":
            delta = event.delta or _NOTHING
            content = bool(delta.text or delta.partial_json or delta.thinking or delta.signature or delta.citation)
            return Chunk(data, delta.text or "", content=content, event=event.type)
        case "content_block_start":
            block = event.content_block or _EMPTY
            content = bool(block.text) or block.type != "text"  # thinking may go on for minutes without a word
            return Chunk(data, block.text or "", content=content, event=event.type)
        case "message_start":
            return Chunk(data, usage=_begun(event), event=event.type)
        case "message_delta":
            reason = event.delta.stop_reason if event.delta else None
            finish = FINISH.get(reason, "stop") if reason else None
            return Chunk(data, "", finish, _read_usage(event.usage), finish is not None, event.type)
        case "error":
            raise fault_of(_decoded(event.error))
    return Chunk(data, event=event.type)


def read_fault(body: bytes | msgspec.Raw) -> ProviderFault:
    """What went wrong, by the body of an answer with an error status."""
    answer = _decoded(body)
    return fault_of(as_object(answer).get("error"))


def fault_of(error: object) -> ProviderFault:
    """An `error` object, decoded. An account without means counts as 402, whatever status it came with.

    https://platform.claude.com/docs/en/api/errors: a spend limit that the organization set itself arrives as 400, that
    of its tier as 429; an empty balance has arrived as 400, too. The code is there to be matched, but not in all of
    them: then only the words tell. They must begin the message: further on, it may quote what the caller sent.
    """
    given = as_object(error)
    kind, message = text_of(given.get("type")), text_of(given.get("message"))
    code = text_of(as_object(given.get("details")).get("error_code"))
    if kind == "billing_error" or code.endswith(_SPENT) or _OUT_OF_MEANS.match(message):
        return ProviderFault(message, status=402, code="insufficient_quota")
    return ProviderFault(message, status=_STATUSES.get(kind), code=code or kind or None)


def fold(events: Sequence[bytes]) -> bytes:
    """A stream's events as the message that they make up, as far as it came."""
    message: dict[str, Any] = {"type": "message", "role": "assistant", "content": []}
    blocks: dict[int, _Growing] = {}
    for data in events:
        event = as_object(_decoded(data))
        match event.get("type"):
            case "message_start":
                message |= as_object(event.get("message"))
            case "content_block_start" if isinstance(event.get("index"), int):
                blocks[event["index"]] = _Growing(as_object(event.get("content_block")))
            case "content_block_delta" if isinstance(event.get("index"), int):
                blocks.setdefault(event["index"], _Growing({})).grow(as_object(event.get("delta")))
            case "message_delta":
                message |= as_object(event.get("delta"))
                message["usage"] = as_object(message.get("usage")) | as_object(event.get("usage"))
    message["content"] = [block.whole() for block in blocks.values()]
    return msgspec.json.encode(message)


class _Growing:
    """A block that grows: joined in the end, since joining it with each piece would take a time that grows as well."""

    def __init__(self, begun: dict[str, Any]) -> None:
        self._begun = begun
        self._signature: dict[str, Any] = {}
        self._citations: list[Any] = []
        self._pieces: dict[str, list[str]] = {}

    def grow(self, delta: dict[str, Any]) -> None:
        if "signature" in delta:
            self._signature = {"signature": delta["signature"]}
        if "citation" in delta:
            self._citations.append(delta["citation"])
        for name in ("text", "thinking", "partial_json"):
            if name in delta:
                self._pieces.setdefault(name, []).append(text_of(delta[name]))

    def whole(self) -> dict[str, Any]:
        """The input of a tool call that broke off stays the text that it is."""
        block = self._begun | self._signature
        if self._citations:
            block["citations"] = as_list(block.get("citations")) + self._citations
        texts = {name: "".join(pieces) for name, pieces in self._pieces.items()}
        if arguments := texts.pop("partial_json", ""):
            decoded = _decoded(arguments)
            block["input"] = arguments if decoded is None else decoded
        return block | {name: text_of(block.get(name)) + text for name, text in texts.items()}


_SPENT = ("spend_limit_reached", "billing_unavailable")
_OUT_OF_MEANS = re.compile(
    r"Your credit balance is too low to access\b|You have reached your specified (?:\w+ )?API usage limits\b"
)
_STATUSES = {  # of errors within a stream: https://platform.claude.com/docs/en/api/errors
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class _Block(msgspec.Struct):
    type: str = "text"
    text: str | None = None


class _Answer(msgspec.Struct):
    type: str = ""
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class _Delta(msgspec.Struct):
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: msgspec.Raw | None = None
    stop_reason: str | None = None


class _Start(msgspec.Struct):
    usage: msgspec.Raw = ABSENT


class _Event(msgspec.Struct):
    type: str = ""
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Start | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_answer = msgspec.json.Decoder(_Answer)
_event = msgspec.json.Decoder(_Event)
_NOTHING = _Delta()
_EMPTY = _Block()


def _begun(event: "_Event") -> Usage | None:
    """The count at the start of a stream: what will be written is not in it yet, so it is no more than an estimate."""
    usage = None if event.message is None else _read_usage(event.message.usage)
    return None if usage is None else msgspec.structs.replace(usage, estimated=True)


def _read_usage(raw: msgspec.Raw) -> Usage | None:
    """The whole prompt, cached or not. None for what is missing or cannot be a count."""
    if bytes(raw) == NULL:
        return None
    usage = counts.decoded(raw)
    parts = [0 if usage.get(name) is None else counts.count(usage[name]) for name in _COUNTS]
    if None in parts:
        return None
    plain, stored, cached, written = (part or 0 for part in parts)
    read = plain + stored + cached
    if read > counts.MOST or (usage.get("output_tokens") is None and not read):
        return None
    inner = {
        "cache_read_tokens": cached,
        "cache_write_tokens": stored,
        "cache_write_1h_tokens": counts.details(usage.get("cache_creation")).get("ephemeral_1h_input_tokens"),
        "reasoning_tokens": counts.details(usage.get("output_tokens_details")).get("thinking_tokens"),
    }
    return counts.counted(read, written, inner, cost=counts.told_cost(usage))


def _decoded(data: bytes | str | msgspec.Raw) -> Any:
    """None for what is no JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
