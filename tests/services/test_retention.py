"""What is over goes by itself, little at a time, and nothing that happens to the database stops that."""

import asyncio
import time

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from ai_proxy.core.groups import RetentionSettings
from ai_proxy.core.ids import first_of
from ai_proxy.core.types import COMMAND_LINE, KeptAnswer
from ai_proxy.services import removing, retention
from ai_proxy.services.days import DAY
from ai_proxy.services.removing import OthersRemove, Removing
from ai_proxy.services.retention import Retention
from ai_proxy.services.times import now
from ai_proxy.storage import conversations, projects, records, sessions
from ai_proxy.storage.engine import Database
from ai_proxy.storage.retention import KEPT, Aim
from tests import postgres, stores

pytestmark = pytest.mark.anyio


def aged(days: float, number: int = 0) -> str:
    """The identifier of an exchange that is so old."""
    return f"{first_of(round(now() - days * DAY))[:-4]}{number:04}"


async def record(database: Database, *names: str, **fields) -> None:
    await records.add(database, [stores.exchange(name, **fields) for name in names])


async def project(database: Database, name: str, days: int | None) -> None:
    values = {"id": name, "name": name, "created_at": 1, "retention_days": days, "keep_texts": True}
    async with database.transaction() as connection:
        await projects.add(connection, values)


async def left(database: Database) -> list[str]:
    async with database.transaction() as connection:
        return list(await connection.scalars(text("select id from exchanges order by id")))


async def with_texts(database: Database) -> list[str]:
    async with database.transaction() as connection:
        return list(await connection.scalars(text("select id from exchanges where question <> '' order by id")))


async def until(condition) -> None:
    give_up = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.02)


async def once(database: Database, **settings) -> Retention:
    found = Retention(database, RetentionSettings(**settings))
    await found.once()
    return found


async def test_every_table_says_how_long_its_rows_are_kept(database, store):
    kept = set(KEPT) if store.on_server else set(KEPT) - {"search"}  # which has a table for each part there

    assert set(store.tables()) == kept


async def test_nothing_goes_where_nothing_is_said(database):
    await record(database, aged(5000))

    done = await once(database)

    assert (done.removed, done.forgotten) == (0, 0)
    assert len(await left(database)) == 1


async def test_what_is_too_old_goes(database):
    old, young = aged(31), aged(29)
    await record(database, old, young)

    done = await once(database, days=30)

    assert await left(database) == [young]
    assert done.removed == 1


async def test_texts_go_before_figures(database):
    oldest, older, young = aged(40), aged(20), aged(5)
    await record(database, oldest, older, young)

    done = await once(database, days=30, text_days=10)

    assert await left(database) == [older, young]
    assert await with_texts(database) == [young]
    assert (done.removed, done.forgotten) == (1, 1)


@pytest.mark.parametrize(("days", "kept"), [(10, []), (90, ["p"]), (None, [])])
async def test_what_a_project_says_of_its_own_history_wins(database, days, kept):
    await project(database, "p", days)
    await record(database, aged(50), project_id="p")
    await record(database, aged(50, 1))

    await once(database, days=30)

    assert len(await left(database)) == len(kept)


async def test_a_project_alone_may_say_it(database):
    await project(database, "p", 10)
    await record(database, aged(50), project_id="p")
    other = aged(50, 1)
    await record(database, other)

    await once(database)

    assert await left(database) == [other]


async def test_much_goes_in_many_transactions(database):
    await record(database, *(aged(50, number) for number in range(2500)))
    young = aged(1)
    await record(database, young)

    done = await once(database, days=30)

    assert await left(database) == [young]
    assert done.removed == 2500


async def test_texts_are_not_looked_for_where_they_have_gone(database):
    found = Retention(database, RetentionSettings(text_days=10))
    await record(database, aged(20))
    await found.once()
    imported = aged(30)
    await record(database, imported)

    await found.once()
    soon = await with_texts(database)
    for _ in range(24):
        await found.once()

    assert soon == [imported]
    assert await with_texts(database) == []


async def test_forks_that_nobody_went_on_with_go_with_their_time(database):
    old = aged(40)
    await record(database, old, conversation_id="talk")
    exchange = stores.exchange(old, conversation_id="talk")
    async with database.transaction() as connection:
        await conversations.fork(connection, exchange, "old", place=aged(35))
        await conversations.fork(connection, exchange, "young", place=aged(1))

    await once(database, days=30)

    async with database.transaction() as connection:
        assert list(await connection.scalars(text("select id from conversations"))) == ["young"]


async def test_what_has_expired_goes_too(database):
    kept = KeptAnswer(key="k", digest="d", body=b"a", headers={}, exchange_id="old")
    old = stores.exchange("old", kept=kept)
    await records.add(database, [old])
    async with database.transaction() as connection:
        await connection.execute(text(_MORE_ANSWERS))
        await sessions.add_setup_token(connection, digest="d", expires_at=1)

    await once(database)

    async with database.transaction() as connection:
        counts = [await connection.scalar(text(f"select count(*) from {name}")) for name in _EXPIRING]  # noqa: S608
    assert counts == [0, 0]
    assert await left(database) == ["old"]


_EXPIRING = ("idempotent_answers", "setup_tokens")
# More than go in one transaction
_MORE_ANSWERS = """
INSERT INTO idempotent_answers (key_id, idempotency_key, digest, exchange_id, body, headers, created_at)
WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 1000)
SELECT key_id, cast(number AS varchar), digest, exchange_id, body, headers, created_at FROM idempotent_answers, numbers
"""


async def test_it_happens_by_itself(database):
    await record(database, aged(50))

    async with Retention(database, RetentionSettings(days=30), first=0.01, interval=0.05):
        await until(lambda: gone(database))
        await record(database, aged(60))
        await until(lambda: gone(database))


async def gone(database: Database) -> bool:
    return not await left(database)


async def test_it_goes_on_when_the_database_is_back(database, store):
    await record(database, aged(50))

    with capture_logs() as logs:
        with store.locked():
            async with Retention(database, RetentionSettings(days=30), first=0.01, interval=0.05):
                await asyncio.sleep(0.1)
                assert not logs or logs[0]["event"] == "retention: the database is away"
        async with Retention(database, RetentionSettings(days=30), first=0.01, interval=0.05):
            await until(lambda: gone(database))


async def test_it_uses_an_eighth_of_the_time_at_most(database):
    await record(database, *(aged(50, number) for number in range(500)))
    busy = 0.0
    real = database.transaction

    class Watched:
        def transaction(self):
            return _Timed(real())

        def background(self):
            return _Timed(database.background())

    class _Timed:
        def __init__(self, inner) -> None:
            self._inner = inner

        async def __aenter__(self):
            self._began = time.perf_counter()
            return await self._inner.__aenter__()

        async def __aexit__(self, *details):
            nonlocal busy
            result = await self._inner.__aexit__(*details)
            busy += time.perf_counter() - self._began
            return result

    began = time.perf_counter()
    await Removing(Watched()).take(Aim(aged(30)))

    assert await left(database) == []
    assert busy <= 0.14 * (time.perf_counter() - began)


async def test_one_process_removes_at_a_time(database, store):
    if not store.on_server:
        pytest.skip("SQLite has one writer")
    await record(database, aged(50))

    with postgres.connected(store.url) as other:
        other.execute("begin; select pg_advisory_xact_lock(4714003)")
        with pytest.raises(OthersRemove):
            await once(database, days=30)
        waiting = asyncio.create_task(Removing(database, patient=True).take(Aim(aged(30))))
        await asyncio.sleep(3 * removing._OTHERS_TURN)
        assert len(await left(database)) == 1
        other.execute("rollback")
        await waiting

    assert await left(database) == []


async def test_what_is_pruned_by_hand_is_noted(database):
    await record(database, aged(50))
    told = []

    done = await retention.prune(database, COMMAND_LINE, [Aim(aged(30), texts=True)], tell=told.append)

    assert (done.removed, done.forgotten, told) == (0, 1, [1])
    async with database.transaction() as connection:
        rows = (await connection.execute(text("select action, target from audit"))).all()
    assert [tuple(row) for row in rows] == [("history.prune", "history")]


async def test_parts_are_as_long_as_their_time_allows(database):
    removing = Removing(database)
    sizes = [removing.most]

    async def work(connection) -> int:
        await asyncio.sleep(0.03 if max(sizes) > 100 else 0)
        return 0

    while max(sizes) <= 100:  # until the machine has had time for it, or the test has had too much
        await removing.briefly(work)
        sizes.append(removing.most)
    for _ in range(10):
        await removing.briefly(work)

    assert sizes[0] == removing.most == 50
