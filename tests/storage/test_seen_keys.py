"""The file of the keys that were seen."""

import os
import stat

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
