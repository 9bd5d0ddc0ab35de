"""What all ways to call a model share: from a request to its call, from an answer to its response."""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from urllib.parse import quote

import structlog
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from ai_proxy.api.body import read_body
from ai_proxy.api.dependencies import authenticate, state_of
from ai_proxy.api.disconnect import UntilGone
from ai_proxy.api.sse import AnswerStream
from ai_proxy.api.streams import form_of
from ai_proxy.core.ids import uuid7
from ai_proxy.core.money import dollars
from ai_proxy.core.types import Exchange, KeptAnswer, Principal
from ai_proxy.dialects.call import Call, Dialect, parse
from ai_proxy.dialects.chat import Completion
from ai_proxy.gateway.cache import wishes
from ai_proxy.gateway.idempotency import HEADER, checked, digest_of
from ai_proxy.gateway.record import Keep

log = structlog.get_logger()

# The body that a client gets, from what is recorded and what the provider sent.
Render = Callable[[Exchange, Completion], bytes]

_IDEMPOTENCY_KEY = HEADER.encode()
# What says how the body is to be read.
_PASSED_ON = frozenset({b"anthropic-version", b"anthropic-beta", b"openai-beta"})

_encoded = lru_cache(64)(str.encode)  # the names of headers, which are few


async def answer(request: Request, dialect: Dialect) -> Response:
    """Serve a call in one of the SDKs' wire formats. Raises `GatewayError`."""
    exchange, call = await open_call(request, dialect)
    return await answer_to(request, exchange, call)


async def open_call(request: Request, dialect: Dialect) -> tuple[Exchange, Call]:
    """Who calls for what."""
    started = time.perf_counter()
    principal = await authenticate(request)
    body = await read_body(request, state_of(request)["server"])
    call = parse(dialect, body, _headers(request))
    exchange = new_exchange(request, principal, call.question, started=started)
    exchange.model = exchange.asked_model = call.model or ""
    exchange.dialect = dialect
    exchange.stream = call.stream
    exchange.request = body
    return exchange, call


async def answer_to(request: Request, exchange: Exchange, call: Call) -> Response:
    """Serve a call in its own format. Raises `GatewayError`."""
    if not call.stream:
        return await whole_answer(request, exchange, call, _as_it_came)
    chunks = state_of(request)["gateway"].stream(exchange, call)
    async with UntilGone(request.scope, request.receive, exchange):
        first = await anext(chunks)
    return AnswerStream(exchange, first, chunks, form_of(call), told(exchange))


async def whole_answer(request: Request, exchange: Exchange, call: Call, render: Render) -> Response:
    """Serve a call, or what was answered before to the same request with its idempotency key. Raises `GatewayError`."""
    key = _idempotency_key(request)
    if key is None:
        return await _complete(request, exchange, call, render)
    digest = digest_of(request.scope["path"], exchange, call)
    async with state_of(request)["idempotency"].once(exchange.key_id, key, digest) as before:
        if before is not None:
            return _again(request, before)
        return await _complete(request, exchange, call, render, partial(_kept, key, digest, render))


def new_exchange(request: Request, principal: Principal, question: str, *, started: float) -> Exchange:
    """`started` is a `perf_counter` reading."""
    exchange = Exchange(
        id=uuid7(),
        key_id=principal.key_id,
        user_id=principal.user_id,
        project_id=principal.project_id,
        principal=principal,
        question=question,
        model="",
        conversation_id=None,
        created_at=time.time_ns() // 1000,
        started=started,
        keep_texts=principal.keep_texts and state_of(request)["keep_texts"],
    )
    request.scope["exchange"] = exchange
    if state_of(request)["gateway"].reuses:
        exchange.reuse = wishes(",".join(request.headers.getlist("cache-control")))
    return exchange


def told(exchange: Exchange) -> dict[str, str]:
    """The headers that tell how an answer came about. The overhead is what the gateway itself took, in milliseconds."""
    overhead = (time.perf_counter() - exchange.started) * 1000 - exchange.waited_ms
    headers = {**_origin(exchange), "x-ai-proxy-overhead-ms": f"{overhead:.1f}", **exchange.limits_told}
    if not exchange.stream and exchange.cost is not None:  # the cost of a stream is known at its end
        headers["x-ai-proxy-cost-usd"] = dollars(exchange.cost)
    if exchange.reuse is not None and exchange.reuse.outcome:
        headers["x-ai-proxy-cache"] = exchange.reuse.outcome
        if exchange.reuse.outcome == "hit":
            headers["age"] = str(int(exchange.reuse.age))
    return headers


async def _complete(
    request: Request, exchange: Exchange, call: Call, render: Render, keep: Keep | None = None
) -> Response:
    async with UntilGone(request.scope, request.receive, exchange):
        completion = await state_of(request)["gateway"].complete(exchange, call, keep)
    return _Answer(render(exchange, completion), headers=told(exchange))


class _Answer(Response):
    """A whole answer, with headers that are ours: the framework's look at each of them takes twice as long.

    Its head tells our own server the body's `length`; others pass over what they do not know.
    """

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        raw = [(_encoded(name), value.encode("latin-1")) for name, value in (headers or {}).items()]
        raw += (b"content-length", b"%d" % len(self.body)), (b"content-type", b"application/json")
        self.raw_headers = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send({**start, "length": len(self.body)})
        await send({"type": "http.response.body", "body": self.body})


def _as_it_came(_: Exchange, completion: Completion) -> bytes:
    return completion.body


def _kept(key: str, digest: str, render: Render, exchange: Exchange, completion: Completion) -> KeptAnswer:
    return KeptAnswer(
        key=key,
        digest=digest,
        body=render(exchange, completion),
        headers=_origin(exchange),
        exchange_id=exchange.id,
    )


def _again(request: Request, kept: KeptAnswer) -> Response:
    del request.scope["exchange"]  # there is none: it is the same call
    log.info("idempotency: an answer is given again", exchange_id=kept.exchange_id)
    headers = {**kept.headers, "idempotent-replayed": "true"}
    return _Answer(kept.body, headers=headers)


def _sendable(name: str) -> str:
    """A model's name, which may be any text, as a header can hold it."""
    return name if name.isascii() and name.isprintable() else quote(name, safe=" /:@")


def _origin(exchange: Exchange) -> dict[str, str]:
    running = exchange.stream and not exchange.cached  # the try that answers is noted when the stream ends
    return {
        "x-ai-proxy-provider": exchange.provider,
        "x-ai-proxy-model": _sendable(exchange.model),
        "x-ai-proxy-attempts": str(len(exchange.attempts) + running),
    }


def _idempotency_key(request: Request) -> str | None:
    for name, value in request.scope["headers"]:
        if name == _IDEMPOTENCY_KEY:
            return checked(value.decode("latin-1"))
    return None


def _headers(request: Request) -> Mapping[str, str]:
    passed: dict[str, str] = {}
    for name, value in request.scope["headers"]:
        if name in _PASSED_ON:
            before, text = passed.get(name.decode()), value.decode("latin-1")
            passed[name.decode()] = text if before is None else f"{before},{text}"
    return passed
