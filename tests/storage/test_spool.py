"""The spool: what was put there comes back, whatever happened to the files meanwhile."""

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager

import msgspec
import pytest
from structlog.testing import capture_logs

from ai_proxy.core.types import Attempt, KeptAnswer, Principal, Reuse, Usage
from ai_proxy.storage import reserve
from ai_proxy.storage.segments import Segment
from ai_proxy.storage.spool import Spool
from tests.stores import exchange

pytestmark = pytest.mark.anyio

PLENTY = 2**30
EVERYTHING = exchange(
    "1",
    question="Вопрос?",
    answer="an answer\x00",
    attempts=[Attempt("a", "m", "completed", 1.5, 200)],
    usage=Usage(1, 2, cost=3),
    request=b'{"a": 1}',
    response=b"\xff\x00",
    kept=KeptAnswer(key="k", digest="d", body=b"b", headers={"h": "v"}, exchange_id="1"),
    cost=5,
    first_token_ms=0.5,
)


def spool(directory, *, database: str = "x", max_bytes: int = PLENTY, beside: bool = True, cipher=None) -> Spool:
    files = directory / "data" / "spool"
    return Spool(files, database=database, beside=beside, max_bytes=max_bytes, cipher=cipher)


def files(directory, pattern: str = "*.spool") -> list:
    return sorted((directory / "data" / "spool").glob(pattern))


async def all_of(spool: Spool, *, most: int = 100) -> list[str]:
    """The identifiers of all rows, which are then taken for stored."""
    found = []
    while rows := await spool.take(most):
        found += [row.id for row in rows]
        await spool.done()
    return found


async def test_a_row_comes_back_as_it_was_but_without_what_does_not_concern_the_history(tmp_path):
    given = msgspec.structs.replace(
        EVERYTHING, principal=Principal(key_id="key", name="k"), reuse=Reuse(), limits_told={"a": "b"}
    )

    async with spool(tmp_path) as before:
        assert await before.append([given])
    async with spool(tmp_path) as after:
        [found] = await after.take(10)

    assert found == EVERYTHING


async def test_rows_stay_until_they_are_said_to_be_in_the_database(tmp_path):
    async with spool(tmp_path) as first:
        await first.append([exchange(str(number)) for number in range(5)])
        taken = [row.id for row in await first.take(2)]
        await first.done()
        unfinished = [row.id for row in await first.take(2)]
        left = first.records
    async with spool(tmp_path) as second:
        waiting = second.records
        again = await all_of(second)
        empty = (second.records, second.bytes)

    assert (taken, unfinished, left) == (["0", "1"], ["2", "3"], 3)
    assert (waiting, again) == (5, ["0", "1", "2", "3", "4"])  # a file goes as a whole
    assert empty == (0, 0)
    assert files(tmp_path) == []


async def test_rows_come_back_in_their_order_while_others_arrive(tmp_path):
    async with spool(tmp_path) as rows:
        await rows.append([exchange("1")])
        await rows.append([exchange("2")])
        first = await rows.take(1)
        await rows.append([exchange("3")])
        await rows.done()

        found = await all_of(rows)

    assert [row.id for row in first] == ["1"]
    assert found == ["2", "3"]


async def test_only_the_owner_can_read_it(tmp_path):
    async with spool(tmp_path) as rows:
        await rows.append([exchange("1")])
        await rows.reject(exchange("2"))

        directory = tmp_path / "data" / "spool"
        modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == {".spool": 0o600, ".jsonl": 0o600, "": 0o600}


async def test_nothing_is_left_of_a_spool_that_was_not_needed_but_the_reserve(tmp_path):
    async with spool(tmp_path) as rows:
        nothing = await rows.take(10)
        await rows.append([exchange("1")])
        await all_of(rows)

    assert nothing == []
    assert [path.name for path in files(tmp_path, "*")] == ["reserve"]


# Damage


async def written(directory, count: int) -> bytes:
    """A file with so many rows, as a process that has ended left it."""
    async with spool(directory) as rows:
        for number in range(count):
            await rows.append([exchange(str(number))])
    [file] = files(directory)
    return file.read_bytes()


def read(path) -> tuple[int, int]:
    """How many records come back of a file, and how many were damaged."""
    segment = Segment.adopt(path)
    found = segment.read(most=100, most_bytes=PLENTY)
    segment.close()
    return len(found), segment.damaged


async def test_a_tail_that_was_torn_off_at_any_byte_costs_no_whole_row(tmp_path):
    whole = await written(tmp_path, 3)
    size = (len(whole) - 24) // 3
    file = tmp_path / "torn"

    file.write_bytes(whole)

    for length in reversed(range(len(whole))):
        os.truncate(file, length)

        assert read(file) == (max(0, length - 24) // size, 0), length


async def test_zeros_behind_the_last_row_are_no_damage(tmp_path):
    whole = await written(tmp_path, 2)
    file = tmp_path / "longer"
    file.write_bytes(whole + bytes(100_000))

    assert read(file) == (2, 0)


async def test_a_damaged_byte_costs_one_row_at_most(tmp_path):
    whole = await written(tmp_path, 3)
    file = tmp_path / "damaged"

    file.write_bytes(whole)

    with file.open("r+b", buffering=0) as changing:
        for position, byte in enumerate(whole):
            os.pwrite(changing.fileno(), bytes([byte ^ 0xFF]), position)

            assert read(file) == ((3, 0) if position < 24 else (2, 1)), position
            os.pwrite(changing.fileno(), bytes([byte]), position)


async def test_noise_between_rows_is_passed_over(tmp_path):
    whole = await written(tmp_path, 2)
    middle = 24 + (len(whole) - 24) // 2
    file = tmp_path / "noise"
    file.write_bytes(whole[:middle] + bytes(range(1, 256)) * 1000 + whole[middle:])

    assert read(file) == (2, 1)


async def test_a_damaged_file_is_kept_and_the_log_says_so(tmp_path):
    whole = bytearray(await written(tmp_path, 3))
    whole[len(whole) // 2] ^= 1
    files(tmp_path)[0].write_bytes(whole)

    with capture_logs() as log:
        async with spool(tmp_path) as rows:
            found = await all_of(rows)
            left = (rows.records, rows.bytes)

    [kept] = files(tmp_path, "*.damaged")
    assert found == ["0", "2"]
    assert left == (0, 0)
    assert kept.read_bytes() == whole
    assert [(line["file"], line["records"]) for line in log if line["log_level"] == "error"] == [(kept.name, 1)]


async def test_a_body_that_looks_like_a_row_is_none(tmp_path):
    whole = await written(tmp_path, 1)
    async with spool(tmp_path) as rows:
        await rows.append([exchange("body", request=whole * 3)])
        files(tmp_path)[0].write_bytes(whole[:-1] + b"!")  # the first is damaged
        found = await all_of(rows)

    assert found == ["body"]


async def test_a_row_of_a_version_that_this_one_does_not_know_is_kept_for_that(tmp_path):
    async with spool(tmp_path) as newer:
        await newer.append([exchange("1"), exchange("2", status="of a newer version"), exchange("3")])
    async with spool(tmp_path) as rows:
        found = await all_of(rows)
        left = rows.records

    assert (found, left) == (["1", "3"], 0)
    assert len(files(tmp_path, "*.damaged")) == 1


# Several processes

OWNER = """
import asyncio, sys
from pathlib import Path
from ai_proxy.storage.spool import Spool
from tests.stores import exchange

async def main():
    async with Spool(Path(sys.argv[1]), database=sys.argv[2], beside=True, max_bytes=2**30) as rows:
        for number in range(10):
            await rows.append([exchange(f"{sys.argv[2]}-{number}")])
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@contextmanager
def another_process(directory, database: str = "x"):
    command = [sys.executable, "-c", OWNER, str(directory / "data" / "spool"), database]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_rows_of_another_process_are_its_own_until_it_dies(tmp_path):
    with another_process(tmp_path) as process:
        async with spool(tmp_path) as rows:
            await rows.append([exchange("mine")])
            while_it_lives = await all_of(rows)
            process.send_signal(signal.SIGKILL)
            process.wait()
            await rows.tend()

            afterwards = await all_of(rows)

    assert while_it_lives == ["mine"]
    assert afterwards == [f"x-{number}" for number in range(10)]
    assert files(tmp_path) == []


async def test_rows_of_one_that_died_are_taken_over_by_one_alone(tmp_path):
    with another_process(tmp_path):
        pass

    async with spool(tmp_path) as first, spool(tmp_path) as second:
        found = [await all_of(first), await all_of(second)]

    assert found == [[f"x-{number}" for number in range(10)], []]


async def test_rows_of_another_database_are_left_alone_and_the_log_says_so(tmp_path):
    with another_process(tmp_path, "other"):
        pass

    with capture_logs() as log:
        async with spool(tmp_path) as rows:
            await rows.tend()
            found = await all_of(rows)
    async with spool(tmp_path, database="other") as rows:
        later = len(await all_of(rows))

    assert (found, later) == ([], 10)
    assert [line["event"] for line in log] == ["spool: rows of another database wait here"]


# Room


@contextmanager
def no_file_may_grow_beyond(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path):
    """A directory whose `data` is a file system of ten megabytes."""
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", data], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield tmp_path
    subprocess.run(["umount", "--lazy", data], check=True)


def fill(directory) -> None:
    with (directory / "data" / "filler").open("ab", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


async def test_on_a_full_disk_the_reserve_is_there_for_rows_of_calls_that_run(small_disk):
    async with spool(small_disk) as rows:
        before = rows.is_full
        fill(small_disk)
        kept = await rows.append([exchange("1", request=bytes(100_000))])
        full = rows.is_full
        fill(small_disk)
        refused = await rows.append([exchange("2", request=bytes(100_000)), exchange("3")])
        waiting = rows.records
        (small_disk / "data" / "filler").unlink()
        await rows.tend()
        again = await rows.append([exchange("2", request=bytes(100_000))])

        assert (before, kept, full, refused, waiting, again, rows.is_full) == (False, True, True, False, 1, True, False)
        assert await all_of(rows) == ["1", "2"]


async def test_where_there_is_no_room_for_the_reserve_no_calls_should_begin(small_disk):
    (small_disk / "data" / "filler").write_bytes(bytes(4 * 2**20))
    async with spool(small_disk) as rows:
        assert (rows.is_full, rows.disk_is_full) == (True, True)
        assert not (small_disk / "data" / "spool" / "reserve").exists()
        assert await rows.append([exchange("1")])
    async with spool(small_disk, beside=False) as rows:
        assert (rows.is_full, rows.disk_is_full) == (True, False)  # the database is elsewhere


async def test_a_file_that_may_not_grow_is_followed_by_another(tmp_path):
    async with spool(tmp_path) as rows:
        with no_file_may_grow_beyond(10_000):
            kept = [await rows.append([exchange(str(number), answer="x" * 4000)]) for number in range(4)]
            too_big = await rows.append([exchange("4", answer="x" * 20_000)])
        found = await all_of(rows)

    assert (kept, too_big) == ([True] * 4, False)
    assert found == ["0", "1", "2", "3"]


async def test_it_has_a_bound_for_calls_that_have_not_begun(tmp_path):
    async with spool(tmp_path, max_bytes=1500) as rows:
        full = [rows.is_full]
        for number in range(4):
            assert await rows.append([exchange(str(number))])
            full.append(rows.is_full)
        await all_of(rows)

        assert full == [False, False, False, True, True]
        assert not rows.is_full


async def test_many_rows_make_many_files_that_go_one_by_one(tmp_path):
    async with spool(tmp_path) as rows:
        for number in range(5):
            await rows.append([exchange(str(number), response=bytes(5 * 2**20))])
        count = len(files(tmp_path))
        taken = [row.id for row in await rows.take(100)]
        await rows.done()

        assert (count, taken, rows.records) == (3, ["0"], 4)
        assert await all_of(rows) == ["1", "2", "3", "4"]


# The directory


async def test_data_that_is_gone_does_not_come_back_by_the_spool(tmp_path):
    async with spool(tmp_path) as rows:
        await rows.append([exchange("1")])
        shutil.rmtree(tmp_path / "data")
        kept = await rows.append([exchange("2")])
        await rows.tend()
        there = (tmp_path / "data").exists()
        (tmp_path / "data").mkdir()
        again = await rows.append([exchange("3")])

    assert (kept, there, again) == (False, False, True)


async def test_a_place_where_nothing_can_be_written_takes_nothing_and_is_not_full(tmp_path):
    (tmp_path / "data").write_text("a file")
    with capture_logs() as log:
        async with spool(tmp_path) as rows:
            await rows.tend()
            found = (await rows.append([exchange("1")]), await rows.take(1), rows.is_full)

    assert found == (False, [], False)
    assert [line["log_level"] for line in log] == ["warning"] * 2


# What no database takes, and what nobody else may read


async def test_what_no_database_takes_is_kept_for_people(tmp_path):
    odd = exchange("odd", question="\ud800", usage=Usage(input_tokens=2**70), request=b"\xff")
    async with spool(tmp_path) as rows:
        assert await rows.append([exchange("1"), odd, exchange("2")])
        assert await rows.reject(exchange("3"))
        found = await all_of(rows)

    lines = [json.loads(line) for line in files(tmp_path, "rejected.jsonl")[0].read_text().splitlines()]
    assert found == ["1", "2"]
    assert [(line["id"], line["usage"]["input_tokens"]) for line in lines] == [("odd", 2**70), ("3", 0)]
    assert lines[0]["request"] == "/w=="


async def test_a_line_that_was_not_finished_spoils_no_other(tmp_path):
    async with spool(tmp_path) as rows:
        await rows.reject(exchange("1"))
        with files(tmp_path, "rejected.jsonl")[0].open("a") as file:
            file.write('{"id": "torn')
        await rows.reject(exchange("2"))

    lines = files(tmp_path, "rejected.jsonl")[0].read_text().splitlines()
    assert [json.loads(line)["id"] for line in (lines[0], lines[2])] == ["1", "2"]


class Backwards:
    """A cipher that one can see through."""

    def encrypt_bytes(self, data: bytes) -> bytes:
        return data[::-1]

    def decrypt_bytes(self, data: bytes) -> bytes:
        return data[::-1]


async def test_texts_are_encrypted_where_the_history_is(tmp_path):
    async with spool(tmp_path, cipher=Backwards()) as rows:
        await rows.append([exchange("1", question="a secret")])
        await rows.reject(exchange("2", question="a secret"))
    on_disk = b"".join(path.read_bytes() for path in files(tmp_path, "*") if path.name != "reserve")
    async with spool(tmp_path) as without_key:
        await without_key.append([exchange("3")])
    async with spool(tmp_path, cipher=Backwards()) as rows:
        found = await all_of(rows)

    assert b"a secret" not in on_disk
    assert found == ["1", "3"]


async def test_what_cannot_be_read_without_the_key_is_kept(tmp_path):
    async with spool(tmp_path, cipher=Backwards()) as rows:
        await rows.append([exchange("1")])
    async with spool(tmp_path) as without_key:
        found = await all_of(without_key)

    assert found == []
    assert len(files(tmp_path, "*.damaged")) == 1


async def test_texts_that_are_not_to_be_kept_are_not_kept_here_either(tmp_path):
    row = exchange("1", question="a secret", answer="a secret", request=b"a secret", response=b"a secret")
    row.keep_texts = False

    async with spool(tmp_path) as rows:
        await rows.append([row])
        on_disk = b"".join(path.read_bytes() for path in files(tmp_path))

    assert row.question == "a secret"
    assert b"a secret" not in on_disk


async def test_the_reserve_is_shared(tmp_path):
    async with spool(tmp_path), spool(tmp_path):
        [file] = files(tmp_path, "reserve")

        assert file.stat().st_size == reserve.RESERVE


async def test_what_another_process_left_can_be_had_alone(tmp_path):
    async with spool(tmp_path) as dead:
        await dead.append([exchange("old 1"), exchange("old 2")])

    async with spool(tmp_path) as own:
        await own.append([exchange("own")])
        inherited = []
        while rows := await own.take(1, inherited=True):
            inherited += [row.id for row in rows]
            await own.done()

        assert inherited == ["old 1", "old 2"]
        assert await all_of(own) == ["own"]
