"""Passwords, with the real argon2."""

import asyncio
import re
import time

import pytest

from ai_proxy.core.exceptions import BadRequest, LoginThrottled
from ai_proxy.services.passwords import MAX_LENGTH, Passwords

pytestmark = pytest.mark.anyio

GOOD = "correct horse battery"


@pytest.fixture
async def passwords():
    async with Passwords() as passwords:
        yield passwords


async def test_are_stored_as_argon2id_of_the_recommended_strength(passwords):
    stored = await passwords.hash(GOOD)

    assert re.match(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$", stored)
    assert GOOD not in stored


async def test_the_right_one_is_told_from_a_wrong_one(passwords):
    stored = await passwords.hash(GOOD)

    assert await passwords.verify(GOOD, stored) == (True, None)
    assert await passwords.verify(GOOD + "!", stored) == (False, None)


async def test_the_same_letters_written_otherwise_are_the_same_password(passwords):
    stored = await passwords.hash("caf\u00e9 caf\u00e9 caf\u00e9")

    assert (await passwords.verify("cafe\u0301 cafe\u0301 cafe\u0301", stored))[0]


async def test_a_weaker_hash_is_renewed_when_the_password_is_right(passwords):
    async with Passwords(memory=1024) as former:
        weak = await former.hash(GOOD)

    right, renewed = await passwords.verify(GOOD, weak)

    assert right
    assert "m=19456" in renewed
    assert await passwords.verify("wrong", weak) == (False, None)


@pytest.mark.parametrize("password", ["short", "x" * 11, "x" * (MAX_LENGTH + 1), ""])
async def test_too_short_and_too_long_ones_are_refused(passwords, password):
    with pytest.raises(BadRequest, match="12 to 1024 characters") as caught:
        await passwords.hash(password)

    assert caught.value.param == "password"


@pytest.mark.parametrize("password", ["x" * 12, "x" * MAX_LENGTH, "\ud83d" * 12])
async def test_those_at_the_limits_are_taken(passwords, password):
    assert await passwords.hash(password)


@pytest.mark.parametrize("stored", [None, "no hash at all", "$argon2id$v=19$m=8,t=1,p=1$x"])
async def test_nobody_has_the_password_where_none_is_stored(passwords, stored):
    assert await passwords.verify("", stored) == (False, None)
    assert await passwords.verify("x" * 10_000_000, stored) == (False, None)


async def test_an_unknown_user_takes_as_long_as_a_known_one(passwords):
    stored = await passwords.hash(GOOD)
    await passwords.verify("wrong", None)

    times = [(await _time(passwords, stored), await _time(passwords, None)) for _ in range(7)]

    known, unknown = map(min, zip(*times, strict=True))
    assert 0.5 < unknown / known < 2


async def _time(passwords, stored) -> float:
    began = time.perf_counter()
    await passwords.verify("wrong", stored)
    return time.perf_counter() - began


async def test_more_than_can_wait_are_refused_and_the_others_served():
    async with Passwords(memory=1024, max_waiting=3) as passwords:
        results = await asyncio.gather(*(passwords.verify("x", None) for _ in range(5)), return_exceptions=True)

        refused = [result for result in results if isinstance(result, LoginThrottled)]
        assert len(refused) == 2
        assert refused[0].retry_after == 5
        assert await passwords.verify("x", None) == (False, None)
