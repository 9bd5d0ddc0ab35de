"""API keys answered from memory, with a fake in place of the database."""

import asyncio

import pytest

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import DatabaseUnavailable, Unauthenticated
from ai_proxy.core.types import Principal
from ai_proxy.gateway.auth import KeyRing, Memory, key_from

pytestmark = pytest.mark.anyio

SECRET = apikeys.hashing_secret("a secret of the server")


class Keys:
    """Finds keys as the database would, and notes the questions."""

    def __init__(self, *keys: str) -> None:
        self.holders = {apikeys.digest(key, SECRET): Principal(key_id=f"id of {key}", name=key) for key in keys}
        self.questions = 0
        self.away = False
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, digest: str) -> Principal | None:
        self.questions += 1
        await self.open.wait()
        if self.away:
            message = "away"
            raise DatabaseUnavailable(message)
        return self.holders.get(digest)

    def revoke(self, key: str) -> None:
        del self.holders[apikeys.digest(key, SECRET)]


def ring(keys: Keys, *, ttl: float = 5.0, size: int = 10_000, **settings) -> KeyRing:
    return KeyRing(keys, secret=SECRET, memory=Memory(ttl, size), **settings)


async def refused(keyring: KeyRing, key: str | None) -> bool:
    try:
        await keyring.authenticate(key)
    except Unauthenticated:
        return True
    return False


async def test_knows_whose_key_it_is():
    keyring = ring(Keys("alice", "bob"))

    assert await keyring.authenticate("bob") == Principal(key_id="id of bob", name="bob")


async def test_asks_the_database_once_for_many_calls():
    keys = Keys("alice")
    keyring = ring(keys)

    for _ in range(10):
        await keyring.authenticate("alice")

    assert keys.questions == 1


async def test_callers_who_come_at_the_same_time_share_the_question():
    keys = Keys("alice")
    keys.open.clear()
    keyring = ring(keys)
    calls = [asyncio.create_task(keyring.authenticate("alice")) for _ in range(10)]
    await asyncio.sleep(0.01)
    keys.open.set()

    found = await asyncio.gather(*calls)

    assert set(found) == {Principal(key_id="id of alice", name="alice")}
    assert keys.questions == 1


async def test_a_caller_who_leaves_does_not_take_the_question_with_him():
    keys = Keys("alice")
    keys.open.clear()
    keyring = ring(keys)
    leaving, staying = (asyncio.create_task(keyring.authenticate("alice")) for _ in range(2))
    await asyncio.sleep(0.01)

    leaving.cancel()
    keys.open.set()

    assert (await staying).name == "alice"
    assert keys.questions == 1


async def test_asks_again_when_the_time_is_over_and_notices_a_revoked_key():
    keys = Keys("alice")
    keyring = ring(keys, ttl=0.3)
    await keyring.authenticate("alice")
    keys.revoke("alice")

    at_once = await refused(keyring, "alice")
    await asyncio.sleep(0.31)
    later = await refused(keyring, "alice")

    assert (at_once, later) == (False, True)


async def test_a_revoked_key_is_not_taken_back_when_the_database_goes_away():
    keys = Keys("alice")
    keyring = ring(keys, ttl=0.02)
    await keyring.authenticate("alice")
    keys.revoke("alice")
    await asyncio.sleep(0.03)
    assert await refused(keyring, "alice")
    keys.away = True

    await asyncio.sleep(0.03)

    with pytest.raises(DatabaseUnavailable):
        await keyring.authenticate("alice")


async def test_an_unknown_key_is_asked_for_once_in_a_while():
    keys = Keys()
    keyring = ring(keys, ttl=0.3)

    assert [await refused(keyring, "eve") for _ in range(5)] == [True] * 5
    assert keys.questions == 1
    await asyncio.sleep(0.31)
    assert await refused(keyring, "eve")
    assert keys.questions == 2


async def test_a_key_that_was_unknown_works_once_it_is_there():
    keys = Keys()
    keyring = ring(keys, ttl=0.02)
    assert await refused(keyring, "alice")
    keys.holders = Keys("alice").holders

    await asyncio.sleep(0.03)

    assert (await keyring.authenticate("alice")).name == "alice"


async def test_any_number_of_unknown_keys_does_not_drive_out_a_known_one():
    keys = Keys("alice")
    keyring = ring(keys, size=10)
    await keyring.authenticate("alice")
    for number in range(100):
        assert await refused(keyring, f"eve {number}")
    asked = keys.questions

    await keyring.authenticate("alice")

    assert keys.questions == asked


async def test_no_more_unknown_keys_are_remembered_than_there_is_room_for():
    keys = Keys()
    keyring = ring(keys, size=10)
    for number in range(11):
        await refused(keyring, f"eve {number}")

    await refused(keyring, "eve 10")
    last = keys.questions
    await refused(keyring, "eve 0")

    assert last == 11
    assert keys.questions == 12


async def test_no_more_known_keys_are_remembered_than_there_is_room_for():
    names = [f"user {number}" for number in range(11)]
    keys = Keys(*names)
    keyring = ring(keys, size=10)
    for name in names:
        await keyring.authenticate(name)

    await keyring.authenticate("user 10")
    last = keys.questions
    await keyring.authenticate("user 0")

    assert last == 11
    assert keys.questions == 12


async def test_the_keys_that_are_asked_for_most_are_the_last_to_be_forgotten():
    names = [f"user {number}" for number in range(10)]
    keys = Keys("busy", *names, "one too many")
    keyring = ring(keys, size=11, ttl=0.2)
    await keyring.authenticate("busy")
    for name in names:
        await keyring.authenticate(name)
    await asyncio.sleep(0.21)
    await keyring.authenticate("busy")
    await keyring.authenticate("one too many")
    keys.away = True

    still_known = await keyring.authenticate("busy")
    with pytest.raises(DatabaseUnavailable):
        await keyring.authenticate("user 0")

    assert still_known.name == "busy"


async def test_a_known_key_goes_on_working_while_the_database_is_away():
    keys = Keys("alice")
    keyring = ring(keys, ttl=0.02)
    await keyring.authenticate("alice")
    keys.away = True
    await asyncio.sleep(0.03)

    assert (await keyring.authenticate("alice")).name == "alice"


async def test_an_unknown_key_is_not_called_wrong_while_the_database_is_away():
    keys = Keys("alice")
    keys.away = True

    with pytest.raises(DatabaseUnavailable):
        await ring(keys).authenticate("alice")


async def test_the_answer_that_never_came_is_not_remembered():
    keys = Keys("alice")
    keyring = ring(keys)
    keys.away = True
    with pytest.raises(DatabaseUnavailable):
        await keyring.authenticate("alice")

    keys.away = False

    assert (await keyring.authenticate("alice")).name == "alice"


class Clock:
    """The time of day, in seconds since the epoch."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def expiring(at: float) -> Keys:
    keys = Keys("alice")
    keys.holders = {
        digest: Principal(key_id=holder.key_id, name=holder.name, expires_at=int(at * 1_000_000))
        for digest, holder in keys.holders.items()
    }
    return keys


async def test_a_known_key_is_refused_from_the_moment_it_expires():
    clock, keys = Clock(), expiring(1001)
    keyring = ring(keys, clock=clock)
    await keyring.authenticate("alice")

    clock.now = 1001.0

    with pytest.raises(Unauthenticated, match="has expired"):
        await keyring.authenticate("alice")
    assert keys.questions == 1


async def test_a_key_that_has_expired_before_it_is_first_used_is_refused():
    with pytest.raises(Unauthenticated, match="has expired"):
        await ring(expiring(999), clock=Clock()).authenticate("alice")


async def test_a_key_does_not_outlive_its_end_while_the_database_is_away():
    clock, keys = Clock(), expiring(1001)
    keyring = ring(keys, ttl=0.02, clock=clock)
    await keyring.authenticate("alice")
    keys.away = True
    await asyncio.sleep(0.03)
    before = await keyring.authenticate("alice")

    clock.now = 1001.0
    at_once = await refused(keyring, "alice")
    await asyncio.sleep(0.03)
    later = await refused(keyring, "alice")

    assert (before.name, at_once, later) == ("alice", True, True)


async def test_after_clearing_a_revoked_key_is_refused_and_a_new_one_taken_at_once():
    keys = Keys("alice")
    keyring = ring(keys)
    await keyring.authenticate("alice")
    assert await refused(keyring, "bob")
    keys.holders = Keys("bob").holders

    keyring.clear()

    assert await refused(keyring, "alice")
    assert (await keyring.authenticate("bob")).name == "bob"


async def test_an_answer_from_before_the_clearing_is_not_remembered():
    keys = Keys("alice")
    keys.open.clear()
    keyring = ring(keys)
    early = asyncio.create_task(keyring.authenticate("alice"))
    await asyncio.sleep(0.01)

    keyring.clear()
    keys.open.set()
    await early

    keys.revoke("alice")
    assert await refused(keyring, "alice")
    assert keys.questions == 2


@pytest.mark.parametrize("key", [None, "", "aip_" + "0" * 49, "x" * 513])
async def test_what_cannot_be_a_key_is_refused_without_asking(key):
    keys = Keys()

    assert await refused(ring(keys), key)
    assert keys.questions == 0


async def test_the_operators_own_key_may_look_like_a_generated_one():
    own = "aip_" + "0" * 49
    keys = Keys(own)

    assert (await ring(keys, given=own).authenticate(own)).name == own


async def test_the_operators_own_key_may_look_like_a_mistyped_one():
    key = "aip_" + "0" * 49
    keys = Keys(key)

    assert await refused(ring(keys), key)
    assert (await ring(keys, given=key).authenticate(key)).name == key


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "key"),
    [
        ("Bearer mine", None, "mine"),
        ("bearer mine", None, "mine"),
        ("  BEARER   mine  ", None, "mine"),
        ("mine", None, "mine"),
        (None, "mine", "mine"),
        ("Bearer mine", "another", "mine"),
        ("Basic bWluZQ==", None, None),
        ("Bearer ", None, "Bearer"),
        ("", None, ""),
        (None, None, None),
    ],
)
def test_the_key_is_found_in_each_form(authorization, x_api_key, key):
    assert key_from(authorization, x_api_key) == key
