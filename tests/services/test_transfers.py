"""Exports and imports on a database: what becomes of texts and bodies, and of lines that come in pieces."""

import json

import pytest

from ai_proxy.core import ids
from ai_proxy.core.exceptions import BadRequest, Unavailable
from ai_proxy.core.types import COMMAND_LINE, Exchange
from ai_proxy.services.days import DAY
from ai_proxy.services.exports import Export
from ai_proxy.services.imports import Import
from ai_proxy.services.times import moment, now
from ai_proxy.services.transfers import Transfers
from ai_proxy.services.visibility import Viewer
from ai_proxy.storage import filters, keys, records, schema
from ai_proxy.storage.cipher import Cipher
from ai_proxy.storage.engine import Database
from ai_proxy.storage.filters import Visible, Wanted

pytestmark = pytest.mark.anyio

CIPHER = Cipher([b"k" * 32])


async def prepared(database: Database) -> Database:
    await schema.upgrade(database)
    await keys.add(database, key_id="key", name="laptop", digest="d", hint="h", created_at=1)
    return database


@pytest.fixture
async def database(store):
    async with store.database() as database:
        yield await prepared(database)


def identifier(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012}"


def exchange(number: int, **fields) -> Exchange:
    given = {"key_id": "key", "question": "q", "model": "m", "conversation_id": None, **fields}
    return Exchange(id=identifier(number), created_at=1_700_000_000_123_456 + number, started=0.0, **given)


async def exported(database: Database, wanted: Wanted = Wanted(), *, form="jsonl", words=None) -> bytes:  # noqa: B008
    export = Export(database, Viewer(COMMAND_LINE), wanted, form=form, words=words)
    return b"".join([block async for block in export.all_blocks()])


async def imported(database: Database, content: bytes, *, size: int = 2**20, keep_texts: bool = True):
    arriving = Import(database, COMMAND_LINE, key=None, keep_texts=keep_texts)
    await arriving.begin()
    for start in range(0, len(content), size):
        await arriving.take(content[start : start + size])
    return await arriving.finish()


BODIES = [b'{"a": [1.50, 1e400, "\\u00e9"]}', b"no JSON", b"\xff\x00", b"null", b"", b'"text"', b"[" * 5000]


async def test_bodies_of_any_kind_come_back_as_they_were(store, database, tmp_path):
    await records.add(database, [exchange(n, request=b"{}", response=body) for n, body in enumerate(BODIES)])
    content = await exported(database)
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/y.db", directory=tmp_path) as other:
        report = await imported(await prepared(other), content)

        assert (report.imported, report.bad) == (len(BODIES), 0)
        assert await exported(other) == content


async def test_line_breaks_in_a_body_are_none_of_the_file(database):
    await records.add(database, [exchange(1, request=b'{\n"a":\r\n1}')])

    (line,) = (await exported(database)).splitlines()

    assert json.loads(line)["request"] == {"a": 1}


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_lines_come_in_pieces_of_any_size(database, size):
    await records.add(database, [exchange(number) for number in range(5)])
    content = b"\xef\xbb\xbf" + (await exported(database)).replace(b"\n", b"\r\n")

    report = await imported(database, content, size=size)

    assert (report.imported, report.existing, report.bad) == (0, 5, 0)


async def test_an_export_has_all_of_many_batches_once_and_in_order(database):
    await records.add(database, [exchange(number) for number in range(450)])

    found = [json.loads(line)["id"] for line in (await exported(database)).splitlines()]

    assert found == [identifier(number) for number in range(450)]


async def test_encrypted_texts_are_exported_readable_and_imported_encrypted(store):
    async with store.database(cipher=CIPHER) as database:
        await prepared(database)
        await records.add(database, [exchange(1, request=b'{"secret":1}')])
        content = await exported(database)

    async with store.database() as without_key:
        (line,) = (await exported(without_key)).splitlines()

    assert json.loads(content)["question"] == "q"
    assert json.loads(content)["request"] == {"secret": 1}
    assert (json.loads(line)["texts"], json.loads(line)["question"]) == ("unreadable", "")


async def test_where_texts_are_not_wanted_an_import_brings_figures_alone(database):
    content = json.dumps({**LINE, "request": {"a": 1}, "answer": "a"}).encode()

    await imported(database, content, keep_texts=False)

    found = json.loads(await exported(database))
    assert (found["texts"], found["question"], found["answer"], "request" in found) == ("none", "", "", False)


LINE = {
    "id": identifier(1),
    "created_at": "2024-06-10T00:00:00.000001Z",
    "key_id": "gone",
    "user_id": "gone",
    "model": "m",
    "question": "q",
    "cost_usd": "0.25",
    "usage": {"input_tokens": 3},
}


GIVEN = {"user_id": "gone", "thumb": "up"}
CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": "0"}, "id: must be a UUID"),
        ({"id": "5f0c1c5e-8f0b-4c39-9d5e-3f0d5c0d8a11"}, "id: must be a UUID of version 7"),
        ({"created_at": "1969-12-31T23:59:59Z"}, "created_at: must not be before 1970"),
        ({"id": "ffffffff-ffff-7fff-bfff-ffffffffffff"}, "id: must not be more than a day in the future"),
        ({"id": "0a000000-0000-7000-8000-000000000000"}, "id: must not be more than a day in the future"),
        ({"created_at": "9999-12-31T23:59:59.999999Z"}, "created_at: must not be more than a day in the future"),
        ({"feedback": {**GIVEN, "created_at": "9999-12-31T00:00:00Z"}}, "feedback.created_at: must not be more than a"),
        ({"cost_usd": "-1.00"}, "cost_usd: must be between 0 and"),
        ({"usage": {"input_tokens": -1}}, "Expected `int` >= 0"),
        ({"usage": {"input_tokens": 2**62}}, "Expected `int` <= "),
        ({"conversation": {"id": "x"}}, "conversation.id: must be a UUID"),
        ({"response_base64": "?"}, "response_base64: it is not base64"),
        ({"status": "lost"}, "Invalid enum value"),
        ({"tags": [""]}, "Expected `str` of length >= 1"),
        ({"question": None}, "Expected `str`, got `null`"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused(database, fields, reason):
    report = await imported(database, json.dumps({**LINE, **fields}).encode())

    assert (report.imported, report.bad) == (0, 1)
    assert report.problems[0].reason.startswith(reason)


@pytest.mark.parametrize("created_at", ["9999-12-31T23:59:59.999999Z", 253_402_300_799])
async def test_a_chat_of_the_future_is_refused(database, created_at):
    report = await imported(database, json.dumps({**CHAT, "created_at": created_at}).encode())

    assert [problem.reason for problem in report.problems] == ["created_at: must not be more than a day in the future"]


async def test_a_clock_elsewhere_may_be_ahead_by_some_hours(database):
    later = now() + DAY // 2
    line = {**LINE, "id": ids.first_of(later), "created_at": moment(later).isoformat()}

    report = await imported(database, json.dumps(line).encode())

    assert (report.imported, report.bad) == (1, 0)


async def test_a_name_is_that_of_an_own_key_that_works_and_an_id_is_that_of_any(store, database):
    store.query("insert into users (id, name, role, created_at) values ('ada', 'ada', 'member', 1)")
    for key, name in {"k1": "archive", "k2": "key", "k3": "laptop", "k4": "old"}.items():
        await keys.add(database, key_id=key, name=name, digest=key, hint="h", created_at=1)
    store.query("update api_keys set user_id = 'ada' where id in ('k1', 'k2', 'k3')")
    store.query("update api_keys set revoked_at = 2 where name = 'old'")

    found = {named: await heir(database, named) for named in ("key", "laptop", "k1", "k4", "archive", "old")}

    assert found == {
        "key": ("key", "laptop"),  # its id, not the name of another's
        "laptop": ("key", "laptop"),
        "k1": ("k1", "archive"),
        "k4": ("k4", "old"),
        "archive": None,
        "old": None,
    }


async def heir(database: Database, named: str) -> tuple[str, str] | None:
    """Whose becomes what belonged to a key that is not here."""
    arriving = Import(database, COMMAND_LINE, key=named, keep_texts=True)
    try:
        await arriving.begin()
    except BadRequest:
        return None
    return arriving.report.key_id, arriving.report.key_name


async def test_of_many_owners_the_last_are_known_and_all_are_looked_up(database):
    content = [json.dumps({**LINE, "id": identifier(n), "user_id": f"gone {n}"}) for n in range(1500)]
    arriving = Import(database, COMMAND_LINE, key=None, keep_texts=True)
    await arriving.begin()

    await arriving.take("\n".join(content).encode())
    report = await arriving.finish()

    assert (report.imported, report.bad) == (1500, 0)
    assert len(arriving._known._found["user"]) == 1000


async def test_an_import_counts_in_its_own_day(store, database):
    await imported(database, json.dumps(LINE).encode())

    assert store.query("select day, calls, input_tokens, cost from daily_usage") == [("2024-06-10", 1, 3, 250_000_000)]


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(model="even"),
        Wanted(status="failed"),
        Wanted(status="completed", model="odd"),
        Wanted(visible=Visible("ada", ("p",))),
        Wanted(visible=Visible("ada", ("p",)), model="odd"),
        Wanted(since=identifier(5), until=identifier(20)),
    ],
    ids=str,
)
async def test_from_the_oldest_on_it_is_the_reverse_of_from_the_newest_on(database, wanted):
    def fields(number: int) -> dict:
        owner = {"user_id": "ada" if number % 3 else "bob", "project_id": "p" if number % 5 == 0 else None}
        status = "failed" if number % 7 == 0 else "completed"
        return {**owner, "status": status, "model": "odd" if number % 2 else "even"}

    await records.add(database, [exchange(number, **fields(number)) for number in range(60)])

    up, down = await walked(database, wanted, filters.oldest), await walked(database, wanted, filters.newest)

    assert up == down[::-1]
    assert up


async def walked(database: Database, wanted: Wanted, step) -> list[str]:
    found, place, bound = [], None, "after" if step is filters.oldest else "before"
    async with database.transaction() as connection:
        while True:
            ids, place = await step(connection, wanted, **{bound: place}, limit=4, window=10)
            found += ids
            if place is None:
                return found


async def test_only_so_many_run_at_a_time(database):
    transfers = Transfers(database, keep_texts=True)
    running = [transfers.one_more() for _ in range(4)]
    for one in running:
        one.__enter__()

    with pytest.raises(Unavailable), transfers.one_more():
        pass

    running[0].__exit__(None, None, None)
    with transfers.one_more():
        pass
