"""Reports are made of the sums of days."""

from datetime import datetime

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import event, insert, text

from ai_proxy.core.ids import uuid7
from ai_proxy.core.types import OPERATOR_ID, Exchange, Spending, Usage
from ai_proxy.storage import keys, records, schema, usage
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import Member, Project, Table, User
from ai_proxy.storage.usage import Question
from tests import stores

pytestmark = pytest.mark.anyio

FIGURES = ("calls", "input_tokens", "cost")


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        for name in ("laptop", "server"):
            await keys.add(database, key_id=name[0], name=name, digest=name, hint="h", created_at=1)
        async with database.transaction() as connection:
            people = [
                {"id": name[0], "name": name, "role": "member", "created_at": 1} for name in ("ann", "bob", "cat")
            ]
            await connection.execute(insert(User), people)
            await connection.execute(insert(Project), {"id": "x", "name": "xylophone", "created_at": 1})
            await connection.execute(insert(Member), {"project_id": "x", "user_id": "c"})
        yield database


def microseconds(day: str, time: str = "12:00") -> int:
    return int(datetime.fromisoformat(f"{day}T{time}+00:00").timestamp()) * 1_000_000


def calls(day: str, *, cost: int | None, number: int = 1, **fields) -> list[Exchange]:
    given = {"key_id": "l", "user_id": "a", "question": "q", "model": "m", "provider": "p", "conversation_id": None}
    given |= {"created_at": microseconds(day), "usage": Usage(10, 5), "cost": cost, "started": 0.0}
    return [Exchange(id=uuid7(), **{**given, **fields}) for _ in range(number)]


async def report(database: Database, *, visible_to=None, limit=100, **asked) -> list[dict]:
    async with database.transaction() as connection:
        rows = await usage.report(connection, Question(**asked), visible_to=visible_to, limit=limit)
    return [row._asdict() for row in rows]


async def sums(database: Database, *group_by: str, **options) -> list[tuple]:
    found = await report(database, group_by=group_by, **options)
    return [tuple(row[name] for name in (*group_by, *FIGURES)) for row in found]


async def test_sums_are_by_what_is_asked_for_in_its_order(database):
    await records.add(
        database,
        [
            *calls("2026-11-22", cost=1, number=2),
            *calls("2026-11-22", cost=10, model="n"),
            *calls("2026-11-23", cost=100, provider="q"),
        ],
    )

    assert await sums(database, "day") == [("2026-11-22", 3, 30, 12), ("2026-11-23", 1, 10, 100)]
    assert await sums(database, "model", "day") == [
        ("m", "2026-11-22", 2, 20, 2),
        ("m", "2026-11-23", 1, 10, 100),
        ("n", "2026-11-22", 1, 10, 10),
    ]
    assert await sums(database, "provider") == [("p", 3, 30, 12), ("q", 1, 10, 100)]
    assert await sums(database) == [(4, 40, 112)]


async def test_the_first_and_the_last_day_are_in_it(database):
    for day in ("2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"):
        await records.add(database, calls(day, cost=1))

    assert [row[0] for row in await sums(database, "day", first="2026-11-21", last="2026-11-22")] == [
        "2026-11-21",
        "2026-11-22",
    ]


async def test_where_nothing_was_called_the_sums_are_nothing(database):
    assert await sums(database, "day") == []
    assert await sums(database) == [(0, 0, 0)]


async def test_keys_users_and_projects_come_with_their_names(database):
    await records.add(database, [*calls("2026-11-23", cost=1), *calls("2026-11-23", cost=2, project_id="x")])

    (without, within) = await report(database, group_by=("project", "key", "user"))

    assert (without["project"], without["project_name"]) == ("", None)
    assert (within["project"], within["project_name"]) == ("x", "xylophone")
    assert (within["key"], within["key_name"], within["user"], within["user_name"]) == ("l", "laptop", "a", "ann")


@pytest.mark.parametrize(
    ("filters", "cost"),
    [
        ({"key": "s"}, 10),
        ({"user": "b"}, 100),
        ({"project": "x"}, 1000),
        ({"project": ""}, 10_111),
        ({"model": "n"}, 10_000),
        ({"provider": "p", "model": "m"}, 1111),
        ({"key": "s", "user": "b"}, 0),
        ({"model": "' or 1=1 --"}, 0),
    ],
)
async def test_filters_leave_out_the_rest(database, filters, cost):
    await records.add(
        database,
        [
            *calls("2026-11-23", cost=1),
            *calls("2026-11-23", cost=10, key_id="s"),
            *calls("2026-11-23", cost=100, user_id="b"),
            *calls("2026-11-23", cost=1000, project_id="x"),
            *calls("2026-11-23", cost=10_000, model="n"),
        ],
    )

    assert (await sums(database, filters=filters))[0][2] == cost


@pytest.mark.parametrize(("user", "cost"), [(None, 111), ("a", 1), ("b", 110), ("c", 100), ("d", 0)])
async def test_a_user_sees_their_own_and_what_is_in_their_projects(database, user, cost):
    await records.add(
        database,
        [
            *calls("2026-11-23", cost=1, user_id="a"),
            *calls("2026-11-23", cost=10, user_id="b"),
            *calls("2026-11-23", cost=100, user_id="b", project_id="x"),
        ],
    )

    assert (await sums(database, visible_to=user))[0][2] == cost


async def test_there_are_no_more_rows_than_the_limit(database):
    for day in range(10, 20):
        await records.add(database, calls(f"2026-11-{day}", cost=1))

    assert len(await report(database, group_by=("day",), limit=3)) == 3


async def test_spending_is_by_key_user_project_and_service_in_the_current_periods(database):
    for cost, day in ((1, "2026-11-25"), (10, "2026-11-23"), (100, "2026-11-22"), (1000, "2026-10-31")):
        await records.add(database, calls(day, cost=cost))
    await records.add(database, calls("2026-11-25", cost=5, key_id="s", user_id="b", project_id="x"))
    await records.add(database, calls("2026-11-25", cost=None, user_id="b"))

    found = await usage.spending(database, microseconds("2026-11-25", "23:59"))  # a Wednesday

    assert found == {
        "key:l": Spending(1, 11, 111, 1111),
        "user:a": Spending(1, 11, 111, 1111),
        "key:s": Spending(5, 5, 5, 5),
        "user:b": Spending(5, 5, 5, 5),
        "project:x": Spending(5, 5, 5, 5),
        "service": Spending(6, 16, 116, 1116),
    }
    assert await usage.spending(database, microseconds("2026-11-26", "00:00")) != found


async def test_nothing_was_spent_before_the_first_call(database):
    assert await usage.spending(database, microseconds("2026-11-25")) == {}


@pytest.mark.parametrize(
    ("day", "begin"),
    [
        ("2026-11-23", ("2026-11-23", "2026-11-23", "2026-11-01")),
        ("2026-11-29", ("2026-11-29", "2026-11-23", "2026-11-01")),
        ("2027-01-01", ("2027-01-01", "2026-12-28", "2027-01-01")),
        ("2028-02-29", ("2028-02-29", "2028-02-28", "2028-02-01")),
    ],
)
def test_weeks_begin_on_monday_and_months_on_their_first(day, begin):
    found = usage.beginnings(microseconds(day, "23:59"))

    assert (found["day"], found["week"], found["month"], found["total"]) == (*begin, "")


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        (Question(first="2026-11-01", group_by=("day", "model")), "sqlite_autoindex_daily_usage_1 (day>? AND day<?)"),
        (Question(filters={"key": "l"}), "ix_daily_usage_key_id_day (key_id=? AND day>? AND day<?)"),
    ],
)
async def test_a_report_looks_only_at_its_days_and_never_at_the_history(tmp_path, asked, index):
    ran = []

    def note(_connection, _cursor, statement, parameters, *_):
        ran.append((statement, parameters))

    store = stores.in_file(tmp_path)
    async with store.database() as database, database.migrating() as connection:
        await connection.run_sync(Table.metadata.create_all)
        event.listen(connection.sync_connection, "before_cursor_execute", note)
        await usage.report(connection, asked, visible_to=None, limit=10)
        statement, parameters = ran[0]
        found = await connection.exec_driver_sql(f"explain query plan {statement}", parameters)
        plan = [row[3] for row in found]

    assert f"SEARCH daily_usage USING INDEX {index}" in plan
    assert not any("SCAN daily_usage" in step or "exchanges" in step for step in plan)


async def test_calls_of_before_there_were_sums_are_summed_up_by_the_migration(tmp_path):
    def upgrade_to(connection, revision):
        config = Config()
        config.set_main_option("script_location", str(schema.SCRIPTS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", directory=tmp_path) as database:
        async with database.migrating() as connection:
            await connection.run_sync(upgrade_to, "0002")
            await connection.execute(text("insert into api_keys values ('k', 'laptop', 'd', 'h', 1, null)"))
            for number, status in enumerate(("completed", "completed", "failed")):
                await connection.execute(
                    text("""
                        insert into exchanges (id, key_id, question, answer, model, provider, mock, status,
                            input_tokens, output_tokens, usage_estimated, duration_ms, created_at,
                            dialect, stream, cached, attempts)
                        values (:id, 'k', '', '', 'm', 'p', 0, :status, 10, 5, 0, 1.0, :at, 'ask', 0, 0, '[]')
                    """),
                    {"id": str(number), "status": status, "at": microseconds("2026-11-23", "23:59")},
                )
        await schema.upgrade(database)

        (found,) = await report(database, group_by=("day", "key", "user", "project", "model"))

    assert [found[name] for name in ("day", "key", "user", "project", "model")] == [
        "2026-11-23",
        "k",
        OPERATOR_ID,
        "",
        "m",
    ]
    assert [found[name] for name in ("calls", "failed", "unpriced", "input_tokens", "cost")] == [3, 1, 2, 30, 0]
