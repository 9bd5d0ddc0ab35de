"""The audit log: what is in it stays, and can be found."""

import asyncio

import msgspec
import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.core.groups import SessionSettings
from ai_proxy.core.types import COMMAND_LINE, Actor
from ai_proxy.services import audit
from ai_proxy.services.accounts import Accounts
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database
from ai_proxy.storage.tables import AuditEntry
from tests.stores import Store

pytestmark = pytest.mark.anyio

ANN = Actor(user_id="a", name="ann", role="admin", address="192.0.2.1", request_id="r")


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        yield database


async def note(database: Database, *entries: tuple[Actor, str, str]) -> None:
    async with database.changing() as connection:
        for actor, action, target in entries:
            await audit.note(connection, actor, action, target)


async def actions(database: Database, **wanted) -> list[str]:
    found, _ = await audit.page(database, audit.wanted(**wanted), limit=100)
    return [entry.action for entry in found]


async def test_an_entry_tells_who_did_what_to_what_and_from_where(database):
    async with database.changing() as connection:
        await audit.note(connection, ANN, "user.role", "user:b", before="member", after="admin")

    (entry,), more = await audit.page(database, audit.wanted(), limit=1)

    assert (entry.actor_id, entry.actor, entry.action, entry.target) == ("a", "ann", "user.role", "user:b")
    assert (entry.details, entry.address, entry.request_id) == (
        {"before": "member", "after": "admin"},
        "192.0.2.1",
        "r",
    )
    assert not more


async def test_an_entry_tells_which_key_did_it(database):
    async with database.changing() as connection:
        await audit.note(connection, msgspec.structs.replace(ANN, key_id="the-key"), "user.disable", "user:b")

    (entry,), _ = await audit.page(database, audit.wanted(), limit=1)

    assert entry.details == {"by_key": "the-key"}


async def test_the_newest_comes_first_and_pages_follow_one_another(database):
    await note(database, *((ANN, f"number.{number}", "x") for number in range(5)))

    first, more = await audit.page(database, audit.wanted(), limit=3)
    second, still_more = await audit.page(database, audit.wanted(), before=first[-1].id, limit=3)

    assert [entry.action[-1] for entry in [*first, *second]] == ["4", "3", "2", "1", "0"]
    assert (more, still_more) == (True, False)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"action": "key.create"}, ["key.create"]),
        ({"actor": "ann"}, ["key.create", "login"]),
        ({"actor": "a"}, ["key.create", "login"]),
        ({"actor": COMMAND_LINE.user_id}, ["key.revoke"]),
        ({"target": "key:1"}, ["key.revoke", "key.create"]),
        ({"target": "key:1", "actor": "ann"}, ["key.create"]),
        ({"action": "' or 1=1 --"}, []),
        ({"first": "2000-01-01"}, ["key.revoke", "key.create", "login"]),
        ({"first": "9999-12-31"}, []),
        ({"last": "2000-01-01"}, []),
        ({"last": "9999-12-31"}, ["key.revoke", "key.create", "login"]),
    ],
)
async def test_entries_are_found_by_what_they_tell(database, wanted, found):
    await note(database, (ANN, "login", "user:a"), (ANN, "key.create", "key:1"), (COMMAND_LINE, "key.revoke", "key:1"))

    assert await actions(database, **wanted) == found


@pytest.mark.parametrize(("fields", "param"), [({"first": "yesterday"}, "from"), ({"last": "2026-02-30"}, "to")])
def test_what_is_no_day_is_refused_by_name(fields, param):
    with pytest.raises(BadRequest) as refused:
        audit.wanted(**fields)

    assert refused.value.param == param


async def test_who_carries_the_log_away_is_in_it(database):
    await note(database, (ANN, "login", "user:a"), (COMMAND_LINE, "key.create", "key:1"))

    carried = await audit.export(database, ANN, audit.wanted(actor="ann"))

    newest, _ = await audit.page(database, audit.wanted(), limit=1)
    assert [entry.action for entry in carried] == ["login"]
    assert (newest[0].action, newest[0].actor) == ("audit.export", "ann")
    assert newest[0].details == {"rows": 1, "filters": {"actor": "ann"}}


async def test_more_entries_than_may_be_carried_away_are_refused_and_nothing_is_noted(database):
    texts = dict.fromkeys(("actor", "action", "target", "address", "request_id"), "x") | {"details": "{}"}
    entries = [{"id": str(number), "created_at": 1, **texts} for number in range(audit.MAX_ROWS + 1)]
    async with database.changing() as connection:
        await connection.execute(insert(AuditEntry), entries)

    with pytest.raises(BadRequest) as refused:
        await audit.export(database, ANN, audit.wanted())

    assert str(audit.MAX_ROWS) in refused.value.message
    assert await actions(database, action="audit.export") == []


@pytest.mark.parametrize("change", ["update audit set actor = 'bob'", "delete from audit"])
async def test_the_database_itself_refuses_to_change_or_delete_an_entry(database, change):
    await note(database, (ANN, "login", "user:a"))

    with pytest.raises(DBAPIError, match="append-only"):
        async with database.changing() as connection:
            await connection.execute(text(change))

    assert await actions(database, actor="ann") == ["login"]


async def test_an_entry_goes_when_what_it_tells_of_is_rolled_back(database):
    async def change() -> None:
        async with database.changing() as connection:
            await audit.note(connection, ANN, "key.create", "key:1")
            raise BadRequest(message := "no", param=message)

    with pytest.raises(BadRequest):
        await change()

    assert await actions(database) == []


@pytest.mark.parametrize(("problems", "outcome"), [([], "in force"), (["models: nobody serves 'x'"], "refused")])
async def test_a_reload_is_noted_with_what_was_wrong(database, problems, outcome):
    await audit.note_reload(database, problems)

    (entry,), _ = await audit.page(database, audit.wanted(), limit=1)
    assert (entry.actor, entry.action, entry.target) == ("SIGHUP", "configuration.reload", "configuration")
    assert entry.details == {"outcome": outcome, "problems": problems}


async def test_a_reload_that_cannot_be_noted_is_told_in_the_log(store):
    async with store.database() as empty:
        with capture_logs() as log:
            await audit.note_reload(empty, [])

    assert [line["event"] for line in log] == ["audit: the reload could not be noted"]


async def test_what_is_only_noted_does_not_wait_for_those_who_change_something(postgres, tmp_path):
    store = Store(postgres.new_database(), tmp_path)
    async with store.database() as database:
        await schema.upgrade(database)
        async with database.changing(), asyncio.timeout(5):
            await Accounts(database, b"", SessionSettings()).note_refusal(COMMAND_LINE, "GET /api/audit", "no")
            await audit.note_reload(database, [])

        noted, _ = await audit.page(database, audit.wanted(), limit=10)

    assert {"refusal", "configuration.reload"} <= {entry.action for entry in noted}
