"""Statements that are compiled once take the same values on both databases."""

import pytest
from sqlalchemy import delete, select

from ai_proxy.storage import keys, records, schema
from ai_proxy.storage.statements import Prepared, among
from ai_proxy.storage.tables import Exchange
from tests import stores

pytestmark = pytest.mark.anyio

_NAMES = ("plain", "it's", 'a "b"', "ж", "a,b", "{}")
_by_name = Prepared(select(Exchange.id).where(among(Exchange.id, "ids")).order_by(Exchange.created_at))
_by_time = Prepared(select(Exchange.id).where(among(Exchange.created_at, "times"), Exchange.status == "completed"))
_delete = Prepared(delete(Exchange).where(Exchange.id == "plain", among(Exchange.id, "ids")))


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        await keys.add(database, key_id="key", name="key", digest="key", hint="h", created_at=1)
        rows = [stores.exchange(name, created_at=2**40 + number) for number, name in enumerate(_NAMES)]
        await records.add(database, rows)
        yield database


async def test_a_list_is_one_value(database):
    async with database.transaction() as connection:
        assert list((await _by_name.execute(connection, ids=[*_NAMES, "nobody"])).scalars()) == list(_NAMES)
        assert list((await _by_name.execute(connection, ids=["it's"])).scalars()) == ["it's"]
        assert list((await _by_name.execute(connection, ids=[])).scalars()) == []


async def test_numbers_are_found_too_and_constants_stay(database):
    async with database.transaction() as connection:
        assert list((await _by_time.execute(connection, times=[2**40 + 3, 7])).scalars()) == ["ж"]


async def test_many_rows_are_many_executions(database):
    async with database.transaction() as connection:
        await _delete.execute_each(connection, [{"ids": ["it's"]}, {"ids": ["plain", "ж"]}])

        assert list((await _by_name.execute(connection, ids=list(_NAMES))).scalars()) == list(_NAMES[1:])
