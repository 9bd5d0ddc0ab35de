"""What is deleted is gone with all that hung on it, and what it cost stays known."""

import asyncio

import pytest
from sqlalchemy import event, func, insert, select, table, text

from ai_proxy.core.types import KeptAnswer
from ai_proxy.storage import conversations, keys, records, removal, schema, search
from ai_proxy.storage.tables import Conversation, Exchange, Feedback, Tag
from tests import stores

pytestmark = pytest.mark.anyio

_TABLES = ("exchanges", "bodies", "feedback", "tags", "idempotent_answers", "unindexed", "indexed", "conversations")


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await prepare(database)
        yield database


async def prepare(database) -> None:
    await schema.upgrade(database)
    await keys.add(database, key_id="key", name="key", digest="key", hint="h", created_at=1)


async def record(database, *names: str, **fields) -> None:
    await records.add(database, [stores.exchange(name, **fields) for name in names])


async def record_with_all(database, name: str) -> None:
    """One that has all that an exchange can have."""
    kept = KeptAnswer(key=name, digest="d", body=b"a", headers={}, exchange_id=name)
    given = {"conversation_id": "talk", "request": b"q", "response": b"a", "response_id": name, "kept": kept}
    await record(database, name, question=f"what is {name}", **given)
    async with database.transaction() as connection:
        await connection.execute(insert(Tag).values(exchange_id=name, tag="good"))
        await connection.execute(insert(Feedback).values(exchange_id=name, thumb=1, user_id="u", created_at=1))


async def index(database) -> None:
    while (await search.index_next(database, most=100)).count:
        pass


async def found(database, query: str) -> list[str]:
    async with database.transaction() as connection:
        return [name for name, _ in await search.find(connection, query, {}, newest=100)]


async def remove(database, *ids: str) -> int:
    async with database.transaction() as connection:
        return await removal.remove(connection, ids)


async def forget(database, *ids: str) -> int:
    async with database.transaction() as connection:
        return await removal.forget_texts(connection, ids)


async def rows(database, statement) -> list[tuple]:
    async with database.transaction() as connection:
        return [tuple(row) for row in await connection.execute(statement)]


async def counts(database) -> dict[str, int]:
    async with database.transaction() as connection:
        return {name: await connection.scalar(select(func.count()).select_from(table(name))) for name in _TABLES}


async def talks(database) -> list[tuple]:
    columns = (Conversation.id, Conversation.first_id, Conversation.last_id, Conversation.exchanges)
    return await rows(database, select(*columns).order_by(Conversation.id))


async def fork(database, exchange_id: str, conversation_id: str) -> None:
    async with database.transaction() as connection:
        exchange = (await connection.execute(select(Exchange.__table__).where(Exchange.id == exchange_id))).one()
        await conversations.fork(connection, exchange, conversation_id, place=f"{exchange_id}-place")


@pytest.mark.parametrize("indexed", [True, False])
async def test_all_that_hangs_on_an_exchange_goes_with_it(database, indexed):
    await record_with_all(database, "one")
    if indexed:
        await index(database)

    removed = await remove(database, "one")

    assert removed == 1
    assert await counts(database) == dict.fromkeys(_TABLES, 0)
    assert await found(database, "what is one") == []


async def test_others_keep_all_of_theirs(database):
    await record_with_all(database, "one")
    await record_with_all(database, "two")
    await index(database)

    await remove(database, "one")

    assert await counts(database) == {**dict.fromkeys(_TABLES, 1), "unindexed": 0}
    assert await found(database, "what is two") == ["two"]


async def test_the_sums_of_the_day_stay(database):
    await record(database, "one", "two", cost=5)

    await remove(database, "one", "two")

    assert await rows(database, text("select calls, cost from daily_usage")) == [(2, 10)]


async def test_what_is_not_there_is_not_counted(database):
    await record(database, "one")

    removed = [await remove(database, "one", "two"), await remove(database, "one"), await remove(database)]

    assert removed == [1, 0, 0]


async def test_more_than_a_statement_can_name_are_removed(database):
    names = [f"{number:04}" for number in range(1200)]
    await record(database, *names, conversation_id="talk")
    await index(database)

    removed = await remove(database, *names)

    assert removed == 1200
    assert await counts(database) == dict.fromkeys(_TABLES, 0)


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (["1"], [("talk", "2", "3", 2)]),
        (["2"], [("talk", "1", "3", 2)]),
        (["3"], [("talk", "1", "2", 2)]),
        (["1", "3"], [("talk", "2", "2", 1)]),
        (["1", "2", "3"], []),
    ],
)
async def test_a_conversation_shrinks_and_goes_with_its_last_exchange(database, gone, left):
    await record(database, "1", "2", "3", conversation_id="talk")

    await remove(database, *gone)

    assert await talks(database) == left


async def test_a_conversation_of_the_same_name_of_another_key_stays(database):
    await keys.add(database, key_id="other", name="other", digest="other", hint="h", created_at=1)
    await record(database, "1", conversation_id="talk")
    await record(database, "2", conversation_id="talk", key_id="other")

    await remove(database, "1")

    assert await talks(database) == [("talk", "2", "2", 1)]


async def test_a_fork_goes_on_with_what_is_left_of_what_it_came_from(database):
    await record(database, "1", "2", "3", conversation_id="talk")
    await fork(database, "2", "fork")
    await record(database, "4", conversation_id="fork", question="after the fork")

    await remove(database, "2")

    assert await talks(database) == [("fork", "4", "4", 1), ("talk", "1", "3", 2)]
    turns = await conversations.earlier(database, "key", "fork", budget=1000)
    assert [turn.question for turn in turns] == ["q", "after the fork"]


async def test_a_fork_keeps_its_beginning_when_only_its_own_exchanges_go(database):
    await record(database, "1", conversation_id="talk")
    await fork(database, "1", "fork")
    await record(database, "2", "3", conversation_id="fork")

    await remove(database, "2")

    assert await talks(database) == [("fork", "1", "3", 1), ("talk", "1", "1", 1)]


async def test_a_fork_that_has_nothing_yet_outlives_what_it_came_from(database):
    await record(database, "1", conversation_id="talk")
    await fork(database, "1", "fork")

    await remove(database, "1")

    assert await talks(database) == [("fork", "1", "1-place", 0)]


async def test_texts_are_taken_away_and_figures_stay(database):
    await record_with_all(database, "one")
    await index(database)

    forgotten = await forget(database, "one")

    assert forgotten == 1
    columns = (Exchange.question, Exchange.answer, Exchange.texts, Exchange.model)
    assert await rows(database, select(*columns)) == [("", "", "none", "m")]
    gone = dict.fromkeys(("bodies", "idempotent_answers", "unindexed", "indexed"), 0)
    assert await counts(database) == {**dict.fromkeys(_TABLES, 1), **gone}
    assert await found(database, "what is one") == []


async def test_texts_are_taken_away_once(database):
    await record(database, "one")
    await forget(database, "one")

    forgotten = await forget(database, "one", "nobody")

    assert forgotten == 0


async def test_two_who_remove_the_same_get_along(database):
    names = [f"{number:03}" for number in range(150)]
    await record(database, *names, conversation_id="talk")
    await index(database)

    removed = await asyncio.gather(remove(database, *names), remove(database, *names[::-1]))

    assert sorted(removed) == [0, 150]
    assert await counts(database) == dict.fromkeys(_TABLES, 0)


async def test_what_is_recorded_meanwhile_is_counted(database):
    old = [f"0{number:03}" for number in range(100)]
    await record(database, *old, conversation_id="talk")

    async def go_on() -> None:
        for number in range(20):
            await record(database, f"1{number:03}", conversation_id="talk")

    await asyncio.gather(go_on(), *(remove(database, *old[start::10]) for start in range(10)))

    assert await talks(database) == [("talk", "1000", "1019", 20)]


async def test_nothing_is_read_through_to_find_a_few(tmp_path):
    async with stores.in_file(tmp_path).database() as database:
        await prepare(database)
        await record_with_all(database, "one")
        await record_with_all(database, "two")
        await index(database)
        async with database.transaction() as connection:
            asked = []

            def note(*given) -> None:
                asked.append((given[2], given[3][0] if given[5] else given[3]))

            event.listen(connection.sync_connection, "before_cursor_execute", note)
            await removal.remove(connection, ["one"])
            await removal.forget_texts(connection, ["two"])
            event.remove(connection.sync_connection, "before_cursor_execute", note)

            plans = [await connection.exec_driver_sql(f"explain query plan {sql}", values) for sql, values in asked]

    steps = [step.detail for plan in plans for step in plan]
    assert len([step for step in steps if step.startswith("SEARCH exchanges USING")]) > 2
    read_through = {step for step in steps if step.startswith("SCAN")}
    assert read_through == {"SCAN CONSTANT ROW", "SCAN json_each VIRTUAL TABLE INDEX 1:"}
