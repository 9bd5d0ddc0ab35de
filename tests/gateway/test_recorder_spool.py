"""What the history's writer does with rows that the database does not take, with fakes for it and the spool."""

import asyncio
import time
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from ai_proxy.core.exceptions import DatabaseUnavailable, HistoryFull
from ai_proxy.core.groups import RecorderSettings
from ai_proxy.gateway.recorder import Recorder
from tests.recording import Disk, Shelf, exchange, put, running, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def disk():
    return Disk()


@pytest.fixture
async def shelf():
    return Shelf()


async def test_rows_that_the_database_does_not_take_are_in_the_spool_before_their_answers_go_out(disk, shelf):
    disk.failures = 10**6
    shelf.open.clear()
    async with running(disk, shelf) as recorder:
        [written] = put(recorder, "first")
        await until(lambda: recorder.failing)
        await asyncio.sleep(0.02)
        waiting = not written.is_set()
        shelf.open.set()
        await asyncio.wait_for(written.wait(), 1)

        assert waiting
        assert shelf.identifiers == ["first"]
        assert (recorder.held, recorder.spooled, recorder.lost) == (0, 1, 0)


async def test_while_the_database_is_away_rows_go_to_the_spool_without_asking_it(disk, shelf):
    disk.failures = 10**6
    async with running(disk, shelf) as recorder:
        await asyncio.wait_for(put(recorder, "first")[0].wait(), 1)
        disk.open.clear()  # from now on it does not even answer
        await until(lambda: recorder.state == "spooling")
        began = time.monotonic()
        for number in range(10):
            await asyncio.wait_for(put(recorder, number)[0].wait(), 1)
        took = time.monotonic() - began
        disk.open.set()

    assert took < 0.5
    assert shelf.identifiers == ["first", *map(str, range(10))]


async def test_when_the_database_is_back_the_oldest_rows_go_there_first(disk, shelf):
    disk.failures = 3
    async with running(disk, shelf) as recorder:
        put(recorder, 1)
        await until(lambda: recorder.failing)
        put(recorder, 2)
        await until(lambda: recorder.held == 0)
        put(recorder, 3)
        await until(lambda: recorder.spooled == 0)
        await until(lambda: recorder.state == "ok")
        after = put(recorder, 4)
        await after[0].wait()

    assert disk.rows == ["1", "2", "3", "4"]
    assert recorder.lost == 0


async def test_an_outage_is_in_the_log_once(disk, shelf):
    disk.failures = 4
    with capture_logs() as log:
        async with running(disk, shelf) as recorder:
            put(recorder, "patient")
            await until(lambda: disk.rows)

    assert [(line["event"], line.get("reason")) for line in log] == [
        ("history: the database is away, records go to the spool", "None"),
        ("history: the database is back", None),
    ]


async def test_pauses_grow_while_the_database_is_away(disk, shelf):
    disk.failures = 4
    async with running(disk, shelf) as recorder:
        put(recorder, "patient")
        await until(lambda: disk.rows)

    pauses = [later - earlier for earlier, later in pairwise(disk.times)]
    assert pauses[1] >= 0.05
    assert pauses[2] >= 0.1
    assert pauses[3] >= 0.2


async def test_rows_of_a_write_that_takes_too_long_go_to_the_spool_and_are_stored_once(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf, wait=0.05) as recorder:
        began = time.monotonic()
        [slow] = put(recorder, "slow")
        await until(lambda: disk.attempts)
        [behind] = put(recorder, "behind")
        await asyncio.wait_for(slow.wait(), 5)
        waited = time.monotonic() - began
        await asyncio.wait_for(behind.wait(), 5)
        spooled, attempts, state = shelf.identifiers, disk.attempts, recorder.state
        disk.open.set()
        await until(lambda: recorder.spooled == 0)

    assert 0.04 < waited < 1
    assert (spooled, attempts, state) == (["slow", "behind"], 1, "spooling")
    assert disk.rows == ["slow", "behind"]


async def test_rows_that_come_while_a_write_takes_too_long_are_not_forgotten(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf, wait=0.05) as recorder:
        released = put(recorder, "slow")
        await until(lambda: disk.attempts)
        for number in range(20):
            released += put(recorder, number)
            await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in released)), 5)
        spooled = sorted(shelf.identifiers)
        disk.open.set()
        await until(lambda: recorder.spooled == 0)

        assert (recorder.held, recorder.held_characters, recorder.lost) == (0, 0, 0)
    assert spooled == sorted(["slow", *map(str, range(20))])
    assert sorted(disk.rows) == spooled


async def test_after_an_outage_answers_wait_for_their_commit_again(disk, shelf):
    disk.failures = 2
    async with running(disk, shelf) as recorder:
        await put(recorder, "during")[0].wait()
        await until(lambda: recorder.state == "ok" and not recorder.spooled)
        disk.open.clear()
        [after] = put(recorder, "after")
        await asyncio.sleep(0.05)

        waiting = not after.is_set()
        disk.open.set()
        await after.wait()

    assert waiting
    assert disk.rows == ["during", "after"]


async def test_before_it_is_opened_all_goes_to_the_spool(disk, shelf):
    async with Recorder(disk, shelf, RecorderSettings(interval=0)) as recorder:
        await asyncio.wait_for(put(recorder, 1)[0].wait(), 1)
        before = (recorder.state, disk.attempts, shelf.identifiers)
        recorder.open()
        await until(lambda: recorder.spooled == 0)
        await asyncio.wait_for(put(recorder, 2)[0].wait(), 1)

        assert before == ("spooling", 0, ["1"])
        assert (recorder.state, disk.rows) == ("ok", ["1", "2"])


async def test_what_an_earlier_process_left_is_stored_first_thing(disk, shelf):
    shelf.rows = [exchange(number) for number in range(600)]
    async with running(disk, shelf) as recorder:
        await until(lambda: recorder.spooled == 0)

    assert disk.rows == [str(number) for number in range(600)]
    assert [len(rows) for rows in disk.transactions] == [250, 250, 100]


# The spool has no room


async def test_while_the_database_is_away_and_the_spool_is_full_no_call_is_admitted(disk, shelf):
    disk.failures = 10**6
    async with running(disk, shelf) as recorder:
        recorder.admit()
        shelf.is_full = True
        recorder.admit()
        recorder.add(exchange("runs already"))
        await until(lambda: recorder.failing)
        state = recorder.state
        with pytest.raises(HistoryFull):
            recorder.admit()
        recorder.add(exchange("runs already, too"))
        await until(lambda: recorder.held == 0)

    assert state == "failing"
    assert shelf.identifiers == ["runs already", "runs already, too"]


async def test_a_full_spool_is_of_no_interest_while_the_database_takes_rows(disk, shelf):
    shelf.is_full = True
    async with running(disk, shelf) as recorder:
        await put(recorder, 1)[0].wait()

        assert recorder.state == "ok"
    assert disk.rows == ["1"]


async def test_a_disk_that_is_full_takes_no_new_calls_even_while_the_database_finds_room_on_it(disk, shelf):
    async with running(disk, shelf) as recorder:
        recorder.admit()
        shelf.disk_is_full = True
        with pytest.raises(HistoryFull):
            recorder.admit()
        recorder.add(exchange("runs already"))
        await until(lambda: recorder.held == 0)

        assert recorder.state == "failing"
    assert disk.rows == ["runs already"]


async def test_rows_that_nobody_takes_stay_in_memory_and_no_call_is_admitted_meanwhile(disk, shelf):
    disk.failures = 10**6
    shelf.room = False
    async with running(disk, shelf, wait=0.1) as recorder:
        began = time.monotonic()
        [written] = put(recorder, "late")
        await asyncio.wait_for(written.wait(), 5)
        waited = time.monotonic() - began
        held, state = recorder.held, recorder.state
        with pytest.raises(HistoryFull):
            recorder.admit()
        disk.failures = 0
        await until(lambda: recorder.held == 0)

        assert 0.09 < waited < 1
        assert (held, state) == (1, "failing")
        assert (disk.rows, shelf.rows) == (["late"], [])
        await until(lambda: recorder.state == "ok")


async def test_rows_in_memory_go_to_the_spool_when_there_is_room_again(disk, shelf):
    disk.failures = 10**6
    shelf.room = False
    async with running(disk, shelf, wait=0.05) as recorder:
        put(recorder, 1)
        await until(lambda: recorder.state == "failing")
        shelf.room = True
        await until(lambda: recorder.held == 0)

        assert shelf.identifiers == ["1"]
        assert recorder.state == "spooling"


async def test_a_spool_that_does_not_answer_holds_no_answer_for_ever(disk, shelf):
    disk.failures = 10**6
    shelf.open.clear()
    async with running(disk, shelf, wait=0.05, closing_time=0.05) as recorder:
        began = time.monotonic()
        released = put(recorder, 1, 2)
        await asyncio.wait_for(released[1].wait(), 5)
        waited = time.monotonic() - began
        held, state = recorder.held, recorder.state
        with pytest.raises(HistoryFull):
            recorder.admit()

    assert 0.09 < waited < 1
    assert (held, state) == (2, "failing")
    assert recorder.lost == 2


# Rows that can never be stored


async def test_a_row_that_cannot_be_stored_takes_no_other_with_it(disk, shelf):
    disk.open.clear()
    disk.poison = {"bad"}
    async with running(disk, shelf) as recorder:
        put(recorder, "before")
        await until(lambda: disk.attempts)
        written = put(recorder, "good", "bad", "better")
        disk.open.set()
        await until(lambda: recorder.held == 0)

    assert sorted(disk.rows) == ["before", "better", "good"]
    assert (recorder.lost, shelf.rejected) == (1, ["bad"])
    assert all(event.is_set() for event in written)


async def test_a_row_that_cannot_be_stored_is_found_even_while_the_database_comes_and_goes(disk, shelf):
    disk.poison = {"bad"}
    disk.failures = 1
    async with running(disk, shelf) as recorder:
        put(recorder, "good", "bad", "better")
        await until(lambda: recorder.spooled == recorder.held == 0)

    assert disk.rows == ["good", "better"]
    assert (recorder.lost, recorder.failing, shelf.rejected) == (1, False, ["bad"])


async def test_a_row_that_cannot_be_stored_is_found_in_few_tries(disk, shelf):
    disk.poison = {"77"}
    async with running(disk, shelf) as recorder:
        put(recorder, *range(100))
        await until(lambda: recorder.held == 0)

    assert sorted(map(int, disk.rows)) == [number for number in range(100) if number != 77]
    assert disk.attempts < 20


# The end


async def test_what_the_database_does_not_take_at_the_end_is_in_the_spool(disk, shelf):
    disk.open.clear()
    async with running(disk, shelf, closing_time=0.05) as recorder:
        put(recorder, "in the transaction")
        await until(lambda: disk.attempts)
        put(recorder, 1, 2)

    assert disk.rows == []
    assert shelf.identifiers == ["in the transaction", "1", "2"]
    assert (recorder.lost, recorder.held) == (0, 0)


async def test_the_end_does_not_wait_for_ever_and_counts_what_is_lost(disk, shelf):
    disk.open.clear()
    shelf.room = False
    async with running(disk, shelf, closing_time=0.05) as recorder:
        put(recorder, 1, 2, 3)

    assert (disk.rows, shelf.rows) == ([], [])
    assert recorder.lost == 3


async def test_a_write_that_does_not_break_off_is_left_alone_and_the_log_says_so(disk, shelf):
    writing = asyncio.Event()

    async def write(_) -> None:
        writing.set()
        try:
            await asyncio.sleep(30)
        finally:
            await disk.open.wait()  # its clean-up hangs as well

    disk.open.clear()
    with capture_logs() as log:
        async with running(write, shelf, closing_time=0.05) as recorder:
            put(recorder, "hanging")
            await writing.wait()
            began = time.monotonic()
    waited = time.monotonic() - began
    disk.open.set()

    assert 1 <= waited < 3
    assert shelf.identifiers == ["hanging"]
    assert [line["event"] for line in log] == ["history: the last write does not break off, and is left alone"]


async def test_before_it_is_open_only_what_others_have_left_is_written(disk, shelf):
    shelf.rows = [exchange("old 1"), exchange("old 2")]
    shelf.inherited = 2
    async with Recorder(disk, shelf, RecorderSettings(interval=0)) as recorder:
        await asyncio.wait_for(put(recorder, "own")[0].wait(), 1)
        await recorder.recover()
        before = disk.rows
        recorder.open()
        await until(lambda: recorder.spooled == 0)

    assert before == ["old 1", "old 2"]
    assert disk.rows == ["old 1", "old 2", "own"]


async def test_what_others_have_left_is_tried_again_after_a_failure(disk, shelf):
    shelf.rows, shelf.inherited = [exchange("old")], 1
    disk.failures = 1
    async with Recorder(disk, shelf, RecorderSettings(interval=0)) as recorder:
        with pytest.raises(DatabaseUnavailable):
            await recorder.recover()
        await recorder.recover()

        assert disk.rows == ["old"]
        assert recorder.spooled == 0
