"""X3, P1, P2, S1, S3: a short form of the proofs in tests/soak, which `make soak` runs at full length."""

import pytest

from tests.soak import books, endurance, kills, outages, places
from tests.stores import STORES

BOTH = pytest.mark.parametrize("kind", STORES)
pytestmark = pytest.mark.timeout(600)


@BOTH
def test_x3_whatever_was_answered_before_a_kill_is_in_the_history_once(kind, tmp_path):
    seed = places.seed()

    done = kills.run(kind, tmp_path / "data", rounds=10, seed=seed)

    assert done.problems == [], f"SOAK_SEED={seed} {books.as_text(done.problems)}"
    assert done.answered > 10


@pytest.mark.parametrize(("kind", "restarts"), [("sqlite", 0), ("postgresql", 3)])
def test_p1_p2_s1_an_outage_of_the_database_refuses_nobody_and_loses_nothing(kind, restarts, tmp_path):
    done = outages.run(kind, tmp_path / "data", restarts=restarts, outage=3)

    assert done.problems == [], books.as_text(done.problems)
    assert done.during > 10


def test_x13_nothing_is_left_of_calls_however_they_end(tmp_path):
    done = endurance.run("postgresql", tmp_path / "data", seconds=8)

    assert done.problems == [], books.as_text(done.problems)
    assert done.outcomes.keys() > {"completed", "client_gone"}
