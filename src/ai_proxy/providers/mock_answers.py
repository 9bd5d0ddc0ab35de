"""Answers without a model: from a decoded chat completions request to its completion, whole or in chunks.

The same request has the same answer. A word counts as a token.
Source of the shapes: https://platform.openai.com/docs/api-reference/chat
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_check import Effort
from ai_proxy.providers.mock_facts import Facts, quoted
from ai_proxy.providers.mock_request import ChatRequest, Tool, cut, digest, read, text_of, usage
from ai_proxy.providers.mock_schema import instance
from ai_proxy.providers.mock_tools import ToolCall, call, called

_MOST_LOGPROBS = 200_000
_LOGPROB = -0.5


class Choice(msgspec.Struct, frozen=True):
    """One of the `n` answers: words, or calls of tools."""

    index: int
    words: list[str]
    calls: list[ToolCall]
    finish_reason: str

    @property
    def size(self) -> int:
        """How many chunks bear its content."""
        return len(self.words) + sum(1 + len(call.pieces()) for call in self.calls)


class Answer(msgspec.Struct, frozen=True):
    """What the mock has to say. `top` is how many log probabilities a word comes with; None for no word of them."""

    choices: list[Choice]
    top: int | None
    usage: dict[str, Any]
    head: dict[str, Any]

    @property
    def size(self) -> int:
        return sum(choice.size for choice in self.choices)


def answer_to(body: dict[str, Any], *, model: str, created: int, read_tokens: int) -> Answer:
    """Raises `ProviderFault` for a request that no provider would take."""
    request, seed = read(ChatRequest, body), digest(body)
    choices = _choices(request, seed)
    top = (request.top_logprobs or 0) if request.logprobs else None
    if top is not None and sum(len(choice.words) for choice in choices) * (1 + top) > _MOST_LOGPROBS:
        raise ProviderFault("logprobs: too many for the mock. Lower max_tokens.", status=400)
    written = sum(choice.size for choice in choices)
    head = {"id": f"chatcmpl-{seed[:29]}", "created": created, "model": model}
    return Answer(choices, top, usage(read_tokens, written), {**head, **_SERVED})


def completion(answer: Answer) -> dict[str, Any]:
    choices = [
        {
            "index": choice.index,
            "message": _message(choice),
            "logprobs": _logprobs(choice.words, answer.top),
            "finish_reason": choice.finish_reason,
        }
        for choice in answer.choices
    ]
    return {"object": "chat.completion", **answer.head, "choices": choices, "usage": answer.usage}


def chunks(answer: Answer) -> Iterator[dict[str, Any]]:
    """The same answer as a stream with its usage: the role, the content, why it ends, the usage."""
    for choice in answer.choices:
        yield _chunk(answer, choice, {"role": "assistant", "content": None if choice.calls else "", "refusal": None})
        for word in choice.words:
            yield _chunk(answer, choice, {"content": word}, logprobs=_logprobs([word], answer.top))
        for index, made in enumerate(choice.calls):
            for delta in _tool_deltas(index, made):
                yield _chunk(answer, choice, {"tool_calls": [delta]})
    for choice in answer.choices:
        yield _chunk(answer, choice, {}, finish_reason=choice.finish_reason)
    yield {"object": "chat.completion.chunk", **answer.head, "choices": [], "usage": answer.usage}


_SERVED = {"service_tier": "default", "system_fingerprint": "fp_mock"}


def _choices(request: ChatRequest, seed: str) -> list[Choice]:
    effort, tools, indexes = Effort(), called(request), range(request.n or 1)
    if not tools:
        return [_in_words(request, index, effort) for index in indexes]
    return [Choice(index, [], _calls(request, tools, seed, index, effort), "tool_calls") for index in indexes]


def _calls(
    request: ChatRequest, tools: list[tuple[Tool, str]], seed: str, index: int, effort: Effort
) -> list[ToolCall]:
    return [
        call(request, tool, said, f"call_{seed[:20]}{index:02x}{number:02x}", effort=effort, turn=index)
        for number, (tool, said) in enumerate(tools)
    ]


def _in_words(request: ChatRequest, index: int, effort: Effort) -> Choice:
    words, reason = cut(_text(request, index, effort), stop=request.stop, most=request.most_words)
    return Choice(index, words, [], reason)


def _text(request: ChatRequest, index: int, effort: Effort) -> str:
    wanted = request.response_format or {}
    if wanted.get("type") == "json_schema":
        return _json(_by_schema(request, wanted.get("json_schema"), index, effort))
    said = _said(request, index)
    return _json(_by_keys(request, said, index)) if wanted.get("type") == "json_object" else said


def _said(request: ChatRequest, index: int) -> str:
    if index:
        return f"This is mock answer {index + 1}, no model was asked."
    results = request.results()
    if results:
        tools = "The tools said" if len(results) > 1 else "The tool said"
        return f"This is a mock answer, no model was asked. {tools}: {'; '.join(results)}"
    return f"This is a mock answer, no model was asked. You said: {text_of(request.said[-1])}"


def _subject(request: ChatRequest) -> str:
    return " ".join(request.results()) or text_of(request.said[-1])


def _by_schema(request: ChatRequest, wanted: Any, index: int, effort: Effort) -> Any:
    if not isinstance(wanted, dict):
        raise ProviderFault("response_format.json_schema: must be an object.", status=400)
    schema = wanted.get("schema", {"type": "object"})
    return instance(schema, Facts(_subject(request), turn=index), effort, turn=index)


def _by_keys(request: ChatRequest, said: str, index: int) -> dict[str, str]:
    """An object with the keys that the question names in quotes, if it speaks of keys; else with the one, answer."""
    question = _subject(request)
    if "key" not in question and "field" not in question:
        return {"answer": said}
    facts = Facts(question.replace("'", " ").replace('"', " "), turn=index)
    return {key: facts.word() for key in quoted(question) if key.isidentifier()} or {"answer": said}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _message(choice: Choice) -> dict[str, Any]:
    content = None if choice.calls else "".join(choice.words)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    return {**message, "tool_calls": [_tool_call(call) for call in choice.calls]} if choice.calls else message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return {"id": call.identifier, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.identifier, "type": "function", "function": function}


def _tool_deltas(index: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    yield {"index": index, "id": call.identifier, "type": kind, kind: {"name": call.name, field: ""}}
    for piece in call.pieces():
        yield {"index": index, kind: {field: piece}}


def _chunk(
    answer: Answer,
    choice: Choice,
    delta: dict[str, Any],
    *,
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    part = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", **answer.head, "choices": [part], "usage": None}


def _logprobs(words: list[str], top: int | None) -> dict[str, Any] | None:
    """Each word is the likeliest; the others are made up."""
    if top is None or not words:
        return None
    content = [
        {
            **_token(word, _LOGPROB),
            "top_logprobs": [
                _token(f"{word.strip()}~{rank} " if rank else word, _LOGPROB - 2 * rank) for rank in range(top)
            ],
        }
        for word in words
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
