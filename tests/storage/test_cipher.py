"""Texts that are encrypted in the database: who can read them, and what becomes of those that nobody can."""

import base64
import threading

import pytest

from ai_proxy.core.privacy import EncryptionSettings
from ai_proxy.core.types import Exchange, KeptAnswer
from ai_proxy.storage import conversations, idempotency, keys, records, remarks, responses, schema, spooled, texts
from ai_proxy.storage.cipher import Cipher, Undecipherable
from ai_proxy.storage.engine import Database
from tests import stores

OLD, NEW = b"o" * 32, b"n" * 32
ROTATED = Cipher([NEW, OLD])
CANARY = "a-question-of-privacy"


def exchange(identifier: str, **fields) -> Exchange:
    given = {"key_id": "key", "question": CANARY, "answer": CANARY, "model": "m", "conversation_id": None}
    bodies = {"request": f'["{CANARY}"]'.encode(), "response": f'["{CANARY}"]'.encode(), "response_id": identifier}
    return Exchange(id=identifier, created_at=1, started=0.0, **{**given, **bodies, **fields})


async def prepare(database: Database) -> None:
    await schema.upgrade(database)
    await keys.add(database, key_id="key", name="key", digest="d", hint="h", created_at=1)


async def write(store, cipher: Cipher | None, *exchanges: Exchange) -> None:
    async with store.database(cipher=cipher) as database:
        await prepare(database)
        await records.add(database, exchanges)


async def read(store, cipher: Cipher | None) -> list[tuple]:
    async with store.database(cipher=cipher) as database:
        return [(row.id, row.question, row.answer) for row in await stores.page(database)]


def test_what_was_encrypted_can_be_decrypted():
    cipher = Cipher([NEW])

    assert (
        cipher.decrypt(cipher.encrypt("\u043f\u0440\u0438\u0432\u0435\u0442 \U0001f600"))
        == "\u043f\u0440\u0438\u0432\u0435\u0442 \U0001f600"
    )
    assert cipher.decrypt(cipher.encrypt("")) == ""
    assert cipher.decrypt_bytes(cipher.encrypt_bytes(b"\x00\xff")) == b"\x00\xff"


def test_the_same_text_is_never_encrypted_to_the_same():
    assert Cipher([NEW]).encrypt("x") != Cipher([NEW]).encrypt("x")


def test_after_a_rotation_both_keys_read_and_the_new_one_writes():
    old, new = Cipher([OLD]), Cipher([NEW])

    assert ROTATED.decrypt(old.encrypt("x")) == "x"
    assert new.decrypt(ROTATED.encrypt("x")) == "x"


def test_another_key_and_damage_are_told():
    secret = Cipher([NEW]).encrypt_bytes(b"secret")

    for data in (secret[:-1], secret[:-1] + b"\x00" + secret[-1:], secret[:10], b"", b"plain", b"\x01plain"):
        with pytest.raises(Undecipherable):
            Cipher([NEW]).decrypt_bytes(data)
    with pytest.raises(Undecipherable):
        Cipher([OLD]).decrypt_bytes(secret)
    with pytest.raises(Undecipherable):
        Cipher([NEW]).decrypt("x")


def test_keys_come_from_the_settings():
    key = base64.urlsafe_b64encode(NEW).decode()

    cipher = Cipher.of(EncryptionSettings(keys=f"{key}, {base64.urlsafe_b64encode(OLD).decode()}"))

    assert cipher.decrypt(Cipher([OLD]).encrypt("x")) == "x"
    assert Cipher.of(EncryptionSettings()) is None


@pytest.mark.parametrize("key", ["short", "x" * 44, base64.b64encode(b"x" * 31).decode(), "\u043a\u043b\u044e\u0447"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="new-encryption-key"):
        EncryptionSettings(keys=[key])


@pytest.mark.anyio
async def test_texts_are_unreadable_in_the_database_and_readable_with_the_key(store):
    await write(store, ROTATED, exchange("1"), exchange("2", request=None, response=None))

    stored = str(store.query("select question, answer, texts from exchanges")) + str(
        [bytes(value) for row in store.query("select request, response from bodies") for value in row]
    )
    assert CANARY not in stored
    assert stored.count("'encrypted'") == 2
    assert await read(store, ROTATED) == [("2", CANARY, CANARY), ("1", CANARY, CANARY)]


class Observed(Cipher):
    """Knows in which threads it has encrypted."""

    def __init__(self, keys) -> None:
        super().__init__(keys)
        self.threads: set[threading.Thread] = set()

    def encrypt(self, text: str) -> str:
        self.threads.add(threading.current_thread())
        return super().encrypt(text)


@pytest.mark.anyio
@pytest.mark.parametrize(("length", "elsewhere"), [(1000, False), (60_000, True)])
async def test_nobody_waits_while_long_texts_are_encrypted(store, length, elsewhere):
    cipher = Observed([NEW])
    text = "x" * length

    await write(store, cipher, exchange("1", question=text), exchange("2", answer=text))

    assert (threading.current_thread() not in cipher.threads) == elsewhere
    assert await read(store, cipher) == [("2", CANARY, text), ("1", text, CANARY)]


@pytest.mark.anyio
async def test_they_are_not_noted_for_the_index_of_words(store):
    await write(store, ROTATED, exchange("1"))
    await write(store, None, exchange("2"))

    assert [row[0] for row in store.query("select exchange_id from unindexed")] == ["2"]


@pytest.mark.anyio
async def test_rows_from_before_stay_readable(store):
    await write(store, None, exchange("1"))
    await write(store, Cipher([OLD]), exchange("2"))
    await write(store, ROTATED, exchange("3"))

    assert await read(store, ROTATED) == [(identifier, CANARY, CANARY) for identifier in "321"]


@pytest.mark.anyio
@pytest.mark.parametrize("cipher", [None, Cipher([NEW])], ids=["none", "another"])
async def test_without_the_key_texts_are_empty_and_all_else_is_there(store, cipher):
    await write(store, Cipher([OLD]), exchange("1", conversation_id="c"))

    assert await read(store, cipher) == [("1", "", "")]
    async with store.database(cipher=cipher) as database:
        assert await responses.find(database, "key", "1") is None
        assert await responses.find_turn(database, "key", "1") is None
        turns = await conversations.earlier(database, "key", "c", budget=1000)
    assert turns == []


@pytest.mark.anyio
async def test_responses_and_conversations_are_decrypted(store):
    await write(store, ROTATED, exchange("1", conversation_id="c"))

    async with store.database(cipher=ROTATED) as database:
        assert await responses.find(database, "key", "1") == f'["{CANARY}"]'.encode()
        assert (await responses.find_turn(database, "key", "1")).request == f'["{CANARY}"]'.encode()
        turns = await conversations.earlier(database, "key", "c", budget=1000)
    assert [(turn.question, turn.answer) for turn in turns] == [(CANARY, CANARY)]


def kept(body: bytes = CANARY.encode()) -> KeptAnswer:
    return KeptAnswer(key="once", digest="d", body=body, headers={}, exchange_id="1")


@pytest.mark.anyio
async def test_an_answer_under_an_idempotency_key_is_encrypted_too(store):
    await write(store, ROTATED, exchange("1", kept=kept()))

    [[body]] = store.query("select body from idempotent_answers")
    assert CANARY.encode() not in bytes(body)
    for cipher, found in ((ROTATED, kept()), (None, None)):
        async with store.database(cipher=cipher) as database:
            assert await idempotency.find(database, "key", "once", now=2) == found


@pytest.mark.anyio
@pytest.mark.parametrize("cipher", [None, ROTATED], ids=["plain", "encrypted"])
async def test_of_a_call_whose_texts_are_not_kept_there_are_figures_alone(store, cipher):
    await write(store, cipher, exchange("1", keep_texts=False, kept=kept()))

    assert [tuple(row) for row in store.query("select question, answer, texts from exchanges")] == [("", "", "none")]
    others = "select 1 from bodies union select 1 from idempotent_answers union select 1 from unindexed"
    assert not store.query(others)
    assert len(store.query("select * from daily_usage")) == 1


@pytest.mark.anyio
async def test_comments_are_encrypted(store):
    feedback = {"exchange_id": "1", "thumb": 1, "score": None, "comment": CANARY, "user_id": "u", "created_at": 1}
    await write(store, ROTATED, exchange("1"))
    async with store.database(cipher=ROTATED) as database, database.transaction() as connection:
        await remarks.set_feedback(database, connection, feedback)
        found = await remarks.of(database, connection, ["1"])

    assert found["1"].feedback.comment == CANARY
    assert CANARY not in str(store.query("select comment from feedback"))
    async with store.database() as database, database.transaction() as connection:
        found = await remarks.of(database, connection, ["1"])
    assert (found["1"].feedback.thumb, found["1"].feedback.comment) == (1, None)


@pytest.mark.parametrize("cipher", [None, ROTATED], ids=["plain", "encrypted"])
def test_a_text_that_looks_encrypted_is_not_taken_for_it(cipher):
    assert texts.opened(cipher, texts.sealed(cipher, "\x01AAAA")) == ("AAAA" if cipher is None else "\x01AAAA")
    assert texts.sealed(cipher, None) is None


# What waits in the spool.


def test_a_row_on_its_way_is_encrypted():
    payload = spooled.encoded(exchange("1", kept=kept()), ROTATED)

    assert CANARY.encode() not in payload
    assert CANARY.encode() not in spooled.line(exchange("1"), ROTATED)
    assert spooled.decoded(payload, ROTATED).kept == kept()
    for cipher in (None, Cipher([b"x" * 32])):
        with pytest.raises(ValueError, match=r"key|^$"):
            spooled.decoded(payload, cipher)


def test_a_row_on_its_way_has_no_texts_if_none_are_kept():
    payload = spooled.encoded(exchange("1", keep_texts=False, kept=kept()), None)

    assert CANARY.encode() not in payload
    assert not spooled.decoded(payload, None).keep_texts
