"""Calls in formats that a provider speaks, and in those that it does not."""

import asyncio
import json
from contextlib import aclosing

import pytest

from ai_proxy.core.catalog import ModelSettings
from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.groups import CacheSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Bounds, Exchange, Usage
from ai_proxy.core.upstream_errors import BadUpstreamResponse, StreamTruncated, UpstreamRejected
from ai_proxy.dialects.call import parse
from ai_proxy.dialects.chat import Completion
from ai_proxy.dialects.wires import WIRES
from ai_proxy.gateway import translation
from ai_proxy.gateway.discovery import Discovery
from ai_proxy.gateway.health import Account, Health
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.routing import Names, Router
from ai_proxy.gateway.targets import Target
from tests.context import NO_CONTEXT

pytestmark = pytest.mark.anyio

IDENTIFIER = "01a20762-375b-7490-a54a-2ced17d31c9a"
HEX = IDENTIFIER.replace("-", "")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4}


def chunk(finish_reason=None, **delta) -> dict:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


MESSAGE = {"role": "assistant", "content": "pong"}
CHAT = {"id": "x", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "length"}], "usage": USAGE}
CHUNKS = [
    chunk(role="assistant", content=""),
    chunk(content="po"),
    chunk(content="ng"),
    chunk("length"),
    {"id": "x", "choices": [], "usage": USAGE},
]
NATIVE = {
    "messages": {
        "type": "message",
        "content": [{"type": "text", "text": "pong"}],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    },
    "responses": {
        "id": "resp_theirs",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "pong"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 4},
    },
}
NATIVE_EVENTS = {
    "messages": [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "pong"}},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ],
    "responses": [
        {"type": "response.created", "response": {"id": "resp_theirs", "status": "in_progress"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "pong"},
        {"type": "response.incomplete", "response": NATIVE["responses"]},
    ],
}
ASKED = {
    "messages": {"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "ping"}]},
    "responses": {"model": "small", "max_output_tokens": 9, "input": "ping"},
}
INEXPRESSIBLE = {
    "messages": {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
    "responses": {"input": [{"type": "hologram"}]},
}
FORMATS = pytest.mark.parametrize("dialect", ["messages", "responses"])


class Provider:
    """Speaks some formats; answers with what it is given, whole or as events, and keeps what it was asked."""

    is_mock = False
    default_model = "small"

    def __init__(self, name="fake", *dialects, answer=CHAT, events=CHUNKS) -> None:
        self.name = name
        self.dialects = frozenset({"chat", *dialects})
        self.answer = answer
        self.events = events
        self.asked = []
        self.closed = False

    async def complete(self, call, model, limits):
        self.asked.append((call, model, limits))
        if isinstance(self.answer, Completion):
            return self.answer
        return WIRES[call.dialect].read_answer(json.dumps(self.answer).encode())

    async def stream(self, call, model, limits):
        self.asked.append((call, model, limits))
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield WIRES[call.dialect].read_event(json.dumps(event).encode())
        finally:
            self.closed = True


class Rows:
    """A history that takes everything at once."""

    def __init__(self) -> None:
        self.rows: list[Exchange] = []

    def admit(self) -> None:
        pass

    def add(self, exchange: Exchange) -> asyncio.Event:
        self.rows.append(exchange)
        written = asyncio.Event()
        written.set()
        return written


def target(provider: Provider) -> Target:
    return Target(
        provider=provider, model="tiny", limits=Bounds(), health=Health("fake/tiny", Account()), label="fake/tiny"
    )


def call(dialect: str, **fields):
    return parse(dialect, json.dumps({**ASKED.get(dialect, {}), **fields}).encode())


def exchange(asked=None) -> Exchange:
    made = Exchange(
        id=IDENTIFIER,
        key_id="key",
        question="ping",
        model="small",
        conversation_id=None,
        created_at=1_700_000_000_000_000,
        started=0.0,
    )
    if asked is not None:
        made.dialect, made.stream, made.request = asked.dialect, asked.stream, b"as it came"
    return made


async def complete(provider: Provider, asked) -> Completion:
    return await translation.complete(asked, target(provider), Bounds(), exchange())


async def events_of(provider: Provider, asked) -> list:
    async with aclosing(translation.stream(asked, target(provider), Bounds(), exchange())) as chunks:
        return [chunk async for chunk in chunks]


def gateway_of(*providers: Provider) -> tuple[Gateway, list[Exchange]]:
    """A gateway whose one model goes to these providers in turn, and its history."""

    history = Rows()
    keys = {provider.name: [provider] for provider in providers}
    model = ModelSettings(targets=[f"{name}/tiny" for name in keys])
    gateway = Gateway(history, NO_CONTEXT, Metrics(), CacheSettings())
    gateway.use(Router(keys, {"small": model}, limits={}, names=Names()), Discovery({}, {}))
    return gateway, history.rows


async def sent_by(gateway: Gateway, asked) -> list[bytes]:
    async with aclosing(gateway.stream(exchange(asked), asked)) as chunks:
        return [chunk.data async for chunk in chunks if chunk.data]


# A provider that speaks the caller's format.


@FORMATS
async def test_a_provider_that_speaks_the_format_gets_the_call_as_it_is(dialect):
    provider = Provider("fake", dialect, answer=NATIVE[dialect])
    asked, limits = call(dialect), Bounds(total=7)

    completion = await translation.complete(asked, target(provider), limits, exchange())

    assert provider.asked == [(asked, "tiny", limits)]
    assert json.loads(completion.body) == NATIVE[dialect]
    assert (completion.text, completion.finish_reason, completion.usage) == ("pong", "length", Usage(3, 4))


@FORMATS
async def test_its_events_come_as_they_are(dialect):
    provider = Provider("fake", dialect, events=NATIVE_EVENTS[dialect])
    asked = call(dialect, stream=True)

    chunks = await events_of(provider, asked)

    assert provider.asked[0][0] is asked
    assert [json.loads(chunk.data) for chunk in chunks] == NATIVE_EVENTS[dialect]
    assert [chunk.event for chunk in chunks] == [event["type"] for event in NATIVE_EVENTS[dialect]]


# A provider that speaks chat alone.


@FORMATS
async def test_another_provider_is_asked_in_chat(dialect):
    provider = Provider()

    await complete(provider, call(dialect))

    ((asked, model, _),) = provider.asked
    assert (asked.dialect, model, asked.question, asked.is_ours) == ("chat", "tiny", "ping", True)
    assert asked.body == {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 9}


@FORMATS
async def test_a_stream_is_asked_for_only_for_those_who_want_one(dialect):
    provider = Provider()

    await events_of(provider, call(dialect, stream=True))

    ((asked, _, _),) = provider.asked
    assert asked.stream
    assert asked.body["stream"] is True


async def test_its_answer_becomes_a_message():
    completion = await complete(Provider(), call("messages"))

    body = json.loads(completion.body)
    assert (body["id"], body["type"], body["stop_reason"]) == (f"msg_{HEX}", "message", "max_tokens")
    assert body["content"] == [{"type": "text", "text": "pong"}]
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (3, 4)


async def test_its_answer_becomes_a_response():
    completion = await complete(Provider(), call("responses"))

    body = json.loads(completion.body)
    assert (body["id"], body["object"], body["created_at"]) == (f"resp_{HEX}", "response", 1_700_000_000)
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][0]["content"][0]["text"] == "pong"


@FORMATS
async def test_what_the_answer_says_is_known_beside_it(dialect):
    completion = await complete(Provider(), call(dialect))

    assert (completion.text, completion.finish_reason, completion.usage) == ("pong", "length", Usage(3, 4))


@FORMATS
async def test_its_chunks_become_events_that_the_formats_own_reader_understands(dialect):
    chunks = await events_of(Provider(), call(dialect, stream=True))

    read = [WIRES[dialect].read_event(chunk.data) for chunk in chunks if chunk.data]
    assert [chunk.event for chunk in chunks if chunk.data] == [event.event for event in read]
    assert "".join(event.text for event in read) == "".join(chunk.text for chunk in chunks) == "pong"
    assert [event.finish_reason for event in read if event.finish_reason] == ["length"]
    assert {chunk.finish_reason for chunk in chunks} == {None, "length"}
    assert [chunk.usage for chunk in chunks if chunk.usage] == [Usage(3, 4)]
    assert read[-1].event == {"messages": "message_stop", "responses": "response.incomplete"}[dialect]


@FORMATS
async def test_the_last_event_comes_after_the_count(dialect):
    chunks = await events_of(Provider(), call(dialect, stream=True))

    folded = json.loads(WIRES[dialect].fold([chunk.data for chunk in chunks if chunk.data]))
    assert (folded["usage"]["input_tokens"], folded["usage"]["output_tokens"]) == (3, 4)


@FORMATS
async def test_the_finish_is_not_told_before_all_content_is(dialect):
    chunks = await events_of(Provider(), call(dialect, stream=True))

    finished = [number for number, chunk in enumerate(chunks) if chunk.finish_reason]
    texts = [number for number, chunk in enumerate(chunks) if chunk.text]
    assert max(texts) < min(finished)


@FORMATS
async def test_who_leaves_early_ends_the_providers_stream(dialect):
    provider = Provider()

    async with aclosing(translation.stream(call(dialect, stream=True), target(provider), Bounds(), exchange())) as it:
        await anext(it)
        left_open = provider.closed

    assert (left_open, provider.closed) == (False, True)


# What cannot be put into chat, or does not come back from it.


@FORMATS
@pytest.mark.parametrize("ask", [complete, events_of])
async def test_what_chat_cannot_express_is_the_callers_mistake_and_nobody_is_asked(dialect, ask):
    provider = Provider()
    asked = parse(dialect, json.dumps({**INEXPRESSIBLE[dialect], "stream": ask is events_of}).encode())

    with pytest.raises(BadRequest) as caught:
        await ask(provider, asked)

    assert caught.value.param.startswith(("messages", "input"))
    assert provider.asked == []


@FORMATS
async def test_a_provider_that_speaks_the_format_may_be_asked_what_chat_cannot_express(dialect):
    plain, able = Provider("plain"), Provider("able", dialect, answer=NATIVE[dialect])
    gateway, rows = gateway_of(plain, able)
    asked = parse(dialect, json.dumps({**INEXPRESSIBLE[dialect], "model": "small"}).encode())

    completion = await gateway.complete(exchange(asked), asked)

    assert completion.text == "pong"
    assert plain.asked == []
    assert [(attempt.provider, attempt.outcome) for attempt in rows[0].attempts] == [
        ("plain", "invalid_request"),
        ("able", "completed"),
    ]


@FORMATS
@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"choices": [{"message": 5}]}', b"{}", b"\xff", b""])
async def test_an_answer_that_makes_no_sense_is_the_providers_failure(dialect, body):
    provider = Provider(answer=Completion(body, "", "stop", None))

    with pytest.raises(BadUpstreamResponse) as caught:
        await complete(provider, call(dialect))

    assert (caught.value.provider, caught.value.upstream_status) == ("fake", 200)


async def test_a_stream_that_makes_no_sense_is_the_providers_failure():
    nameless = {"index": 0, "id": "c", "function": {"arguments": "{}"}}
    provider = Provider(events=[chunk(tool_calls=[nameless]), chunk("tool_calls")])

    with pytest.raises(BadUpstreamResponse) as caught:
        await events_of(provider, call("responses", stream=True))

    assert (caught.value.provider, caught.value.upstream_status) == ("fake", 200)
    assert provider.closed


@FORMATS
async def test_a_providers_own_failure_passes_as_it_is(dialect):
    failure = StreamTruncated("fake", "ended its answer without finishing it")
    provider = Provider(events=[*CHUNKS[:2], failure])

    with pytest.raises(StreamTruncated) as caught:
        await events_of(provider, call(dialect, stream=True))

    assert caught.value is failure


# Formats that have no way through chat.


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [("embeddings", {"input": "ping"}), ("moderations", {"input": "ping"}), ("completions", {"prompt": "ping"})],
)
async def test_what_has_no_way_through_chat_needs_a_provider_that_offers_it(dialect, fields):
    provider = Provider()

    with pytest.raises(UpstreamRejected) as caught:
        await complete(provider, call(dialect, **fields))

    told = f"fake: does not offer {dialect}: name a model of a provider with OpenAI's formats that does"
    assert (caught.value.status, caught.value.message) == (404, told)
    assert provider.asked == []


async def test_a_stream_of_it_neither():
    with pytest.raises(UpstreamRejected):
        await events_of(Provider(), call("completions", prompt="ping", stream=True))


async def test_tokens_are_estimated_for_a_provider_that_cannot_count():
    provider = Provider()

    completion = await complete(provider, call("count_tokens", messages=[{"role": "user", "content": "a" * 400}]))

    assert provider.asked == []
    assert 100 <= json.loads(completion.body)["input_tokens"] <= 110
    assert completion.usage is None


async def test_tokens_are_counted_by_a_provider_that_can():
    provider = Provider("fake", "messages", "count_tokens", answer={"input_tokens": 17})

    completion = await complete(provider, call("count_tokens", messages=[{"role": "user", "content": "ping"}]))

    assert completion.body == b'{"input_tokens": 17}'


# What is recorded.


@FORMATS
@pytest.mark.parametrize("native", [False, True])
async def test_a_whole_answer_is_recorded_as_the_caller_got_it(dialect, native):
    provider = Provider("fake", dialect, answer=NATIVE[dialect]) if native else Provider()
    gateway, rows = gateway_of(provider)
    asked = call(dialect)

    completion = await gateway.complete(exchange(asked), asked)

    (row,) = rows
    assert (row.status, row.answer, row.finish_reason, row.usage) == ("completed", "pong", "length", Usage(3, 4))
    assert (row.provider, row.model, row.request, row.response) == ("fake", "tiny", b"as it came", completion.body)


@FORMATS
@pytest.mark.parametrize("native", [False, True])
async def test_a_stream_is_recorded_as_the_answer_that_it_makes_up(dialect, native):
    provider = Provider("fake", dialect, events=NATIVE_EVENTS[dialect]) if native else Provider()
    gateway, rows = gateway_of(provider)
    asked = call(dialect, stream=True)

    sent = await sent_by(gateway, asked)

    (row,) = rows
    assert (row.status, row.answer, row.finish_reason, row.usage) == ("completed", "pong", "length", Usage(3, 4))
    assert row.response == WIRES[dialect].fold(sent)


@FORMATS
async def test_a_stream_that_fails_is_recorded_as_far_as_it_came(dialect):
    gateway, rows = gateway_of(Provider(events=[*CHUNKS[:2], StreamTruncated("fake", "broke off")]))
    asked = call(dialect, stream=True)

    with pytest.raises(StreamTruncated):
        await sent_by(gateway, asked)

    (row,) = rows
    assert (row.status, row.error, row.answer) == ("failed", "upstream_stream_truncated", "po")
    assert b"po" in row.response
    assert row.usage.estimated


async def test_embeddings_that_nobody_offers_are_recorded_as_failed():
    gateway, rows = gateway_of(Provider())
    asked = call("embeddings", input="ping", model="small")

    with pytest.raises(UpstreamRejected):
        await gateway.complete(exchange(asked), asked)

    assert (rows[0].status, rows[0].error, rows[0].usage) == ("failed", "upstream_rejected", Usage())
    assert (rows[0].request, rows[0].response) == (b"as it came", None)
    assert rows[0].attempts == []


async def test_what_one_provider_does_not_offer_is_asked_of_the_next():
    able = Provider("able", "embeddings", answer={"data": [], "usage": {"prompt_tokens": 1}})
    gateway, rows = gateway_of(Provider("unable"), able)
    asked = call("embeddings", input="ping", model="small")

    await gateway.complete(exchange(asked), asked)

    assert [attempt.provider for attempt in rows[0].attempts] == ["able"]


async def test_an_estimate_of_tokens_is_no_try_of_the_provider():
    gateway, rows = gateway_of(Provider())
    asked = call("count_tokens", messages=[{"role": "user", "content": "ping"}])

    await gateway.complete(exchange(asked), asked)

    assert (rows[0].status, rows[0].provider, rows[0].attempts) == ("completed", "fake", [])
