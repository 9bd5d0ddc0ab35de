"""Migrations: one at a time, and all of one or nothing, by whichever way they are run."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database

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
def file(tmp_path):
    return tmp_path / "data" / "x.db"


@pytest.fixture
def database(file):
    return Database(f"sqlite+aiosqlite:///{file}", directory=file.parent)


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


def tables(file) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("select name from sqlite_master where type = 'table' order by name")
        return [name for (name,) in found]


@pytest.mark.usefixtures("bare_environment")
def test_a_migration_that_fails_under_plain_alembic_leaves_nothing_behind(file, config, scripts, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")
    with pytest.raises(DatabaseUnavailable) as failed:
        command.upgrade(config, "head")
    left = tables(file)
    (scripts / "versions" / "9999_failing.py").unlink()

    command.upgrade(config, "head")

    assert "table half already exists" in failed.value.reason
    assert left == []
    assert {"alembic_version", "api_keys", "exchanges"} <= set(tables(file))


@pytest.mark.anyio
async def test_a_migration_that_fails_at_a_start_leaves_what_was_there(file, database, config):
    def upgrade(connection):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with database:
        await schema.upgrade(database)
        before = tables(file)
        with pytest.raises(DatabaseUnavailable):
            async with database.migrating() as connection:
                await connection.run_sync(upgrade)

        current = await schema.is_current(database)

    assert tables(file) == before
    assert current


@pytest.mark.anyio
async def test_nobody_else_writes_while_a_migration_runs(file, database):
    async with database, database.migrating():
        with closing(sqlite3.connect(file, timeout=0)) as other, pytest.raises(sqlite3.OperationalError) as refused:
            other.execute("begin immediate")

    assert refused.value.sqlite_errorcode == sqlite3.SQLITE_BUSY


@pytest.mark.anyio
async def test_a_table_may_be_made_anew_while_rows_refer_to_it(database):
    async with database:
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
