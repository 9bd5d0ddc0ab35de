"""Whatever is asked for, the pages have it all, newest first, and no page looks at more than its share."""

import random
from itertools import count

import pytest
from sqlalchemy import event, insert

from ai_proxy.storage import filters, keys, records, remarks, schema
from ai_proxy.storage.engine import Database
from ai_proxy.storage.filters import Visible, Wanted
from ai_proxy.storage.tables import Project, Table
from tests import stores
from tests.stores import exchange

pytestmark = pytest.mark.anyio

KEYS, USERS, PROJECTS = ("k1", "k2"), ("u1", "u2", "u3"), (None, "p1", "p2")
MODELS, PROVIDERS = ("m1", "m2", "m3"), ("a", "b")
STATUSES = ("completed", "completed", "failed", "cancelled")
CONVERSATIONS = (None, None, "c1", "c2")
VALUES = {
    "key": KEYS,
    "user": USERS,
    "project": PROJECTS[1:],
    "conversation": CONVERSATIONS[2:],
    "model": (*MODELS, "none"),
    "provider": PROVIDERS,
    "status": STATUSES[1:],
    "tag": ("red", "blue"),
    "thumb": (1, -1),
    "min_cost": (300,),
    "max_cost": (700,),
    "since": ("020",),
    "until": ("180",),
    "visible": (Visible("u1"), Visible("u1", ("p1",)), Visible("u2", ("p1", "p2")), Visible("nobody")),
}


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        for name in KEYS:
            await keys.add(database, key_id=name, name=name, digest=name, hint="h", created_at=1)
        yield database


@pytest.fixture
async def rows(database):
    """200 exchanges of all kinds, each with its remarks as `tag` and `thumb`."""
    choose = random.Random(7)
    made = [_made(choose, number) for number in range(200)]
    await records.add(database, [row for row, *_ in made])
    async with database.transaction() as connection:
        for row, tag, thumb in made:
            await remarks.set_tags(connection, row.id, tag)
            if thumb is not None:
                given = {"score": None, "comment": None, "user_id": "u1", "created_at": 1}
                await remarks.set_feedback(database, connection, {"exchange_id": row.id, "thumb": thumb, **given})
    return made


def _made(choose, number):
    row = exchange(
        f"{number:03}",
        key_id=choose.choice(KEYS),
        user_id=choose.choice(USERS),
        project_id=choose.choice(PROJECTS),
        conversation_id=choose.choice(CONVERSATIONS),
        model=choose.choice(MODELS),
        provider=choose.choice(PROVIDERS),
        status=choose.choice(STATUSES),
        cost=choose.choice([None, 100, 500, 900]),
    )
    tags = [tag for tag in VALUES["tag"] if choose.random() < 0.2]
    return row, tags, choose.choice([None, None, None, 1, -1])


def matches(made, wanted: Wanted) -> bool:
    row, tags, thumb = made
    seen = wanted.visible
    return all(
        (
            wanted.key in {None, row.key_id},
            wanted.user in {None, row.user_id},
            wanted.project in {None, row.project_id},
            wanted.conversation in {None, row.conversation_id},
            wanted.model in {None, row.model},
            wanted.provider in {None, row.provider},
            wanted.status in {None, row.status},
            wanted.tag is None or wanted.tag in tags,
            wanted.thumb in {None, thumb},
            wanted.min_cost is None or (row.cost is not None and row.cost >= wanted.min_cost),
            wanted.max_cost is None or (row.cost is not None and row.cost <= wanted.max_cost),
            wanted.since is None or row.id >= wanted.since,
            wanted.until is None or row.id < wanted.until,
            seen is None or row.user_id == seen.user_id or row.project_id in seen.projects,
        )
    )


def questions(number: int) -> list[Wanted]:
    """Each condition alone, and so many of several together."""
    choose = random.Random(11)
    alone = [Wanted(**{name: value}) for name, values in VALUES.items() for value in values]
    names = list(VALUES)
    several = [choose.sample(names, choose.randint(2, 4)) for _ in range(number)]
    return [Wanted(), *alone, *(Wanted(**{name: choose.choice(VALUES[name]) for name in some}) for some in several)]


async def walk(database: Database, wanted: Wanted, **options) -> list[str]:
    """All pages, one after the other."""
    found, before = [], None
    async with database.transaction() as connection:
        for number in count():
            assert number < 500
            page, before = await filters.newest(connection, wanted, before=before, **options)
            assert len(page) <= options["limit"]
            found += page
            if before is None:
                break
    return found


@pytest.mark.parametrize(("limit", "window"), [(7, 10), (50, 1000), (1, 40)])
async def test_the_pages_have_all_that_is_asked_for_once_and_newest_first(database, rows, limit, window):
    wrong = []
    for wanted in questions(60):
        expected = [made[0].id for made in reversed(rows) if matches(made, wanted)]
        if await walk(database, wanted, limit=limit, window=window) != expected:
            wrong.append(wanted)

    assert wrong == []


async def test_some_of_them_are_told_from_the_others_in_the_same_way(database, rows):
    some = [made[0].id for made in rows[::3]][::-1]
    async with database.transaction() as connection:
        found = {str(wanted): await filters.among(connection, wanted, some) for wanted in questions(60)}

    assert found == {
        str(wanted): [made[0].id for made in rows[::3][::-1] if matches(made, wanted)] for wanted in questions(60)
    }


async def test_a_member_of_very_many_projects_sees_all_of_them(database):
    async with database.transaction() as connection:
        projects = [{"id": f"x{number}", "name": f"x{number}", "created_at": 1} for number in range(300)]
        await connection.execute(insert(Project), [{**project, "keep_texts": True} for project in projects])
    await records.add(
        database,
        [exchange(f"{number:03}", key_id="k1", user_id="u2", project_id=f"x{number}") for number in range(300)],
    )
    visible = Visible("u1", tuple(f"x{number}" for number in range(0, 300, 2)))

    found = await walk(database, Wanted(visible=visible), limit=20, window=100)

    assert found == [f"{number:03}" for number in range(298, -1, -2)]


async def test_a_page_ends_where_enough_was_looked_at(database):
    await records.add(
        database, [exchange(f"{number:03}", key_id="k1", provider="a" if number else "b") for number in range(100)]
    )

    async with database.transaction() as connection:
        first = await filters.newest(connection, Wanted(provider="b"), before=None, limit=5, window=30)
        second = await filters.newest(connection, Wanted(provider="b"), before=first[1], limit=5, window=30)

    assert first == ([], "070")
    assert second == ([], "040")


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Wanted(), "sqlite_autoindex_exchanges_1"),
        (Wanted(key="k1"), "ix_exchanges_key_id_id (key_id=? AND id<?)"),
        (Wanted(user="u1"), "ix_exchanges_user_id_id (user_id=? AND id<?)"),
        (Wanted(project="p1"), "ix_exchanges_project_id_id (project_id=? AND id<?)"),
        (Wanted(conversation="c1"), "ix_exchanges_conversation_id_id (conversation_id=? AND id<?)"),
        (Wanted(model="m1"), "ix_exchanges_model_id (model=? AND id<?)"),
        (Wanted(status="failed"), "ix_exchanges_status_id (status=? AND id<?)"),
        (Wanted(tag="red"), "ix_tags_tag_exchange_id (tag=? AND exchange_id<?)"),
        (Wanted(visible=Visible("u1", ("p1",))), "ix_exchanges_project_id_id (project_id=? AND id<?)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_page_goes_down_an_index_and_sorts_nothing(tmp_path, wanted, index):
    ran = []

    def note(_connection, _cursor, statement, parameters, *_):
        ran.append((statement, parameters))

    store = stores.in_file(tmp_path)
    async with store.database() as database, database.migrating() as connection:
        await connection.run_sync(Table.metadata.create_all)
        event.listen(connection.sync_connection, "before_cursor_execute", note)
        await filters.newest(connection, wanted, before="999", limit=20)
        event.remove(connection.sync_connection, "before_cursor_execute", note)
        plan = [
            row[3]
            for statement, parameters in ran
            for row in await connection.exec_driver_sql(f"explain query plan {statement}", parameters)
        ]

    assert any(index in step for step in plan)
    assert [step for step in plan if step.startswith(("SCAN exchanges", "SCAN tags"))] == []
    assert wanted.visible is not None or not any("TEMP B-TREE" in step for step in plan)
