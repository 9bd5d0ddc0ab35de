"""What is SQLite's own: its file, what is set for each connection, and the driver's threads."""

import asyncio
import shutil
import threading
import time

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import keys, records, schema
from ai_proxy.storage.engine import Database
from ai_proxy.storage.sqlite import DRIVER_THREAD, SQLite
from tests import stores
from tests.stores import exchange, page

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/data/x.db", directory=tmp_path / "data") as database:
        await schema.upgrade(database)
        await keys.add(database, key_id="key", name="laptop", digest="d", hint="h", created_at=1)
        yield database


async def test_a_file_that_was_replaced_is_opened_anew(database, tmp_path):
    file = tmp_path / "data" / "x.db"
    await records.add(database, [exchange("1")])
    async with database.transaction() as connection:
        await connection.execute(text(f"vacuum into '{tmp_path}/copy.db'"))
    await records.add(database, [exchange("2")])
    shutil.rmtree(file.parent)
    with pytest.raises(DatabaseUnavailable) as gone:
        await records.add(database, [exchange("3")])
    file.parent.mkdir()
    (tmp_path / "copy.db").rename(file)

    await records.add(database, [exchange("3")])

    assert [row.id for row in await page(database)] == ["3", "1"]
    assert gone.value.reason == "[Errno 2] the database file is gone"


async def test_commits_survive_a_power_cut_and_readers_do_not_wait_for_writers(database):
    async with database.transaction() as connection:
        found = [
            await connection.scalar(text(f"pragma {name}")) for name in ("journal_mode", "synchronous", "busy_timeout")
        ]

    assert found == ["wal", 2, 2000]


def driver_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith(DRIVER_THREAD)]


async def test_the_drivers_threads_have_the_name_that_they_are_looked_for_by(database):
    async with database.transaction():
        assert driver_threads() != []


async def test_no_thread_of_the_driver_outlives_the_database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}", directory=tmp_path) as database:
        with pytest.raises(DatabaseUnavailable):
            await schema.current(database)

    assert driver_threads() == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the connection that is left
async def test_a_connection_that_does_not_close_is_left_after_a_while_and_the_log_says_so(tmp_path):
    answer = threading.Event()
    with capture_logs() as log:
        async with Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", directory=tmp_path, closing_time=0.1) as database:
            async with database.writing() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                await driver.create_function("hang", 0, lambda: answer.wait(30))
            hanging = asyncio.create_task(driver.execute_fetchall("select hang()"))
            await asyncio.sleep(0)
            began = time.monotonic()
    waited = time.monotonic() - began
    answer.set()
    await asyncio.wait([hanging])

    assert 0.1 <= waited < 3
    assert [(line["log_level"], line["event"]) for line in log] == [
        ("error", "database: connections that could not be closed are left")
    ]


async def test_a_table_may_be_made_anew_while_rows_refer_to_it(tmp_path):
    async with stores.in_file(tmp_path).database() as database:
        await schema.upgrade(database)
        async with database.writing() as connection:
            await connection.execute(text("create table child (id integer, key_id references api_keys)"))
            await connection.execute(
                text("insert into api_keys (id, name, digest, hint, created_at) values ('key', '', '', '', 0)")
            )
            await connection.execute(text("insert into child values (1, 'key')"))

        async with database.migrating() as connection:
            await connection.execute(text("create table anew as select * from api_keys"))
            await connection.execute(text("drop table api_keys"))
            await connection.execute(text("alter table anew rename to api_keys"))

        async with database.transaction() as connection:
            children = await connection.scalar(text("select count(*) from child join api_keys on key_id = api_keys.id"))

    assert children == 1


async def test_the_log_says_so_once_when_the_write_ahead_log_has_grown_long(tmp_path):
    async with stores.in_file(tmp_path).database() as database:
        await schema.upgrade(database)
        short = database.log_bytes
    sqlite = SQLite(f"sqlite+aiosqlite:///{tmp_path}/x.db", tmp_path)
    with (tmp_path / "x.db-wal").open("wb") as file:
        file.truncate(300 * 2**20)  # with nothing in it

    with capture_logs() as log:
        sqlite.was_replaced()
        sqlite.was_replaced()

    assert short < 2**20
    assert sqlite.log_bytes() == 300 * 2**20
    assert [(line["log_level"], line["bytes"]) for line in log] == [("warning", 300 * 2**20)]
