"""Deleting much on request: in small parts, for so long and no longer."""

import asyncio

import pytest
from sqlalchemy import text

from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import COMMAND_LINE, OPERATOR_ID
from ai_proxy.services import erasing
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import records, retention
from tests.stores import exchange

pytestmark = pytest.mark.anyio

VIEWER = Viewer(COMMAND_LINE)


async def left(database) -> list[int]:
    async with database.transaction() as connection:
        tables = ("exchanges", "conversations")
        return [await connection.scalar(text(f"select count(*) from {table}")) for table in tables]  # noqa: S608


async def test_all_of_many_parts_go_and_what_others_have_stays(database):
    own = [exchange(uuid7(), conversation_id=f"c{number % 9}") for number in range(450)]
    await records.add(database, [*own, exchange(uuid7(), user_id="ada", conversation_id="of ada")])

    erased = await erasing.all_of_user(database, VIEWER, OPERATOR_ID)

    assert erased == (450, True)
    assert await left(database) == [1, 1]


async def test_of_two_conversations_one_goes(database):
    await records.add(database, [exchange(uuid7(), conversation_id=TALKS[number % 2]) for number in range(300)])

    erased = await erasing.conversation(database, VIEWER, TALKS[0], None)

    assert erased == (150, True)
    assert await left(database) == [150, 1]


TALKS = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002")


async def test_it_ends_when_its_time_is_over_and_says_that_there_is_more(database):
    await records.add(database, [exchange(uuid7()) for _ in range(3)])

    erased = await erasing.all_of_user(database, VIEWER, OPERATOR_ID, patience=0)

    assert erased == (0, False)
    assert await left(database) == [3, 0]


async def test_it_waits_while_another_process_removes_but_not_for_ever(store, database):
    if not store.on_server:
        pytest.skip("one process at a time writes to SQLite")
    await records.add(database, [exchange(uuid7()) for _ in range(3)])

    async with database.transaction() as other:
        assert await retention.is_my_turn(other)
        erased = await asyncio.wait_for(erasing.all_of_user(database, VIEWER, OPERATOR_ID, patience=0.5), 5)

    assert erased == (0, False)
    assert await erasing.all_of_user(database, VIEWER, OPERATOR_ID) == (3, True)
