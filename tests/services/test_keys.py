"""API keys as a person administers them, on a real database."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from ai_proxy.core import apikeys
from ai_proxy.core.config import Settings
from ai_proxy.core.exceptions import BadRequest, Conflict, NotFound
from ai_proxy.core.types import COMMAND_LINE
from ai_proxy.services import keys, setup
from ai_proxy.services.keys import Keys, NewKey
from ai_proxy.storage import keys as stored
from ai_proxy.storage import schema
from ai_proxy.storage.engine import Database

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("bare_environment")]

TEXT = "a secret of the server"
SECRET = apikeys.hashing_secret(TEXT)
OWN = "a key of the operator's own"


def settings_of(directory, **fields) -> Settings:
    return Settings(database_url=f"sqlite:///{directory}/keys.db", **fields)


@pytest.fixture
def settings(tmp_path):
    return settings_of(tmp_path, secret=TEXT)


@pytest.fixture
async def database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/keys.db", directory=tmp_path) as database:
        await schema.upgrade(database)
        yield database


async def create(database: Database, settings: Settings, name: str) -> tuple[str, str]:
    made, key = await (await setup.keys_at_command_line(settings, database)).create(COMMAND_LINE, NewKey(name=name))
    return made.id, key


async def holder(database: Database, key: str) -> str | None:
    principal = await stored.find(database, apikeys.digest(key, SECRET))
    return None if principal is None else principal.name


async def test_a_created_key_is_found_and_listed(database, settings):
    key_id, key = await create(database, settings, "laptop")

    [listed] = await keys.list_all(database)

    assert await holder(database, key) == "laptop"
    assert (listed.id, listed.name, listed.hint, listed.revoked_at) == (key_id, "laptop", apikeys.hint(key), None)
    assert timedelta(0) <= datetime.now(UTC) - listed.created_at < timedelta(seconds=10)


@pytest.mark.parametrize("name", ["", " ", "\t", "x" * 201, "red \x1b[31m", "two\nlines", "left\u202eright"])
async def test_a_name_that_cannot_be_listed_is_refused(database, name, settings):
    with pytest.raises(BadRequest) as refused:
        await create(database, settings, name)

    assert refused.value.param == "name"
    assert await keys.list_all(database) == []


async def test_a_name_may_be_in_any_language_and_two_keys_may_share_one(database, settings):
    for _ in range(2):
        await create(database, settings, "Ноутбук Ады 🦆 " + "x" * 180)

    assert len(await keys.list_all(database)) == 2


async def test_a_revoked_key_is_found_no_more_and_stays_listed(database, settings):
    key_id, key = await create(database, settings, "stolen")

    await Keys(database, SECRET).revoke(COMMAND_LINE, key_id)

    [listed] = await keys.list_all(database)
    assert await holder(database, key) is None
    assert listed.revoked_at is not None
    assert listed.revoked_at >= listed.created_at


async def test_a_key_is_revoked_once(database, settings):
    key_id, _ = await create(database, settings, "stolen")
    await Keys(database, SECRET).revoke(COMMAND_LINE, key_id)
    [before] = await keys.list_all(database)
    time.sleep(0.001)

    with pytest.raises(NotFound):
        await Keys(database, SECRET).revoke(COMMAND_LINE, key_id)

    assert await keys.list_all(database) == [before]


async def test_no_key_is_made_where_the_secret_of_the_others_is_lost(database, tmp_path):
    first = settings_of(tmp_path)
    await create(database, first, "before")
    (tmp_path / "secret").unlink()

    with pytest.raises(SystemExit, match="the secret that the other keys were made with is not here"):
        await create(database, first, "after")
    await create(database, settings_of(tmp_path, secret=TEXT), "under a secret of the operator's")

    assert not (tmp_path / "secret").exists()
    assert [key.name for key in await keys.list_all(database)] == ["before", "under a secret of the operator's"]


async def test_the_first_key_is_made_only_where_there_is_none(database):
    key = await setup.ensure_first(database, SECRET, None)
    again = await setup.ensure_first(database, SECRET, None)

    assert key is not None
    assert await holder(database, key) == "first"
    assert again is None
    assert len(await keys.list_all(database)) == 1


async def test_the_operators_own_key_is_stored_once_and_never_returned(database):
    returned = [await setup.ensure_first(database, SECRET, OWN) for _ in range(2)]

    [listed] = await keys.list_all(database)
    assert returned == [None, None]
    assert await holder(database, OWN) == "from AI_PROXY_API_KEY"
    assert listed.hint == "…"


async def test_the_operators_own_key_stays_revoked(database):
    await setup.ensure_first(database, SECRET, OWN)
    [listed] = await keys.list_all(database)
    await Keys(database, SECRET).revoke(COMMAND_LINE, listed.id)

    await setup.ensure_first(database, SECRET, OWN)

    assert await holder(database, OWN) is None


@pytest.fixture(params=[OWN, apikeys.new_key()], ids=["made up", "generated"])
def given(request):
    """The key of AI_PROXY_API_KEY, which may have been one of ours before."""
    return request.param


async def test_the_operators_own_key_is_not_rotated_where_it_is_known(database, given):
    await setup.ensure_first(database, SECRET, given)
    [listed] = await keys.list_all(database)

    with pytest.raises(Conflict, match="AI_PROXY_API_KEY"):
        await Keys(database, SECRET, given=given).rotate(COMMAND_LINE, listed.id)

    assert await holder(database, given) == "from AI_PROXY_API_KEY"


async def test_the_operators_own_key_is_revoked_for_good(database, given):
    await setup.ensure_first(database, SECRET, given)
    [listed] = await keys.list_all(database)

    await Keys(database, SECRET, given=given).revoke(COMMAND_LINE, listed.id)
    with capture_logs() as log:
        await setup.ensure_first(database, SECRET, given)

    assert await holder(database, given) is None
    assert ["set one that works" in line["event"] for line in log] == [True]


@pytest.mark.parametrize("overlap", [0, 60])
async def test_a_key_that_was_rotated_does_not_come_back_at_a_start_that_is_given_it(database, overlap):
    service = Keys(database, SECRET, lambda: time.time_ns() - 61 * 10**9)
    made, key = await service.create(COMMAND_LINE, NewKey(name="leaked"))
    await service.rotate(COMMAND_LINE, made.id, overlap)

    with capture_logs() as log:
        await setup.ensure_first(database, SECRET, key)

    found = await stored.find(database, apikeys.digest(key, SECRET))
    assert [listed.name for listed in await keys.list_all(database)] == ["leaked"]
    assert found is None or found.expires_at < time.time_ns() // 1000
    assert ["set one that works" in line["event"] for line in log] == [True]


async def test_a_secret_that_ended_at_once_has_no_end_to_tell_of(database):
    service = Keys(database, SECRET)
    made, key = await service.create(COMMAND_LINE, NewKey(name="leaked"))

    rotated, _ = await service.rotate(COMMAND_LINE, made.id)

    assert rotated.former_until is None
    assert await holder(database, key) is None
