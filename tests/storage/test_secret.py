"""The server's secret: made once, kept beside the data."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ai_proxy.storage.secret import load_or_make


def test_is_made_once_and_read_ever_after(tmp_path):
    made = load_or_make(tmp_path)

    assert load_or_make(tmp_path) == made
    assert len(made) >= 40


def test_is_readable_by_its_owner_alone_and_leaves_nothing_else_behind(tmp_path):
    load_or_make(tmp_path)

    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_directories_have_two_secrets(tmp_path):
    (tmp_path / "other").mkdir()

    assert load_or_make(tmp_path) != load_or_make(tmp_path / "other")


def test_whoever_makes_it_at_the_same_time_gets_the_same(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: load_or_make(tmp_path), range(16)))

    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_spaces_around_it_do_not_count(tmp_path):
    (tmp_path / "secret").write_text("  a-secret-of-the-operator\n\n")

    assert load_or_make(tmp_path) == "a-secret-of-the-operator"


@pytest.mark.parametrize("content", ["", "\n", "too-short"])
def test_what_is_too_short_stops_the_start_and_is_left_as_it_is(tmp_path, content):
    (tmp_path / "secret").write_text(content)

    with pytest.raises(SystemExit, match="too short for a secret"):
        load_or_make(tmp_path)

    assert (tmp_path / "secret").read_text() == content


def test_what_cannot_be_read_stops_the_start(tmp_path):
    (tmp_path / "secret").mkdir()

    with pytest.raises(SystemExit, match="AI_PROXY_SECRET is not set, and the secret file beside the data fails"):
        load_or_make(tmp_path)
