"""Whose keys a person administers, and what keys may be given, on a real database."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import BadRequest, Conflict, NotFound, PermissionDenied
from ai_proxy.core.types import COMMAND_LINE, Actor
from ai_proxy.services import audit, keys, projects, setup, users
from ai_proxy.services.keys import Keys, NewKey
from ai_proxy.storage import keys as stored
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database

pytestmark = pytest.mark.anyio

SECRET = apikeys.hashing_secret("a secret of the server")
NOWHERE = "00000000-0000-7000-8000-00000000dead"


@pytest.fixture
async def database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/keys.db", directory=tmp_path) as database:
        await schema.upgrade(database)
        yield database


@pytest.fixture
def service(database):
    return Keys(database, SECRET)


async def person(database: Database, name: str, role: str = "member") -> Actor:
    user = await users.create(database, COMMAND_LINE, name, role=role)
    return Actor(user_id=user.id, name=name, role=role)


async def works(database: Database, key: str) -> bool:
    return await stored.find(database, apikeys.digest(key, SECRET)) is not None


async def test_a_member_makes_sees_and_changes_only_their_own(database, service):
    ada, bob = await person(database, "ada"), await person(database, "bob")
    mine, _ = await service.create(ada, NewKey(name="mine"))
    his, _ = await service.create(bob, NewKey(name="his"))

    found, _ = await service.page(ada, limit=10)
    filtered, _ = await service.page(ada, user_id=bob.user_id, limit=10)

    assert [key.id for key in found] == [mine.id]
    assert filtered == []
    for attempt in (
        service.get(ada, his.id),
        service.change(ada, his.id, {"name": "stolen"}),
        service.rotate(ada, his.id),
        service.revoke(ada, his.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    with pytest.raises(PermissionDenied):
        await service.create(ada, NewKey(name="for bob", user_id=bob.user_id))
    assert {key.id for key in (await service.page(COMMAND_LINE, limit=10))[0]} == {mine.id, his.id}


async def test_a_viewers_key_cannot_call(database, service):
    eve = await person(database, "eve", "viewer")

    usual, _ = await service.create(COMMAND_LINE, NewKey(name="x", user_id=eve.user_id))
    with pytest.raises(BadRequest) as refused:
        await service.create(COMMAND_LINE, NewKey(name="x", user_id=eve.user_id, scopes=["calls"]))

    assert usual.scopes == ("history",)
    assert refused.value.param == "scopes"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"models": []}, "models"),
        ({"models": ["x"] * 101}, "models"),
        ({"models": ["x" * 201]}, "models"),
        ({"labels": {str(number): "x" for number in range(21)}}, "labels"),
        ({"labels": {"x" * 101: "x"}}, "labels"),
        ({"labels": {"x": "two\nlines"}}, "labels"),
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "expires_at"),
        ({"name": " "}, "name"),
    ],
)
async def test_what_a_key_cannot_have_is_refused_by_name(database, service, fields, param):
    with pytest.raises(BadRequest) as refused:
        await service.create(COMMAND_LINE, NewKey(**{"name": "x", **fields}))

    assert refused.value.param == param
    assert await keys.list_all(database) == []


async def test_no_key_is_made_for_nobody_or_for_a_project_that_is_not_the_users(database, service):
    ada = await person(database, "ada")
    project = await projects.create(database, COMMAND_LINE, "search")

    for new in (
        NewKey(name="x", user_id=NOWHERE),
        NewKey(name="x", project_id=NOWHERE),
        NewKey(name="x", user_id=ada.user_id, project_id=project.id),
    ):
        with pytest.raises(NotFound):
            await service.create(COMMAND_LINE, new)
    await projects.change(database, COMMAND_LINE, project.id, archived=True)
    with pytest.raises(NotFound):
        await service.create(COMMAND_LINE, NewKey(name="x", project_id=project.id))


async def test_every_change_is_in_the_audit_log_without_secrets(database, service):
    made, first = await service.create(COMMAND_LINE, NewKey(name="x"))
    await service.change(COMMAND_LINE, made.id, {"models": ["gpt-*"]})
    _, second = await service.rotate(COMMAND_LINE, made.id, 60)
    await service.revoke(COMMAND_LINE, made.id)

    entries, _ = await audit.page(database, audit.wanted(target=f"key:{made.id}"), limit=10)

    assert [entry.action for entry in entries] == ["key.revoke", "key.rotate", "key.change", "key.create"]
    assert entries[2].details == {"before": {"models": None}, "after": {"models": ["gpt-*"]}}
    told = json.dumps([entry.details for entry in entries])
    assert not any(apikeys.digest(key, SECRET) in told or key in told for key in (first, second))


async def test_the_audit_log_tells_times_that_people_can_read(database, service):
    first, second = datetime(2999, 1, 31, tzinfo=UTC), datetime(2999, 2, 1, 12, tzinfo=UTC)
    made, _ = await service.create(COMMAND_LINE, NewKey(name="x", expires_at=first))
    await service.change(COMMAND_LINE, made.id, {"expires_at": second})
    await service.change(COMMAND_LINE, made.id, {"expires_at": None})

    entries, _ = await audit.page(database, audit.wanted(target=f"key:{made.id}"), limit=10)

    assert [entry.details for entry in entries[:2]] == [
        {"before": {"expires_at": "2999-02-01T12:00:00Z"}, "after": {"expires_at": None}},
        {"before": {"expires_at": "2999-01-31T00:00:00Z"}, "after": {"expires_at": "2999-02-01T12:00:00Z"}},
    ]
    assert entries[2].details["expires_at"] == "2999-01-31T00:00:00Z"


async def test_a_former_secret_has_its_end_and_the_one_before_it_is_gone(database):
    service = Keys(database, SECRET, lambda: 1_000_000_000_000)
    made, first = await service.create(COMMAND_LINE, NewKey(name="x"))
    _, second = await service.rotate(COMMAND_LINE, made.id, 10)

    former = await stored.find(database, apikeys.digest(first, SECRET))
    current = await stored.find(database, apikeys.digest(second, SECRET))
    _, third = await service.rotate(COMMAND_LINE, made.id, 10)

    assert former is not None
    assert current is not None
    assert (former.expires_at, current.expires_at) == (1_010_000_000, None)
    assert [await works(database, key) for key in (first, second, third)] == [False, True, True]


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59-23:59"])
async def test_an_end_after_all_dates_does_not_spoil_the_list(database, service, end):
    made, _ = await service.create(COMMAND_LINE, NewKey(name="x", expires_at=datetime.fromisoformat(end)))

    [listed] = await keys.list_all(database)

    assert made.expires_at == listed.expires_at == datetime(9999, 12, 31, tzinfo=UTC)


async def test_an_end_before_all_dates_is_refused(service):
    with pytest.raises(BadRequest, match="in the future"):
        await service.create(
            COMMAND_LINE, NewKey(name="x", expires_at=datetime.fromisoformat("0001-01-01T00:00:00+23:59"))
        )


@pytest.mark.parametrize("overlap", [-1, 30 * 86_400 + 1])
async def test_an_overlap_has_bounds(service, overlap):
    made, _ = await service.create(COMMAND_LINE, NewKey(name="x"))

    with pytest.raises(BadRequest) as refused:
        await service.rotate(COMMAND_LINE, made.id, overlap)

    assert refused.value.param == "overlap"


async def test_the_operators_own_key_is_not_rotated_where_it_is_not_known_either(database, service):
    await setup.ensure_first(database, SECRET, "a key of the operator's own")
    [listed] = await keys.list_all(database)

    with pytest.raises(Conflict):
        await service.rotate(COMMAND_LINE, listed.id)


async def test_a_revoked_key_is_neither_changed_nor_rotated(service):
    made, _ = await service.create(COMMAND_LINE, NewKey(name="x"))
    await service.revoke(COMMAND_LINE, made.id)

    with pytest.raises(NotFound):
        await service.change(COMMAND_LINE, made.id, {"name": "y"})
    with pytest.raises(NotFound):
        await service.rotate(COMMAND_LINE, made.id)


async def test_projects_have_names_of_their_own_and_are_seen_by_their_members(database):
    ada = await person(database, "ada")
    project = await projects.create(database, COMMAND_LINE, "search")
    other = await projects.create(database, COMMAND_LINE, "other")
    await projects.add_member(database, COMMAND_LINE, project.id, ada.user_id)

    seen = await projects.list_all(database, ada)

    assert [found.id for found in seen] == [project.id]
    with pytest.raises(NotFound):
        await projects.find(database, ada, other.id)
    with pytest.raises(Conflict):
        await projects.create(database, COMMAND_LINE, "search")
    with pytest.raises(Conflict):
        await projects.change(database, COMMAND_LINE, project.id, name="other")
    with pytest.raises(NotFound):
        await projects.add_member(database, COMMAND_LINE, project.id, NOWHERE)
    with pytest.raises(NotFound):
        await projects.remove_member(database, COMMAND_LINE, other.id, ada.user_id)
