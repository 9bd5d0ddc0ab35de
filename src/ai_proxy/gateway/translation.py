"""Calls in a wire format that the chosen provider does not speak: asked as chat completions, answered in their own.

A provider that speaks the caller's format gets and gives the bytes as they are.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NamedTuple, Protocol

import msgspec

from ai_proxy.core.types import Bounds, Exchange
from ai_proxy.core.upstream_errors import BadUpstreamResponse
from ai_proxy.dialects import call as calls
from ai_proxy.dialects import (
    messages,
    messages_answers,
    messages_events,
    responses,
    responses_answers,
    responses_events,
)
from ai_proxy.dialects.call import Call, Dialect
from ai_proxy.dialects.chat import Chunk, Completion, ProviderFault
from ai_proxy.gateway.course import NotOffered, Own
from ai_proxy.gateway.targets import Target
from ai_proxy.providers.errors import rejection

_GOOD = 200


class _Events(Protocol):
    def feed(self, chunk: dict[str, Any]) -> list[dict[str, Any]]: ...

    def close(self) -> list[dict[str, Any]]: ...


class _Form(NamedTuple):
    """How one format is asked and answered by way of chat completions."""

    chat_request: Callable[[dict[str, Any]], dict[str, Any]]
    from_completion: Callable[..., dict[str, Any]]
    from_chunks: Callable[..., _Events]


_FORMS: dict[Dialect, _Form] = {
    "responses": _Form(responses.chat_request, responses_answers.from_completion, responses_events.FromChunks),
    "messages": _Form(messages.chat_request, messages_answers.from_completion, messages_events.FromChunks),
}


def complete(call: Call, target: Target, limits: Bounds, exchange: Exchange) -> Awaitable[Completion]:
    """The answer in the caller's format. Raises `UpstreamError`, or `BadRequest` for what cannot be translated."""
    provider = target.provider
    if call.dialect in provider.dialects:
        return provider.complete(call, target.model, limits)
    return _translated(call, target, limits, exchange)


async def _translated(call: Call, target: Target, limits: Bounds, exchange: Exchange) -> Completion:
    if call.dialect == "count_tokens":
        return _estimated(call)
    form = _form(call, target)
    completion = await target.provider.complete(_as_chat(call, form), target.model, limits)
    with _understood(target.provider.name):
        answer = form.from_completion(
            msgspec.json.decode(completion.body),
            call.body,
            identifier=exchange.id,
            created=exchange.created_at // 1_000_000,
        )
    return msgspec.structs.replace(completion, body=msgspec.json.encode(answer))


def stream(call: Call, target: Target, limits: Bounds, exchange: Exchange) -> AsyncGenerator[Chunk, None]:
    """The events of the answer in the caller's format. Raises as `complete` does."""
    provider = target.provider
    if call.dialect in provider.dialects:
        return provider.stream(call, target.model, limits)
    return _translated_stream(call, target, limits, exchange)


async def _translated_stream(
    call: Call, target: Target, limits: Bounds, exchange: Exchange
) -> AsyncGenerator[Chunk, None]:
    form = _form(call, target)
    events = form.from_chunks(
        call.body, identifier=exchange.id, model=target.model, created=exchange.created_at // 1_000_000
    )
    finish: str | None = None
    async with aclosing(target.provider.stream(_as_chat(call, form), target.model, limits)) as chunks:
        async for chunk in chunks:
            finish = chunk.finish_reason or finish
            with _understood(target.provider.name):
                found = events.feed(msgspec.json.decode(chunk.data))
            for own in _chunks(found, chunk):
                yield own
    with _understood(target.provider.name):
        found = events.close()
    for own in _chunks(found, Chunk(b"", finish_reason=finish)):
        yield own


@contextmanager
def _understood(provider: str) -> Iterator[None]:
    """An answer that makes no sense in the caller's format either is the provider's fault."""
    try:
        yield
    except ProviderFault as fault:
        raise rejection(provider, fault.status or _GOOD, fault) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        message = "sent something that is not an answer"
        raise BadUpstreamResponse(provider, message, upstream_status=_GOOD) from None


def _chunks(events: list[dict[str, Any]], told: Chunk) -> Iterator[Chunk]:
    """Events as chunks. The first one carries what the provider's chunk told; without any event, an empty one does."""
    frames = [(msgspec.json.encode(event), event["type"]) for event in events]
    data, name = frames[0] if frames else (b"", "")
    yield Chunk(data, told.text, told.finish_reason, told.usage, told.content, name)
    for data, name in frames[1:]:
        yield Chunk(data, event=name)


def _as_chat(call: Call, form: _Form) -> Call:
    body = form.chat_request(call.body)
    if call.stream:
        body["stream"] = True
    return calls.of("chat", body, question=call.question)


def _form(call: Call, target: Target) -> _Form:
    form = _FORMS.get(call.dialect)
    if form is None:
        raise NotOffered(target.provider.name, call.dialect)
    return form


def _estimated(call: Call) -> Own:
    """A provider that cannot count tokens: four characters make one."""
    tokens = messages.estimate_tokens(call.body)
    return Own(msgspec.json.encode({"input_tokens": tokens}), "", "stop", None)
