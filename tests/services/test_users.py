"""Users as a person administers them, on a real database."""

import asyncio
import json

import pytest

from ai_proxy.core.exceptions import BadRequest, Conflict, NotFound
from ai_proxy.core.types import COMMAND_LINE, OPERATOR_ID, Actor
from ai_proxy.services import users
from ai_proxy.services.users import Change
from ai_proxy.storage import audit, schema
from ai_proxy.storage.audit import Filter
from ai_proxy.storage.engine import Database

pytestmark = pytest.mark.anyio

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaA"


@pytest.fixture
async def database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/users.db", directory=tmp_path) as database:
        await schema.upgrade(database)
        yield database


async def noted(database) -> list[tuple[str, dict]]:
    async with database.transaction() as connection:
        return [(row.action, json.loads(row.details)) for row in await audit.page(connection, Filter(), limit=50)][::-1]


async def made(database, name="alice", **fields):
    return await users.create(database, COMMAND_LINE, name, **fields)


async def test_a_user_is_made_and_noted(database):
    alice = await made(database, role="viewer", password=HASH)

    assert (alice.name, alice.role, alice.disabled, alice.has_password) == ("alice", "viewer", False, True)
    assert await users.find(database, alice.id) == alice
    assert await noted(database) == [("user.create", {"name": "alice", "role": "viewer"})]


@pytest.mark.parametrize("name", ["Alice@Example.COM", " alice@example.com ", "\uff41lice@example.com"])
async def test_names_that_read_alike_are_one(database, name):
    alice = await made(database, "alice@example.com")

    assert await users.find_by_name(database, name) == alice
    with pytest.raises(Conflict, match="of this name already"):
        await made(database, name)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "red \x1b[31m", "two\nlines"])
async def test_names_that_cannot_be_listed_are_refused(database, name):
    with pytest.raises(BadRequest, match="1 to 200 printable"):
        await made(database, name)


async def test_the_operators_name_is_taken(database):
    with pytest.raises(Conflict):
        await made(database, "Operator")


async def test_of_two_who_take_a_name_at_once_one_gets_it(database):
    results = await asyncio.gather(made(database), made(database), return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["Conflict", "User"]


async def test_the_list_has_pages_oldest_first(database):
    for n in range(5):
        await made(database, f"user{n}")

    first, more = await users.page(database, limit=4)
    second, no_more = await users.page(database, after=first[-1].id, limit=4)

    assert [user.name for user in [*first, *second]] == ["operator", *(f"user{n}" for n in range(5))]
    assert (more, no_more) == (True, False)


async def test_role_and_state_change_and_are_noted(database):
    alice = await made(database)

    changed = await users.change(database, COMMAND_LINE, alice.id, Change(role="viewer", disabled=True))
    again = await users.change(database, COMMAND_LINE, alice.id, Change(role="viewer", disabled=False))

    assert (changed.role, changed.disabled) == ("viewer", True)
    assert (again.role, again.disabled) == ("viewer", False)
    assert await noted(database) == [
        ("user.create", {"name": "alice", "role": "member"}),
        ("user.role", {"before": "member", "after": "viewer"}),
        ("user.disable", {}),
        ("user.enable", {}),
    ]


async def test_no_password_is_noted(database):
    alice = await made(database)

    await users.change(database, COMMAND_LINE, alice.id, Change(password=HASH))

    assert (await noted(database))[-1] == ("user.password", {})


@pytest.mark.parametrize("wanted", [Change(role="member"), Change(disabled=True)])
async def test_the_last_administrator_stays(database, wanted):
    alice = await made(database, role="admin", password=HASH)
    await made(database, "no-password", role="admin")
    disabled = await made(database, "disabled", role="admin", password=HASH)
    await users.change(database, COMMAND_LINE, disabled.id, Change(disabled=True))

    with pytest.raises(Conflict, match="the last administrator who can sign in"):
        await users.change(database, COMMAND_LINE, alice.id, wanted)

    assert await users.find(database, alice.id) == alice


async def test_of_two_administrators_who_remove_each_other_at_once_one_stays(database):
    people = [await made(database, name, role="admin", password=HASH) for name in ("alice", "bob")]

    await asyncio.gather(
        *(users.change(database, COMMAND_LINE, user.id, Change(role="member")) for user in people),
        return_exceptions=True,
    )

    left = [(await users.find(database, user.id)).role for user in people]
    assert sorted(left) == ["admin", "member"]


@pytest.mark.parametrize("wanted", [Change(role="viewer"), Change(disabled=True), Change(password=HASH)])
async def test_the_operator_cannot_be_changed(database, wanted):
    with pytest.raises(Conflict, match="built in"):
        await users.change(database, COMMAND_LINE, OPERATOR_ID, wanted)


@pytest.mark.parametrize("wanted", [Change(role="viewer"), Change(disabled=True), Change(password=HASH)])
async def test_nobody_changes_themselves(database, wanted):
    alice = await made(database, role="admin", password=HASH)
    await made(database, "bob", role="admin", password=HASH)
    actor = Actor(user_id=alice.id, name="alice", role="admin")

    with pytest.raises(Conflict, match="ask another administrator"):
        await users.change(database, actor, alice.id, wanted)


async def test_whom_there_is_not_cannot_be_found_or_changed(database):
    with pytest.raises(NotFound):
        await users.find(database, "nonsense")
    with pytest.raises(NotFound):
        await users.find_by_name(database, "nobody")
    with pytest.raises(NotFound):
        await users.change(database, COMMAND_LINE, "nonsense", Change(role="viewer"))
