"""Migrations: one at a time, and all of one or nothing, by whichever way they are run."""

import asyncio
import re
import shutil
from functools import partial

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import schema
from ai_proxy.storage.engine import outlast_lock

FAILING = '''
"""Fails when half of it is done."""

from alembic import op

revision = "next"
down_revision = "{head}"


def upgrade():
    op.execute("create table half (id integer)")
    op.execute("insert into half values (1)")
    op.execute("create table half (id integer)")
'''


@pytest.fixture
def database(store):
    return store.database()


@pytest.fixture
def scripts(tmp_path):
    """A copy of the migrations, with one more after them that fails."""
    copy = tmp_path / "migrations"
    shutil.copytree(schema.SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "versions" / "9999_failing.py").write_text(FAILING.format(head=schema.HEAD))
    return copy


@pytest.fixture
def config(scripts):
    config = Config()
    config.set_main_option("script_location", str(scripts))
    return config


@pytest.mark.usefixtures("bare_environment")
def test_a_migration_that_fails_under_plain_alembic_leaves_nothing_behind(store, config, scripts, monkeypatch):
    for name, value in store.settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DatabaseUnavailable) as failed:
        command.upgrade(config, "head")
    left = store.tables()
    (scripts / "versions" / "9999_failing.py").unlink()

    command.upgrade(config, "head")

    assert re.search("half.? already exists", failed.value.reason)
    assert left == []
    assert {"alembic_version", "api_keys", "exchanges"} <= set(store.tables())


@pytest.mark.anyio
async def test_a_migration_that_fails_at_a_start_leaves_what_was_there(store, database, config):
    def upgrade(connection):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with database:
        await schema.upgrade(database)
        before = store.tables()
        with pytest.raises(DatabaseUnavailable):
            async with database.migrating() as connection:
                await connection.run_sync(upgrade)

        current = await schema.is_current(database)

    assert store.tables() == before
    assert current


@pytest.mark.anyio
async def test_one_process_migrates_at_a_time(database, store):
    async with database, store.database() as other, database.migrating():
        with pytest.raises(DatabaseUnavailable) as refused:
            async with other.migrating():
                """Not reached."""

    assert refused.value.busy


@pytest.mark.anyio
async def test_of_two_who_start_at_once_one_migrates_and_the_other_waits_for_it(database, store):
    async with database, store.database() as other:
        await asyncio.gather(*(outlast_lock(partial(schema.upgrade, each)) for each in (database, other)))

        both = [await schema.is_current(database), await schema.is_current(other)]

    assert both == [True, True]
    assert store.query("select count(*) from users") == [(1,)]


@pytest.mark.anyio
async def test_tells_whether_the_schema_is_the_one_that_is_needed(database):
    async with database:
        empty = await schema.is_current(database)
        await schema.upgrade(database)
        upgraded = await schema.is_current(database)
        async with database.writing() as connection:
            await connection.execute(text("update alembic_version set version_num = '0000'"))
        other = await schema.is_current(database)

    assert (empty, upgraded, other) == (False, True, False)
