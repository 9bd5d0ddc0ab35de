"""The file of the keys that were seen."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ai_proxy.core.types import Budget, Limit, Principal, SeenKey
from ai_proxy.storage.seen_keys import SeenKeysFile

ALICE = Principal(
    key_id="1",
    name="alice",
    project_id="p",
    role="viewer",
    scopes=frozenset({"calls"}),
    models=("gpt-*",),
    expires_at=5,
    limits=(Limit(subject="key:1", concurrent=2),),
    budgets=(Budget(subject="key:1", period="day", amount=10, alerts=(50, 90)),),
)
KEYS = [SeenKey("digest of alice", ALICE, 100), SeenKey("digest of bob", Principal(key_id="2", name="bob"), 200)]


def file_in(directory, database: str = "x_db") -> SeenKeysFile:
    return SeenKeysFile(directory, database=database)


def test_what_was_saved_is_loaded_as_it_was(tmp_path):
    file_in(tmp_path).save(KEYS)

    assert list(file_in(tmp_path).load()) == KEYS


def test_the_file_is_its_owners_alone_and_nothing_else_is_left(tmp_path):
    file_in(tmp_path).save(KEYS)
    file_in(tmp_path).save(KEYS[:1])

    assert os.listdir(tmp_path) == ["seen-keys"]
    assert stat.S_IMODE((tmp_path / "seen-keys").stat().st_mode) == 0o600


# Several processes with one file


def saved_together(directory) -> tuple[SeenKeysFile, SeenKeysFile]:
    """Two that know of all keys."""
    one, another = file_in(directory), file_in(directory)
    one.save(KEYS)
    another.load()
    return one, another


def test_each_leaves_what_the_other_has_seen(tmp_path):
    one, another = file_in(tmp_path), file_in(tmp_path)

    one.save(KEYS[:1])
    found = another.save(KEYS[1:])

    assert list(file_in(tmp_path).load()) == list(found) == KEYS


def test_of_a_key_that_both_have_seen_what_is_newer_stays(tmp_path):
    one, another = saved_together(tmp_path)
    newer = SeenKey(KEYS[0].digest, Principal(key_id="1", name="alice, renamed"), 300)
    one.save([newer, KEYS[1]])

    another.save(KEYS)

    assert list(file_in(tmp_path).load()) == [KEYS[1], newer]


def test_a_key_that_one_removed_is_not_brought_back_by_the_other(tmp_path):
    one, another = saved_together(tmp_path)
    seen_later = SeenKey("digest of carol", Principal(key_id="3", name="carol"), 300)

    one.save(KEYS[1:], {KEYS[0].digest})
    found = another.save([*KEYS, seen_later])

    assert list(file_in(tmp_path).load()) == list(found) == [KEYS[1], seen_later]


def test_it_may_come_back_when_it_was_seen_again(tmp_path):
    one, another = saved_together(tmp_path)
    again = SeenKey(KEYS[0].digest, ALICE, 300)
    one.save(KEYS[1:], {KEYS[0].digest})
    another.save(KEYS)

    still_the_old_one = another.save(KEYS)
    found = another.save([*KEYS[1:], again])

    assert list(still_the_old_one) == KEYS[1:]
    assert list(found) == [KEYS[1], again]


def test_when_all_are_to_go_those_of_others_go_too_and_stay_away(tmp_path):
    one, another = saved_together(tmp_path)
    unknown_to_one = SeenKey("digest of carol", Principal(key_id="3", name="carol"), 300)
    another.save([*KEYS, unknown_to_one])

    one.save([], None)
    left = list(file_in(tmp_path).load())
    another.save([*KEYS, unknown_to_one])

    assert left == list(file_in(tmp_path).load()) == []


def test_the_file_keeps_those_that_were_seen_last(tmp_path):
    file_in(tmp_path).save(KEYS[1:])

    SeenKeysFile(tmp_path, database="x_db", most=1).save(KEYS[:1])

    assert list(file_in(tmp_path).load()) == KEYS[-1:]


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"database": "another", "keys": []}'])
def test_a_file_that_says_nothing_about_our_keys_removes_none(tmp_path, content):
    file, _ = saved_together(tmp_path)
    (tmp_path / "seen-keys").unlink()
    if content is not None:
        (tmp_path / "seen-keys").write_bytes(content)

    file.save(KEYS)

    assert list(file_in(tmp_path).load()) == KEYS


def test_nothing_is_lost_when_many_write_at_once(tmp_path):
    def write(name: str) -> None:
        file, keys = file_in(tmp_path), []
        for number in range(20):
            keys = file.save([*keys, SeenKey(f"{name} {number}", ALICE, number)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, "abcd"))

    assert len(file_in(tmp_path).load()) == 80


def test_keys_of_another_database_are_nobodys_here(tmp_path):
    file_in(tmp_path, "one").save(KEYS)

    assert list(file_in(tmp_path, "another").load()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"database": "x_db", "keys": [["digest"]]}'])
def test_a_file_that_is_damaged_is_as_good_as_none(tmp_path, content):
    (tmp_path / "seen-keys").write_bytes(content)

    assert list(file_in(tmp_path).load()) == []


def test_without_a_file_nothing_was_seen(tmp_path):
    assert list(file_in(tmp_path).load()) == []


def test_a_directory_that_is_gone_is_not_made_again(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_in(tmp_path / "gone").save(KEYS)

    assert not (tmp_path / "gone").exists()
