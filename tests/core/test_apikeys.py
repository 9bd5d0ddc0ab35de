"""API keys as plain values."""

import re

import pytest

from ai_proxy.core.apikeys import digest, hashing_secret, hint, is_mistyped, new_key

SECRET = hashing_secret("a secret of the server")


def test_a_new_key_has_the_promised_form():
    key = new_key()

    assert re.fullmatch(r"aip_[0-9A-Za-z]{49}", key)


def test_no_two_keys_are_alike():
    keys = {new_key() for _ in range(1000)}

    assert len(keys) == 1000


def test_a_generated_key_is_not_taken_for_mistyped():
    assert not any(is_mistyped(new_key()) for _ in range(1000))


def test_every_single_wrong_character_is_noticed():
    key = new_key()
    wrong = [
        key[:position] + ("a" if key[position] != "a" else "b") + key[position + 1 :] for position in range(4, len(key))
    ]

    assert all(is_mistyped(typed) for typed in wrong)


@pytest.mark.parametrize("key", ["aip_", "aip_x", "aip_" + "0" * 49, "aip_ключ-ключ"])
def test_what_only_begins_like_a_key_is_mistyped(key):
    assert is_mistyped(key)


def test_a_key_that_a_person_made_up_is_never_mistyped():
    assert not is_mistyped("correct horse battery staple")


def test_the_digest_depends_on_the_key_and_on_the_secret():
    key = new_key()

    found = {digest(key, SECRET), digest(new_key(), SECRET), digest(key, hashing_secret("another secret"))}

    assert len(found) == 3
    assert all(re.fullmatch(r"[0-9a-f]{64}", text) for text in found)


def test_the_digest_is_the_same_every_time():
    key = new_key()

    assert digest(key, SECRET) == digest(key, SECRET)


def test_a_hint_shows_seven_characters_at_the_front_and_four_at_the_end():
    key = new_key()

    assert hint(key) == f"{key[:7]}…{key[-4:]}"


def test_nothing_is_shown_of_a_key_that_a_person_made_up():
    assert hint("correct horse battery staple") == "…"
