"""Keys that outlast the process, with fakes in place of the file, the database and the clock."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import DatabaseUnavailable, Unauthenticated
from ai_proxy.core.types import PROVISIONAL_KEY_ID, Principal, SeenKey
from ai_proxy.gateway.auth import KeyRing, Memory
from ai_proxy.gateway.seen_keys import SeenKeys
from tests.recording import until

pytestmark = pytest.mark.anyio

SECRET = apikeys.hashing_secret("a secret of the server")
WEEK = 7 * 24 * 3600
ALICE = Principal(key_id="1", name="alice")


class File:
    """What is in it, and how often it was written."""

    def __init__(self, keys=()) -> None:
        self.keys = list(keys)
        self.writes = 0
        self.removed = []
        self.others: list[SeenKey] = []
        self.error: OSError | None = None

    def load(self):
        return self.keys

    def save(self, keys, removed):
        """With keys of `others`, as a file does that several share."""
        self.writes += 1
        self.removed.append(removed)
        if self.error is not None:
            raise self.error
        self.keys = [*self.others, *keys]
        return self.keys


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Directory:
    """The database's keys, as long as it is not `away`."""

    def __init__(self, *names: str) -> None:
        self.holders = {digest(name): Principal(key_id=f"id of {name}", name=name) for name in names}
        self.away = False

    async def find(self, digest: str) -> Principal | None:
        if self.away:
            message = "away"
            raise DatabaseUnavailable(message)
        return self.holders.get(digest)


def digest(key: str) -> str:
    return apikeys.digest(key, SECRET)


def seen_keys(file: File, **options) -> SeenKeys:
    return SeenKeys(file.load, file.save, pause=0.01, **options)


def ring(directory: Directory, seen: SeenKeys, **options) -> KeyRing:
    return KeyRing(directory.find, secret=SECRET, memory=Memory(ttl=0), seen=seen, **options)


async def test_a_key_that_was_seen_is_known_to_the_next_process():
    file = File()
    async with seen_keys(file) as seen:
        seen.note("digest", ALICE)

    async with seen_keys(file) as again:
        assert again.find("digest") == ALICE
        assert again.find("another") is None


async def test_the_file_is_written_soon_and_only_when_there_is_something_new():
    file = File()
    async with seen_keys(file) as seen:
        seen.note("digest", ALICE)
        await until(lambda: file.keys)
        for _ in range(100):
            seen.note("digest", ALICE)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)

    assert file.writes == 1


async def test_what_has_changed_about_a_key_is_written():
    file = File()
    changed = Principal(key_id="1", name="alice", models=("gpt-*",))
    async with seen_keys(file) as seen:
        seen.note("digest", ALICE)
        seen.note("digest", changed)

    assert [key.principal for key in file.keys] == [changed]


async def test_a_key_that_nobody_has_seen_for_a_week_does_not_work():
    clock = Clock()
    async with seen_keys(File(), clock=clock) as seen:
        seen.note("digest", ALICE)
        clock.now += WEEK - 1
        before = seen.find("digest")
        clock.now += 1

        assert before == ALICE
        assert seen.find("digest") is None


async def test_a_key_that_is_used_stays_good():
    clock = Clock()
    async with seen_keys(File(), clock=clock) as seen:
        for _ in range(10):
            seen.note("digest", ALICE)
            clock.now += WEEK / 2

        assert seen.find("digest") == ALICE


async def test_the_keys_that_were_used_last_are_kept():
    file = File()
    async with seen_keys(file, most=2) as seen:
        for name in ("first", "second", "first", "third"):
            seen.note(name, ALICE)

    assert [key.digest for key in file.keys] == ["first", "third"]


async def test_a_disk_that_takes_nothing_is_in_the_log_once_and_tried_again():
    file = File()
    file.error = OSError(28, "No space left on device")
    with capture_logs() as log:
        async with seen_keys(file) as seen:
            for number in range(3):
                seen.note(str(number), ALICE)
                await until(lambda number=number: file.writes > number)
            file.error = None
            seen.note("the last", ALICE)

    assert [line["reason"] for line in log] == ["No space left on device"]
    assert len(file.keys) == 4


async def test_keys_that_another_process_has_seen_are_known_after_a_write():
    file = File()
    file.others = [SeenKey("theirs", ALICE, 1_000_000)]
    async with seen_keys(file, clock=Clock()) as seen:
        seen.note("ours", ALICE)
        await until(lambda: seen.find("theirs"))

        assert seen.find("ours") == ALICE


async def test_what_was_removed_while_nothing_could_be_written_is_told_afterwards():
    file = File()
    async with seen_keys(file) as seen:
        for name in ("first", "second"):
            seen.note(name, ALICE)
        await until(lambda: file.writes == 1)
        file.error = OSError(28, "No space left on device")
        seen.note("first", None)
        await until(lambda: file.writes == 2)
        seen.note("second", None)
        await until(lambda: file.removed[-1] == {"first", "second"})
        file.error = None
        tried = file.writes
        await until(lambda: file.writes > tried)  # by itself: nothing else happens to keys

    assert file.removed[1] == {"first"}
    assert file.removed[-1] == {"first", "second"}
    assert file.keys == []


async def test_what_was_removed_is_told_again_if_the_end_comes_while_it_is_written():
    file, begun, over = File(), threading.Event(), threading.Event()

    def save(keys, removed):
        if removed == {"revoked"} and not begun.is_set():
            begun.set()
            over.wait(5)
            raise OSError(28, "No space left on device")
        return File.save(file, keys, removed)

    seen = SeenKeys(file.load, save, pause=0.01)
    async with seen:
        seen.note("revoked", ALICE)
        await until(lambda: file.writes == 1)
        seen.note("revoked", None)
        await until(begun.is_set)
    over.set()

    assert file.removed[-1] == {"revoked"}
    assert file.keys == []


async def test_a_key_that_is_good_again_is_not_removed():
    file = File()
    async with seen_keys(file) as seen:
        seen.note("digest", ALICE)
        seen.note("digest", None)
        seen.note("digest", ALICE)

    assert file.removed[-1] == set()


async def test_keys_of_others_go_too_when_something_about_keys_was_changed():
    file = File()
    async with seen_keys(file) as seen:
        seen.clear()

    assert file.removed == [None]


# With the ring of keys


async def test_while_the_database_is_away_a_key_of_an_earlier_process_works_and_others_are_not_refused():
    file, directory = File(), Directory("alice", "bob")
    async with seen_keys(file) as seen:
        await ring(directory, seen).authenticate("alice")
    directory.away = True

    async with seen_keys(file) as seen:
        keyring = ring(directory, seen)

        assert (await keyring.authenticate("alice")).name == "alice"
        for key in ("bob", "a key that nobody has"):
            with pytest.raises(DatabaseUnavailable):
                await keyring.authenticate(key)


async def test_a_revoked_key_is_forgotten_when_it_is_found_out():
    file, directory = File(), Directory("alice")
    async with seen_keys(file) as seen:
        keyring = ring(directory, seen)
        await keyring.authenticate("alice")
        del directory.holders[digest("alice")]
        with pytest.raises(Unauthenticated):
            await keyring.authenticate("alice")

    assert file.keys == []


async def test_no_key_works_unseen_when_something_about_keys_was_changed():
    file, directory = File(), Directory("alice")
    async with seen_keys(file) as seen:
        keyring = ring(directory, seen)
        await keyring.authenticate("alice")
        keyring.clear()
        directory.away = True

        with pytest.raises(DatabaseUnavailable):
            await keyring.authenticate("alice")
    assert file.keys == []


async def test_a_key_that_has_expired_since_it_was_seen_does_not_work():
    directory = Directory("alice")
    directory.holders[digest("alice")] = Principal(key_id="1", name="alice", expires_at=50_000_000)
    clock = Clock()
    clock.now = 49.0
    async with seen_keys(File(), clock=clock) as seen:
        keyring = ring(directory, seen, clock=clock)
        await keyring.authenticate("alice")
        directory.away = True
        clock.now = 50.0

        with pytest.raises(Unauthenticated):
            await keyring.authenticate("alice")


async def test_the_operators_own_key_works_before_anybody_has_reached_the_database():
    directory = Directory("own")
    directory.away = True
    async with seen_keys(File()) as seen:
        keyring = ring(directory, seen, given="own")

        principal = await keyring.authenticate("own")

    assert (principal.key_id, principal.role, principal.budgets) == (PROVISIONAL_KEY_ID, "member", ())
    assert principal.scopes == {"calls", "history"}


async def test_afterwards_the_database_says_what_the_operators_own_key_may_do():
    directory = Directory("own")
    directory.away = True
    async with seen_keys(File()) as seen:
        keyring = KeyRing(directory.find, secret=SECRET, seen=seen, given="own")
        await keyring.authenticate("own")
        directory.away = False
        keyring.settle()

        principal = await keyring.authenticate("own")

    assert principal.key_id == "id of own"


async def test_an_operators_key_that_was_revoked_does_not_come_back_with_the_next_outage():
    directory = Directory()
    async with seen_keys(File()) as seen:
        keyring = ring(directory, seen, given="own")
        keyring.settle()
        directory.away = True

        with pytest.raises(DatabaseUnavailable):
            await keyring.authenticate("own")
