"""What is kept of a call, however it ends."""

import asyncio
import json
from contextlib import suppress

import pytest

from ai_proxy.core.exceptions import HistoryFull
from ai_proxy.core.groups import BudgetSettings
from ai_proxy.core.metrics import Metrics
from ai_proxy.core.types import Attempt, Bounds, Exchange, KeptAnswer, Usage
from ai_proxy.core.upstream_errors import UpstreamTimeout
from ai_proxy.dialects.call import parse
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.dialects.wires import WIRES
from ai_proxy.gateway.health import Account, Health
from ai_proxy.gateway.limits import Limiter, MemoryCounters
from ai_proxy.gateway.record import Record
from ai_proxy.gateway.targets import Target

pytestmark = pytest.mark.anyio

REQUEST = b'{"model": "small", "messages": [{"role": "user", "content": "ping"}]}'
CALL = parse("chat", REQUEST)
FAILURE = UpstreamTimeout("fake", "fell silent", phase="idle")


class Provider:
    name = "fake"
    is_mock = True


TARGET = Target(provider=Provider(), model="tiny", limits=Bounds(), health=Health("x", Account()), label="fake/tiny")


class Recorder:
    """Takes rows; `full` takes none, `written` is set when it has taken one for good."""

    def __init__(self) -> None:
        self.rows: list[Exchange] = []
        self.admitted = 0
        self.full = False
        self.written = asyncio.Event()
        self.written.set()

    def admit(self) -> None:
        if self.full:
            message = "no place"
            raise HistoryFull(message)
        self.admitted += 1

    def add(self, exchange: Exchange) -> asyncio.Event:
        self.rows.append(exchange)
        return self.written


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def record(recorder):
    def record(call=CALL, *, keep=None, **fields) -> Record:
        exchange = Exchange(
            id="id",
            key_id="key",
            question="ping",
            model="small",
            conversation_id=None,
            created_at=0,
            started=0.0,
            **{"dialect": call.dialect, "request": REQUEST, **fields},
        )
        return Record(exchange, call, recorder, Limiter(MemoryCounters(), BudgetSettings(), Metrics()), Metrics(), keep)

    return record


def completion(**fields) -> Completion:
    return Completion(**{"body": b'{"id": "x"}', "text": "pong", "finish_reason": "stop", "usage": None, **fields})


def read(*events: dict | bytes, dialect: str = "chat") -> list[Chunk]:
    return [
        WIRES[dialect].read_event(event if isinstance(event, bytes) else json.dumps(event).encode()) for event in events
    ]


def chunk(finish_reason=None, **delta) -> dict:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


async def leave(record: Record, *parts, by: BaseException | None = None) -> None:
    """A call that gives these parts, and ends well or by an error."""
    with suppress(type(by) if by else ()):
        async with record:
            for part in parts:
                (record.take_whole if isinstance(part, Completion) else record.take)(part)
            if by is not None:
                raise by


# Calls that end well.


async def test_of_a_whole_answer_the_body_is_kept_as_it_is(record, recorder):
    await leave(record(), completion(usage=Usage(3, 4)))

    (row,) = recorder.rows
    assert (row.status, row.error, row.answer, row.finish_reason) == ("completed", None, "pong", "stop")
    assert (row.usage, row.request, row.response) == (Usage(3, 4), REQUEST, b'{"id": "x"}')
    assert row.duration_ms > 0
    assert recorder.admitted == 1


async def test_of_a_stream_the_answer_that_it_makes_up_is_kept(record, recorder):
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}

    await leave(record(), *read(chunk(content="po"), chunk(content="ng"), chunk("stop"), usage))

    (row,) = recorder.rows
    assert (row.answer, row.finish_reason, row.usage) == ("pong", "stop", Usage(3, 4))
    assert json.loads(row.response)["choices"][0]["message"] == {"content": "pong"}


async def test_of_our_own_endpoints_no_answers_of_providers_are_kept(record, recorder):
    await leave(record(dialect="ask"), completion())
    await leave(record(dialect="ask"), *read(chunk(content="pong"), chunk("stop")))

    assert [(row.answer, row.response) for row in recorder.rows] == [("pong", None)] * 2


async def test_an_answer_without_a_count_is_counted_by_its_characters(record, recorder):
    await leave(record(), completion(text="a" * 40))

    assert recorder.rows[0].usage == Usage(1, 10, estimated=True)


async def test_where_nothing_was_said_nothing_is_counted(record, recorder):
    await leave(record(), completion(text=""))

    assert recorder.rows[0].usage == Usage()


async def test_counts_that_come_in_two_parts_are_put_together(record, recorder):
    await leave(record(), Chunk(b"{}", usage=Usage(3, 1)), Chunk(b"{}", usage=Usage(0, 4), finish_reason="stop"))

    assert recorder.rows[0].usage == Usage(3, 4)


async def test_who_answers_is_noted(record, recorder):
    call = record()
    call.answered_by(TARGET)

    await leave(call, completion())

    (row,) = recorder.rows
    assert (row.provider, row.model, row.mock) == ("fake", "tiny", True)


async def test_an_answer_waits_until_its_row_is_written(record, recorder):
    recorder.written.clear()

    task = asyncio.create_task(leave(record(), completion()))
    await asyncio.sleep(0.01)
    waits = not task.done()
    recorder.written.set()
    await task

    assert waits


# Calls that do not.


async def test_a_call_that_fails_is_kept_as_far_as_it_came(record, recorder):
    call = record()
    call.answered_by(TARGET)

    await leave(call, *read(chunk(content="po")), by=FAILURE)

    (row,) = recorder.rows
    assert (row.status, row.error, row.answer) == ("failed", "upstream_timeout_idle", "po")
    assert (row.provider, row.model, row.finish_reason, row.usage.estimated) == ("fake", "tiny", None, True)
    assert json.loads(row.response)["choices"][0]["message"] == {"content": "po"}


async def test_a_call_that_nobody_answered_names_who_was_asked_last(record, recorder):
    attempts = [Attempt("first", "big", "upstream_overloaded", 1.0), Attempt("second", "tiny", FAILURE.code, 1.0)]

    await leave(record(attempts=attempts), by=FAILURE)

    (row,) = recorder.rows
    assert (row.provider, row.model, row.status) == ("second", "tiny", "failed")
    assert (row.usage, row.request, row.response) == (Usage(), REQUEST, None)


async def test_a_bug_of_ours_is_kept_as_one(record, recorder):
    await leave(record(), by=ZeroDivisionError())

    assert (recorder.rows[0].status, recorder.rows[0].error) == ("failed", "internal_error")


@pytest.mark.parametrize("end", [asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize(("reason", "expected"), [("client_gone", "client_gone"), (None, "server_shutdown")])
async def test_a_call_that_was_cancelled_says_by_whom(record, recorder, end, reason, expected):
    await leave(record(error=reason), *read(chunk(content="po")), by=end())

    (row,) = recorder.rows
    assert (row.status, row.error, row.answer) == ("cancelled", expected, "po")
    assert json.loads(row.response)["choices"][0]["message"] == {"content": "po"}


async def test_nobody_waits_for_the_row_of_a_cancelled_call(record, recorder):
    recorder.written.clear()

    async with asyncio.timeout(1):
        await leave(record(), by=asyncio.CancelledError())

    assert len(recorder.rows) == 1


async def test_a_call_for_which_there_is_no_place_does_not_begin(record, recorder):
    recorder.full = True

    with pytest.raises(HistoryFull):
        async with record():
            pytest.fail("it began")

    assert recorder.rows == []


# Responses that can be fetched again.

RESPONSES = parse("responses", b'{"model": "small", "input": "ping"}')


async def test_a_response_is_kept_under_its_own_name(record, recorder):
    await leave(record(RESPONSES, keeps_response=True), completion(body=b'{"id": "resp_1"}'))

    assert recorder.rows[0].response_id == "resp_1"


async def test_a_streamed_one_too(record, recorder):
    end = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}}

    await leave(record(RESPONSES, keeps_response=True), *read(end, dialect="responses"))

    assert recorder.rows[0].response_id == "resp_1"


async def test_one_that_is_not_to_be_stored_has_no_name(record, recorder):
    await leave(record(RESPONSES), completion(body=b'{"id": "resp_1"}'))

    assert recorder.rows[0].response_id is None


async def test_one_that_failed_cannot_be_fetched(record, recorder):
    begin = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}

    await leave(record(RESPONSES, keeps_response=True), *read(begin, dialect="responses"), by=FAILURE)

    (row,) = recorder.rows
    assert row.response_id is None
    assert json.loads(row.response)["id"] == "resp_1"


@pytest.mark.parametrize("body", [b"{}", b'{"id": null}', b'{"id": 5}', b'{"id": "\xff"}', b'{"id": "\\ud800"}', b"[]"])
async def test_a_response_without_a_proper_name_has_none(record, recorder, body):
    await leave(record(RESPONSES, keeps_response=True), completion(body=body))

    (row,) = recorder.rows
    assert (row.status, row.response_id, row.response) == ("completed", None, body)


# Streams that cannot be folded.


@pytest.mark.parametrize(
    ("dialect", "events"),
    [
        ("responses", [b'{"type": "response.created", "response": []}', b'{"type": "response.in_progress"}']),
        ("chat", [b'{"choices": [], "x": "\xff"}', b'{"choices": [], "y": 1}']),
        ("chat", [b'{"choices": [], "x": 1e999}']),
    ],
)
async def test_events_that_are_broken_where_no_reader_looked_are_kept_as_they_came(record, recorder, dialect, events):
    call = CALL if dialect == "chat" else RESPONSES

    await leave(record(call, keeps_response=True), *read(*events, dialect=dialect))

    (row,) = recorder.rows
    assert (row.status, row.response_id) == ("completed", None)
    assert row.response == b"\n".join(events)


@pytest.mark.parametrize(
    ("dialect", "events"),
    [
        ("chat", [chunk(content=[{"type": "thinking", "thinking": []}]), chunk(content="pong"), chunk("stop")]),
        ("chat", [chunk(tool_calls=[5]), chunk(tool_calls=[{"index": 0}]), chunk("tool_calls")]),
        ("chat", [chunk(tool_calls=[{"index": 0, "function": {"arguments": given}}]) for given in ({}, [], 5, "x")]),
        (
            "responses",
            [
                {"type": "response.output_item.added", "item": {"content": 5}},
                {"type": "response.output_text.delta", "delta": "pong"},
            ],
        ),
    ],
)
async def test_whatever_a_provider_sends_its_record_is_not_lost(record, recorder, dialect, events):
    await leave(record(CALL if dialect == "chat" else RESPONSES), *read(*events, dialect=dialect))

    (row,) = recorder.rows
    assert row.status == "completed"
    assert row.response


# What is kept under an idempotency key.


def kept(exchange: Exchange, completion: Completion) -> KeptAnswer:
    return KeptAnswer(
        key="k",
        digest="d",
        body=completion.body,
        headers={},
        exchange_id=exchange.id,
    )


async def test_an_answer_to_be_kept_goes_with_its_row(record, recorder):
    await leave(record(keep=kept), completion())

    assert recorder.rows[0].kept.body == b'{"id": "x"}'


async def test_no_failure_is_kept(record, recorder):
    await leave(record(keep=kept), by=FAILURE)

    assert recorder.rows[0].kept is None


async def test_a_row_is_written_even_if_there_is_a_bug_in_keeping(record, recorder):
    def fails(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave(record(keep=fails), completion())

    assert len(recorder.rows) == 1


async def test_a_body_that_is_nested_deeply_has_a_record_and_an_estimate(record, recorder):
    deep = b'{"x":' * 480 + b"1" + b"}" * 480
    call = parse("chat", b'{"messages": [{"role": "user", "content": "ping", "more": %s}]}' % deep)

    async with record(call) as one:
        one.take_whole(completion())

    (row,) = recorder.rows
    assert (row.status, row.usage) == ("completed", Usage(1, 1, estimated=True))


async def test_who_leaves_while_a_long_stream_is_put_together_leaves_a_whole_record(record, recorder):
    events = [b'{"id": "resp_1", "choices": [{"delta": {"content": "pong "}}]}'] * 20_000

    async def call():
        async with record(keeps_response=True) as one:
            for data in events:
                one.take(Chunk(data, "pong "))

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    (row,) = recorder.rows
    assert (row.status, row.response_id) == ("completed", "resp_1")
    assert json.loads(row.response)["choices"][0]["message"]["content"] == "pong " * 20_000


async def test_the_first_of_several_answers_is_kept(record, recorder):
    async with record() as one:
        for chunk in (Chunk(b"{}", "a"), Chunk(b"{}", "b", "length", index=1), Chunk(b"{}", "", "stop")):
            one.take(chunk)

    assert (recorder.rows[0].answer, recorder.rows[0].finish_reason) == ("a", "stop")
