"""OpenAI's Responses wire format: the events of a stream.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from typing import Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.responses import wants_logprobs
from ai_proxy.dialects.responses_object import bare, ending, skeleton, tier, token_logprobs, usage_of
from ai_proxy.dialects.responses_output import Call, Message, Reasoning
from ai_proxy.dialects.responses_tools import Tool, known_tools


class FromChunks:
    """A stream of chat chunks as the events of a response to a (valid) request.

    One item is written at a time, as OpenAI does and clients expect, but for calls, whose pieces may come in any order.
    Raises `msgspec.MsgspecError` for a broken chunk, `ProviderFault` for a stream that makes no sense.
    """

    def __init__(self, request: dict[str, Any], *, identifier: str, model: str, created: int) -> None:
        self._response = skeleton(request, identifier=identifier, model=model, created=created)
        self._identifier = bare(identifier)
        self._tools = known_tools(request)
        self._summary = bool((request.get("reasoning") or {}).get("summary"))
        self._wants_logprobs = wants_logprobs(request)
        self._finish_reason: str | None = None
        self._events: list[dict[str, Any]] = []
        self._number = 0
        self._output: list[dict[str, Any]] = []  # an item that is still open holds its place
        self._open: dict[int, Reasoning | Message | Call] = {}
        self._current: Reasoning | Message | None = None
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def feed(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        event = msgspec.convert(chunk, _Chunk)
        self._begin()
        if event.service_tier is not None:
            self._response["service_tier"] = tier(event.service_tier)
        if event.usage is not None:
            self._response["usage"] = usage_of(event.usage)
        for choice in event.choices:
            if choice.index == 0:  # a response has one answer
                self._read(choice)
        return self._taken()

    def close(self) -> list[dict[str, Any]]:
        self._begin()
        if any(call.item is None for call in self._calls):
            raise ProviderFault("")  # it never said which tool to call
        status, details = ending(self._finish_reason)
        for index in sorted(self._open):
            self._finish(index, status if index == len(self._output) - 1 else "completed")
        self._response |= {"status": status, "incomplete_details": details, "output": self._output}
        self._emit(f"response.{status}", {"response": self._response})
        return self._taken()

    def _begin(self) -> None:
        if self._number == 0:
            self._emit("response.created", {"response": dict(self._response)})
            self._emit("response.in_progress", {"response": dict(self._response)})

    def _emit(self, kind: str, fields: dict[str, Any]) -> None:
        self._events.append({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1

    def _taken(self) -> list[dict[str, Any]]:
        taken, self._events = self._events, []
        return taken

    def _read(self, choice: "_Choice") -> None:
        delta = choice.delta or _NOTHING
        if thought := _thought(delta):
            self._reasoning().write(thought)
        if text := _text(delta.content):
            self._message().write(text, token_logprobs(choice.logprobs) if self._wants_logprobs else [])
        if delta.refusal:
            self._message().refuse(delta.refusal)
        for called in delta.tool_calls or ():
            self._call(called)
        self._finish_reason = choice.finish_reason or self._finish_reason

    def _reasoning(self) -> Reasoning:
        if isinstance(self._current, Reasoning):
            return self._current
        index = self._next()
        item = self._current = self._open[index] = Reasoning(self._emit, self._identifier, index, summary=self._summary)
        return item

    def _message(self) -> Message:
        if isinstance(self._current, Message):
            return self._current
        index = self._next()
        item = self._current = self._open[index] = Message(self._emit, self._identifier, index)
        return item

    def _next(self) -> int:
        """The place of a new item. What was written before it, unless it is a call, is complete."""
        if self._current is not None:
            self._finish(self._current.index, "completed")
            self._current = None
        self._output.append({})
        return len(self._output) - 1

    def _finish(self, index: int, status: str) -> None:
        self._output[index] = self._open.pop(index).close(status)

    def _call(self, delta: "_CallDelta") -> None:
        said = delta.custom or delta.function or _NO_CALL
        call = self._of(delta, said.name)
        call.identifier = call.identifier or delta.id
        text = said.input if delta.custom else said.arguments
        if call.item is None and said.name:
            call.item = self._open_call(call, said.name, custom=delta.custom is not None)
            text = call.held + (text or "")
        if call.item is None:
            call.held += text or ""
        elif text:
            call.item.write(text)

    def _of(self, delta: "_CallDelta", name: str | None) -> "_Call":
        """The call that a piece belongs to. Some servers number none of their calls, or give all of them one number."""
        known = self._calls[-1] if delta.index is None and self._calls else self._by_index.get(delta.index or 0)
        if known is not None and not (name and _is_another(delta, known)):
            return known
        call = _Call()
        self._calls.append(call)
        self._by_index[delta.index or 0] = call
        return call

    def _open_call(self, call: "_Call", name: str, *, custom: bool) -> Call:
        index = self._next()
        call_id = call.identifier or f"call_{self._identifier}{index:02x}"
        tool = self._tools.get(name) or Tool(name, custom=custom)
        wrapped = tool.custom and not custom
        item = self._open[index] = Call(self._emit, self._identifier, index, call_id, tool, wrapped=wrapped)
        return item


def failed(message: str, code: str, response: dict[str, Any], *, sequence_number: int = 0) -> dict[str, Any]:
    """The last event of a stream that broke off. `response` is the one so far. `code` is ours; the SDKs know few."""
    known = "rate_limit_exceeded" if code.endswith(("rate_limited", "rate_limit_exceeded")) else "server_error"
    error = {"code": known, "message": message, "param": None, "type": code}
    failure = {**response, "status": "failed", "error": error}
    return {"type": "response.failed", "sequence_number": sequence_number, "response": failure}


class _Part(msgspec.Struct):
    text: str | None = None


class _Said(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class _CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Said | None = None
    custom: _Said | None = None


class _Delta(msgspec.Struct):
    content: str | list[_Part] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    service_tier: str | None = None
    usage: Any = None


class _Call:
    """A call of which something came. Its item waits for the name."""

    def __init__(self) -> None:
        self.identifier: str | None = None
        self.held = ""
        self.item: Call | None = None


_NOTHING, _NO_CALL = _Delta(), _Said()


def _text(content: str | list[_Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or "" for part in content)


def _is_another(delta: _CallDelta, known: _Call) -> bool:
    if delta.id:
        return known.identifier not in (None, delta.id)
    return delta.index is None and known.item is not None


def _thought(delta: _Delta) -> str:
    """Servers call it one or the other, and some both at once."""
    return next((text for text in (delta.reasoning_content, delta.reasoning) if isinstance(text, str) and text), "")
