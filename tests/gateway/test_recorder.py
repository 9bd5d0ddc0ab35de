"""The history's writer, with a fake in place of the database."""

import asyncio
import time
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from ai_proxy.core.exceptions import DatabaseUnavailable, HistoryFull
from ai_proxy.core.groups import RecorderSettings
from ai_proxy.core.types import Exchange
from ai_proxy.gateway.recorder import Recorder

pytestmark = pytest.mark.anyio


class Disk:
    """Takes rows as the database would: not yet (`open` is not set), not now (`failures`), or never (`poison`)."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.times: list[float] = []
        self.attempts = 0
        self.failures = 0
        self.poison: set[str] = set()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, rows) -> None:
        self.attempts += 1
        self.times.append(time.monotonic())
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            message = "locked"
            raise DatabaseUnavailable(message)
        if self.poison & {row.id for row in rows}:
            message = "this one can never be stored"
            raise OverflowError(message)
        self.transactions.append([row.id for row in rows])

    @property
    def rows(self) -> list[str]:
        return [row for transaction in self.transactions for row in transaction]


@pytest.fixture
async def disk():
    return Disk()


def exchange(identifier: object, *, question: str = "", answer: str = "") -> Exchange:
    return Exchange(
        id=str(identifier),
        key_id="key",
        question=question,
        answer=answer,
        model="model",
        conversation_id=None,
        created_at=0,
        started=0.0,
    )


def settings(**fields) -> RecorderSettings:
    return RecorderSettings(**{"interval": 0, **fields})


def put(recorder: Recorder, *identifiers: object) -> list[asyncio.Event]:
    """Calls that begin and end."""
    written = []
    for identifier in identifiers:
        recorder.admit()
        written.append(recorder.add(exchange(identifier)))
    return written


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_arrives_while_a_transaction_runs_goes_into_the_next_one(disk):
    disk.open.clear()
    async with Recorder(disk, settings()) as recorder:
        put(recorder, "first")
        await until(lambda: disk.attempts)
        put(recorder, *range(100))
        disk.open.set()
        await until(lambda: recorder.held == 0)

    assert disk.transactions == [["first"], [str(number) for number in range(100)]]


async def test_a_transaction_has_no_more_rows_than_the_batch(disk):
    disk.open.clear()
    async with Recorder(disk, settings(batch=4)) as recorder:
        put(recorder, "first")
        await until(lambda: disk.attempts)
        put(recorder, *range(10))
        disk.open.set()
        await until(lambda: recorder.held == 0)

    assert [len(rows) for rows in disk.transactions] == [1, 4, 4, 2]


async def test_an_answer_waits_for_the_commit_of_its_own_row(disk):
    disk.open.clear()
    async with Recorder(disk, settings()) as recorder:
        [first] = put(recorder, "first")
        await until(lambda: disk.attempts)
        [second] = put(recorder, "second")
        await asyncio.sleep(0.02)
        waiting = [first.is_set(), second.is_set()]
        disk.open.set()
        await asyncio.wait_for(second.wait(), 5)

        assert waiting == [False, False]
        assert first.is_set()
        assert disk.rows == ["first", "second"]


async def test_the_wait_is_bounded_and_the_row_stays_queued(disk):
    disk.open.clear()
    async with Recorder(disk, settings(wait=0.05)) as recorder:
        [written] = put(recorder, "late")
        began = time.monotonic()
        await asyncio.wait_for(written.wait(), 5)
        waited = time.monotonic() - began
        held, stored = recorder.held, disk.rows
        disk.open.set()
        await until(lambda: recorder.held == 0)

    assert 0.04 < waited < 1
    assert (held, stored) == (1, [])
    assert disk.rows == ["late"]


async def test_a_row_that_comes_after_the_wait_of_another_waits_for_itself(disk):
    disk.open.clear()
    async with Recorder(disk, settings(wait=0.2)) as recorder:
        put(recorder, "in the transaction")
        await until(lambda: disk.attempts)
        [early] = put(recorder, "early")
        await asyncio.wait_for(early.wait(), 5)
        [late] = put(recorder, "late")
        waiting = not late.is_set()
        disk.open.set()
        await asyncio.wait_for(late.wait(), 5)

        assert waiting
        assert disk.rows == ["in the transaction", "early", "late"]


async def test_tries_again_until_the_database_is_back(disk):
    disk.failures = 2
    async with Recorder(disk, settings()) as recorder:
        [written] = put(recorder, "patient")
        await until(lambda: recorder.failing)
        await asyncio.wait_for(written.wait(), 5)

        assert not recorder.failing
    assert disk.rows == ["patient"]
    assert disk.attempts == 3
    assert recorder.lost == 0


async def test_pauses_grow_while_the_database_is_away(disk):
    disk.failures = 3
    async with Recorder(disk, settings()) as recorder:
        put(recorder, "patient")
        await until(lambda: recorder.held == 0)

    pauses = [later - earlier for earlier, later in pairwise(disk.times)]
    assert pauses[0] >= 0.05
    assert pauses[1] >= 0.1
    assert pauses[2] >= 0.2


async def test_a_row_that_cannot_be_stored_takes_no_other_with_it(disk):
    disk.open.clear()
    disk.poison = {"bad"}
    async with Recorder(disk, settings()) as recorder:
        put(recorder, "before")
        await until(lambda: disk.attempts)
        written = put(recorder, "good", "bad", "better")
        disk.open.set()
        await until(lambda: recorder.held == 0)

    assert sorted(disk.rows) == ["before", "better", "good"]
    assert recorder.lost == 1
    assert all(event.is_set() for event in written)


async def test_a_row_that_cannot_be_stored_is_found_even_while_the_database_comes_and_goes(disk):
    disk.poison = {"bad"}
    disk.failures = 1
    async with Recorder(disk, settings()) as recorder:
        put(recorder, "good", "bad", "better")
        await until(lambda: recorder.held == 0)

    assert disk.rows == ["good", "better"]
    assert (recorder.lost, recorder.failing) == (1, False)


async def test_refuses_calls_that_it_has_no_room_for(disk):
    disk.open.clear()
    async with Recorder(disk, settings(capacity=2)) as recorder:
        recorder.admit()
        recorder.admit()
        with pytest.raises(HistoryFull) as refused:
            recorder.admit()
        recorder.add(exchange(1))
        recorder.add(exchange(2))
        with pytest.raises(HistoryFull):
            recorder.admit()
        disk.open.set()
        await until(lambda: recorder.held == 0)
        put(recorder, 3)

    assert refused.value.status == 503
    assert refused.value.retry_after == 5
    assert disk.rows == ["1", "2", "3"]


async def test_refuses_calls_while_too_much_text_waits(disk):
    disk.open.clear()
    async with Recorder(disk, settings(max_characters=1024)) as recorder:
        recorder.admit()
        recorder.add(exchange("long", question="x" * 1000, answer="y" * 24))
        with pytest.raises(HistoryFull):
            recorder.admit()
        disk.open.set()
        await until(lambda: recorder.held == 0)

        recorder.admit()
        recorder.add(exchange("short"))
    assert disk.rows == ["long", "short"]
    assert recorder.held_characters == 0


async def test_two_transactions_keep_their_distance(disk):
    async with Recorder(disk, settings(interval=0.1)) as recorder:
        put(recorder, 1)
        await until(lambda: recorder.held == 0)
        put(recorder, 2)
        await until(lambda: recorder.held == 0)

    assert disk.times[1] - disk.times[0] >= 0.095


async def test_a_single_row_after_a_rest_does_not_wait_for_the_interval(disk):
    async with Recorder(disk, settings(interval=1)) as recorder:
        began = time.monotonic()
        put(recorder, 1)
        await until(lambda: recorder.held == 0)

        assert time.monotonic() - began < 0.5


async def test_the_end_waits_for_calls_that_are_still_running(disk):
    async def end_later(recorder: Recorder) -> None:
        await asyncio.sleep(0.05)
        recorder.add(exchange("last"))

    async with Recorder(disk, settings()) as recorder:
        recorder.admit()
        running = asyncio.create_task(end_later(recorder))

    await running
    assert disk.rows == ["last"]
    assert recorder.lost == 0


async def test_the_end_does_not_wait_for_ever_and_counts_what_is_lost(disk):
    disk.open.clear()
    recorder = Recorder(disk, settings(), closing_time=0.05)
    async with recorder:
        put(recorder, 1, 2, 3)

    assert disk.rows == []
    assert recorder.lost == 3


async def test_after_an_outage_answers_wait_for_their_commit_again(disk):
    disk.failures = 2
    async with Recorder(disk, settings(wait=0.02)) as recorder:
        recorder.admit()
        await recorder.add(exchange("during")).wait()
        recorder.admit()
        overdue = recorder.add(exchange("also during"))
        await overdue.wait()
        disk.open.clear()  # the next write takes its time, but succeeds
        await asyncio.sleep(0.2)
        recorder.admit()
        after = recorder.add(exchange("after"))

        waiting = not after.is_set()
        disk.open.set()
        await after.wait()

    assert waiting
    assert sorted(disk.rows) == ["after", "also during", "during"]


async def test_a_write_that_does_not_break_off_is_left_alone_and_the_log_says_so(disk):
    writing = asyncio.Event()

    async def write(_) -> None:
        writing.set()
        try:
            await asyncio.sleep(30)
        finally:
            await disk.open.wait()  # its clean-up hangs as well

    disk.open.clear()
    with capture_logs() as log:
        async with Recorder(write, settings(), closing_time=0.05) as recorder:
            put(recorder, "hanging")
            await writing.wait()
            began = time.monotonic()
    waited = time.monotonic() - began
    disk.open.set()

    assert 1 <= waited < 3
    assert [line["event"] for line in log] == [
        "history: records lost at shutdown",
        "history: the last write does not break off, and is left alone",
    ]
