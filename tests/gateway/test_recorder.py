"""The history's writer, with fakes in place of the database and the spool."""

import asyncio
import time

import pytest

from ai_proxy.core.exceptions import HistoryFull
from ai_proxy.gateway.recorder import Recorder
from tests.recording import Disk, Shelf, exchange, put, running, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def disk():
    return Disk()


@pytest.fixture
async def shelf():
    return Shelf()


async def test_what_arrives_while_a_transaction_runs_goes_into_the_next_one(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf) as recorder:
        put(recorder, "first")
        await until(lambda: disk.attempts)
        put(recorder, *range(100))
        disk.open.set()
        await until(lambda: recorder.held == 0)

    assert disk.transactions == [["first"], [str(number) for number in range(100)]]


async def test_a_transaction_has_no_more_rows_than_the_batch(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf, batch=4) as recorder:
        put(recorder, "first")
        await until(lambda: disk.attempts)
        put(recorder, *range(10))
        disk.open.set()
        await until(lambda: recorder.held == 0)

    assert [len(rows) for rows in disk.transactions] == [1, 4, 4, 2]


async def test_an_answer_waits_for_the_commit_of_its_own_row(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf) as recorder:
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


async def test_refuses_calls_that_it_has_no_room_for(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf, capacity=2) as recorder:
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


async def test_refuses_calls_while_too_much_text_waits(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf, max_characters=1024) as recorder:
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


async def test_two_transactions_keep_their_distance(disk, shelf):
    async with running(disk, shelf, interval=0.1) as recorder:
        put(recorder, 1)
        await until(lambda: recorder.held == 0)
        put(recorder, 2)
        await until(lambda: recorder.held == 0)

    assert disk.times[1] - disk.times[0] >= 0.095


async def test_a_single_row_after_a_rest_does_not_wait_for_the_interval(disk, shelf):
    async with running(disk, shelf, interval=1) as recorder:
        began = time.monotonic()
        put(recorder, 1)
        await until(lambda: recorder.held == 0)

        assert time.monotonic() - began < 0.5


async def test_the_end_waits_for_calls_that_are_still_running(disk, shelf):
    async def end_later(recorder: Recorder) -> None:
        await asyncio.sleep(0.05)
        recorder.add(exchange("last"))

    async with running(disk, shelf) as recorder:
        recorder.admit()
        ending = asyncio.create_task(end_later(recorder))

    await ending
    assert disk.rows == ["last"]
    assert recorder.lost == 0
