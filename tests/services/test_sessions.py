"""Logins, by a clock that the test moves, on a real database."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from ai_proxy.core import apikeys
from ai_proxy.core.exceptions import (
    BadRequest,
    Conflict,
    LoginThrottled,
    NotFound,
    NotSignedIn,
    PermissionDenied,
    Unauthenticated,
)
from ai_proxy.core.groups import SessionSettings
from ai_proxy.core.types import COMMAND_LINE, Principal
from ai_proxy.services import users
from ai_proxy.services.accounts import Accounts, Caller, new_setup_token
from ai_proxy.services.passwords import Passwords
from ai_proxy.services.users import Change
from ai_proxy.storage import schema
from ai_proxy.storage import sessions as stored
from ai_proxy.storage.engine import Database

pytestmark = pytest.mark.anyio

SECRET = b"s" * 64
PASSWORD, OTHER = "correct horse battery", "another staple entirely"
WRONG = r"^The name or the password is wrong: an administrator can set a new password\.$"
HERE = Caller("192.0.2.1", "a browser", "request-1")
IDLE, LIFETIME = 600, 6000  # seconds


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000 * 10**9

    def __call__(self) -> int:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 10**9)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def database(tmp_path):
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", directory=tmp_path) as database:
        await schema.upgrade(database)
        yield database


@pytest.fixture
async def accounts(database, clock):
    settings = SessionSettings(idle_timeout=IDLE, lifetime=LIFETIME)
    async with Accounts(database, SECRET, settings, clock) as accounts:
        yield accounts


@pytest.fixture
async def alice(accounts, database):
    hashed = await accounts.passwords.hash(PASSWORD)
    return await users.create(database, COMMAND_LINE, "alice", role="admin", password=hashed)


@pytest.fixture
async def bob(accounts, database):
    return await users.create(database, COMMAND_LINE, "bob", password=await accounts.passwords.hash(PASSWORD))


async def test_a_login_is_known_by_its_token_alone(accounts, alice, tmp_path):
    actor, token = await accounts.login(" ALICE", PASSWORD, HERE)

    found = await accounts.sessions.actor(token)

    assert (found.user_id, found.name, found.role) == (alice.id, "alice", "admin")
    assert found.session_id == actor.session_id
    assert await accounts.sessions.actor(actor.session_id) is None
    assert await accounts.sessions.actor("x" * 10_000) is None
    with closing(sqlite3.connect(tmp_path / "x.db")) as rows:
        assert token not in "\n".join(rows.iterdump())


async def test_each_login_is_a_new_session(accounts, alice):
    tokens = {(await accounts.login("alice", PASSWORD, HERE))[1] for _ in range(4)}

    assert len(tokens) == 4
    assert all(len(token) == 43 for token in tokens)  # 256 bits


@pytest.mark.parametrize(("name", "password"), [("alice", OTHER), ("nobody", PASSWORD), ("operator", ""), ("", "")])
async def test_wrong_names_and_wrong_passwords_are_answered_alike(accounts, alice, name, password):
    with pytest.raises(NotSignedIn, match=WRONG):
        await accounts.login(name, password, HERE)


async def test_a_session_ends_when_it_is_not_used(accounts, alice, clock):
    _, token = await accounts.login("alice", PASSWORD, HERE)

    clock.wait(IDLE + 1)

    assert await accounts.sessions.actor(token) is None


async def test_a_session_that_is_used_lives_until_its_absolute_end(accounts, alice, clock):
    _, token = await accounts.login("alice", PASSWORD, HERE)
    lived = 0
    while await accounts.sessions.actor(token) is not None:
        clock.wait(IDLE / 2)
        lived += IDLE / 2

    assert lived == LIFETIME


async def test_when_it_was_seen_is_written_once_a_minute(accounts, alice, clock):
    actor, token = await accounts.login("alice", PASSWORD, HERE)
    began = clock.now / 10**9
    seen = []
    for _ in range(4):
        clock.wait(25)
        await accounts.sessions.actor(token)
        [session] = await accounts.sessions.of(actor)
        seen.append(session.seen_at.timestamp() - began)

    assert seen == [0, 0, 75, 75]


async def test_a_session_that_was_ended_is_over(accounts, alice):
    actor, token = await accounts.login("alice", PASSWORD, HERE)

    await accounts.sessions.end(actor, actor.session_id)

    assert await accounts.sessions.actor(token) is None
    assert await accounts.sessions.of(actor) == []
    with pytest.raises(NotFound):
        await accounts.sessions.end(actor, actor.session_id)


async def test_one_sees_and_ends_ones_own_sessions_and_an_administrator_all(accounts, alice, bob):
    admin, _ = await accounts.login("alice", PASSWORD, HERE)
    member, token = await accounts.login("bob", PASSWORD, HERE)

    with pytest.raises(NotFound):
        await accounts.sessions.end(member, admin.session_id)
    with pytest.raises(PermissionDenied):
        await accounts.sessions.of(member, alice.id)
    [seen] = await accounts.sessions.of(admin, bob.id)
    await accounts.sessions.end(admin, seen.id)

    assert (seen.address, seen.agent, seen.current) == ("192.0.2.1", "a browser", False)
    assert await accounts.sessions.actor(token) is None


@pytest.mark.parametrize("change", [Change(role="viewer"), Change(disabled=True), Change(password="$argon2id$x")])
async def test_a_change_of_the_user_ends_all_sessions(accounts, database, alice, bob, change):
    _, token = await accounts.login("bob", PASSWORD, HERE)

    await users.change(database, COMMAND_LINE, bob.id, change)

    assert await accounts.sessions.actor(token) is None


async def test_a_new_password_ends_the_other_sessions(accounts, bob):
    _, elsewhere = await accounts.login("bob", PASSWORD, HERE)
    actor, token = await accounts.login("bob", PASSWORD, HERE)

    await accounts.change_password(actor, PASSWORD, OTHER)

    assert await accounts.sessions.actor(elsewhere) is None
    assert await accounts.sessions.actor(token) is not None
    assert await accounts.login("bob", OTHER, HERE)
    with pytest.raises(NotSignedIn):
        await accounts.login("bob", PASSWORD, HERE)


async def test_a_new_password_needs_the_old_one_and_few_tries_are_allowed(accounts, bob):
    actor, _ = await accounts.login("bob", PASSWORD, HERE)

    for _ in range(5):
        with pytest.raises(BadRequest, match="old_password: is wrong"):
            await accounts.change_password(actor, OTHER, OTHER)
    with pytest.raises(LoginThrottled):
        await accounts.change_password(actor, PASSWORD, OTHER)


async def test_an_administrators_password_is_not_overwritten_by_a_change_that_had_begun(accounts, database, bob):
    actor, _ = await accounts.login("bob", PASSWORD, HERE)
    change = asyncio.ensure_future(accounts.change_password(actor, PASSWORD, "a thief's own password"))
    while not accounts.passwords._waiting:
        await asyncio.sleep(0)
    await users.change(database, COMMAND_LINE, bob.id, Change(password="$argon2id$of-the-administrator"))

    with pytest.raises(Conflict):
        await change
    with pytest.raises(NotSignedIn):
        await accounts.login("bob", "a thief's own password", HERE)


async def test_a_new_password_that_will_not_do_is_refused_by_its_name(accounts, bob):
    actor, _ = await accounts.login("bob", PASSWORD, HERE)

    with pytest.raises(BadRequest) as caught:
        await accounts.change_password(actor, PASSWORD, "short")

    assert caught.value.param == "new_password"


async def test_who_has_no_password_cannot_change_it(accounts):
    with pytest.raises(Conflict, match="has no password"):
        await accounts.change_password(COMMAND_LINE, "", OTHER)


async def test_a_disabled_user_cannot_sign_in_nor_act_with_a_key(accounts, database, alice, bob):
    await users.change(database, COMMAND_LINE, bob.id, Change(disabled=True))

    with pytest.raises(NotSignedIn, match="The name or the password is wrong"):
        await accounts.login("bob", PASSWORD, HERE)
    with pytest.raises(Unauthenticated, match="disabled"):
        await accounts.holder(Principal(key_id="k", name="k", user_id=bob.id, role="member"))


async def test_a_key_acts_with_the_role_that_its_user_has_now(accounts, database, alice, bob):
    await users.change(database, COMMAND_LINE, bob.id, Change(role="viewer"))

    actor = await accounts.holder(Principal(key_id="k", name="laptop", user_id=bob.id, role="admin"))

    assert (actor.name, actor.role, actor.key_id) == ("bob", "viewer", "k")


# The throttle


async def failures(accounts, times: int, name="alice", address="203.0.113.9") -> int:
    """How many wrong logins were looked at; the others were throttled."""
    caller = Caller(address)
    results = [accounts.login(name, "wrong", caller) for _ in range(times)]
    found = await asyncio.gather(*results, return_exceptions=True)
    return sum(isinstance(result, NotSignedIn) for result in found)


async def test_unknown_names_are_throttled_as_known_ones(accounts, alice):
    assert await failures(accounts, 30, "alice", "203.0.113.1") == 5
    assert await failures(accounts, 30, "nobody", "203.0.113.2") == 5


async def test_an_administrator_gets_in_from_home_while_others_guess(accounts, alice):
    await accounts.login("alice", PASSWORD, HERE)
    await failures(accounts, 30)

    with pytest.raises(LoginThrottled):
        await accounts.login("alice", PASSWORD, Caller("198.51.100.1"))

    assert await accounts.login("alice", PASSWORD, HERE)


async def test_a_new_password_from_the_command_line_takes_nobodys_home_away(accounts, database, alice):
    await accounts.login("alice", PASSWORD, HERE)
    await users.change(database, COMMAND_LINE, alice.id, Change(password=await accounts.passwords.hash(OTHER)))
    await failures(accounts, 30)

    assert await accounts.login("alice", OTHER, HERE)


async def test_tries_that_nobody_had_time_for_do_not_count(accounts, alice):
    patient, accounts.passwords = accounts.passwords, Passwords(max_waiting=0)
    for _ in range(30):
        with pytest.raises(LoginThrottled, match="Too many people"):
            await accounts.login("alice", PASSWORD, HERE)
    await accounts.passwords.__aexit__()
    accounts.passwords = patient

    assert await accounts.login("alice", PASSWORD, HERE)


async def test_a_restart_forgives_nobody(accounts, database, alice):
    await failures(accounts, 30)

    async with Accounts(database, SECRET, SessionSettings()) as restarted:
        await restarted.recall()
        with pytest.raises(LoginThrottled):
            await restarted.login("alice", PASSWORD, Caller("203.0.113.9"))


# The first administrator


async def test_of_two_who_use_the_token_at_once_one_is_made_administrator(accounts, database, clock):
    token = await new_setup_token(database, SECRET)
    clock.now = 0

    results = await asyncio.gather(
        *(accounts.set_up(token, name, PASSWORD, HERE) for name in ("alice", "mallory")), return_exceptions=True
    )

    [made] = [result for result in results if not isinstance(result, Exception)]
    assert made.role == "admin"
    assert sorted(type(result).__name__ for result in results) == ["PermissionDenied", "User"]


async def test_the_token_expires(accounts, database, clock):
    token = await new_setup_token(database, SECRET)
    clock.now = 2**62  # long after

    with pytest.raises(PermissionDenied, match="expired"):
        await accounts.set_up(token, "alice", PASSWORD, HERE)


async def test_a_wrong_token_is_refused(accounts, database, clock):
    await new_setup_token(database, SECRET)
    clock.now = 0

    with pytest.raises(PermissionDenied, match="wrong"):
        await accounts.set_up("guess", "alice", PASSWORD, HERE)


@pytest.mark.parametrize(("name", "password"), [("alice", "short"), ("", PASSWORD), ("operator", PASSWORD)])
async def test_a_mistake_does_not_use_the_token_up(accounts, database, clock, name, password):
    token = await new_setup_token(database, SECRET)
    clock.now = 0
    with pytest.raises((BadRequest, Conflict)):
        await accounts.set_up(token, name, password, HERE)

    assert await accounts.set_up(token, "alice", PASSWORD, HERE)


async def test_the_token_is_useless_once_there_is_an_administrator(accounts, database, clock):
    token = await new_setup_token(database, SECRET)
    clock.now = 0
    await users.create(database, COMMAND_LINE, "alice", role="admin", password="$argon2id$x")

    with pytest.raises(PermissionDenied):
        await accounts.set_up(token, "mallory", PASSWORD, HERE)
    assert await new_setup_token(database, SECRET) is None


async def test_the_token_is_useless_once_somebody_with_a_password_becomes_administrator(accounts, database, bob, clock):
    token = await pending_token(database)
    clock.now = 0
    await users.change(database, COMMAND_LINE, bob.id, Change(role="admin"))

    with pytest.raises(PermissionDenied):
        await accounts.set_up(token, "mallory", PASSWORD, HERE)


async def pending_token(database) -> str:
    """A token that was made before anybody had a password."""
    async with database.changing() as connection:
        digest = apikeys.digest("pending", SECRET)
        await stored.add_setup_token(connection, digest=digest, expires_at=2**62)
    return "pending"
