"""S9: a migration that is killed in the middle leaves the database as it was, and the next one brings it home."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ai_proxy.storage import schema
from tests import postgres
from tests.service import AI_PROXY, environment
from tests.stores import Store

ROOT = Path(__file__).parents[2]
BEFORE = "0003"
ROWS = 30_000
PATIENCE = 60.0  # seconds
MEGABYTE = 2**20

FILL = f"""
    with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {ROWS})
    insert into exchanges (id, key_id, conversation_id, question, answer, model, provider, mock, status,
                           input_tokens, output_tokens, usage_estimated, duration_ms, created_at)
    select 'row-' || (100000000 + n), 'key', 'conversation-' || (n % 100), 'question', 'answer', 'model', 'provider',
           false, 'completed', 1, 2, false, 3, n
    from numbers
"""  # noqa: S608 - our own


@pytest.fixture
def filled(store):
    """A database as the version before had it, with many rows."""
    store.directory.mkdir(exist_ok=True)
    alembic = str(Path(sys.executable).parent / "alembic")
    subprocess.run([alembic, "upgrade", BEFORE], check=True, cwd=ROOT, env=environment(**store.settings))
    store.query("insert into api_keys (id, name, digest, hint, created_at) values ('key', 'key', 'digest', 'hint', 1)")
    store.query(FILL)
    return store


def revision(store: Store) -> str:
    return store.query("select version_num from alembic_version")[0][0]


def killed_upgrade(store: Store, is_the_moment: Callable[[], bool]) -> None:
    """Run a migration up to a moment in the middle of it."""
    process = subprocess.Popen([AI_PROXY, "db", "upgrade"], cwd=store.directory, env=environment(**store.settings))
    give_up = time.monotonic() + PATIENCE
    while not is_the_moment():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < give_up, "it did not get so far"
        time.sleep(0.001)
    process.kill()
    process.wait()


def kill_in_file(store: Store) -> None:
    """When so much was written of what is not committed yet."""
    log = store.file.with_name(f"{store.file.name}-wal")
    for written in (MEGABYTE // 2, 3 * MEGABYTE):
        store.query("pragma wal_checkpoint(truncate)")
        killed_upgrade(store, lambda size=written: log.exists() and log.stat().st_size > size)
        assert revision(store) == BEFORE


def kill_on_server(store: Store) -> None:
    """When it is about to change each of these tables, which somebody else has locked."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    for table in ("exchanges", "api_keys", "bodies"):
        with ExitStack() as stack:
            other = stack.enter_context(postgres.connected(store.url))
            other.execute(f"begin; lock table {table} in share mode")
            killed_upgrade(store, lambda: store.query(waiting) == [(1,)])
        assert revision(store) == BEFORE


def test_fault_s9_a_migration_that_is_killed_in_the_middle_is_done_by_the_next_start(filled, start):
    (kill_on_server if filled.on_server else kill_in_file)(filled)

    service = start(filled.directory, **filled.settings)
    service.ask("after").raise_for_status()

    assert revision(filled) == schema.HEAD
    assert filled.query("select count(*) from exchanges") == [(ROWS + 1,)]
    assert filled.query("select count(*), min(exchanges), max(exchanges) from conversations") == [(100, 300, 300)]
    index = "select count(*) from (select exchange_id from unindexed union select exchange_id from indexed) x"
    assert filled.query(index) == [(ROWS + 1,)]
    service.eventually(lambda: service.client.get("/readyz").status_code == 200)
