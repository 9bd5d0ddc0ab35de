"""What was asked and answered is found by its words, by those who may see it."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ai_proxy.core.exceptions import BadRequest
from ai_proxy.storage import keys, records, schema, search
from ai_proxy.storage.engine import Database
from tests import stores
from tests.stores import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await prepare(database)
        yield database


async def prepare(database: Database) -> None:
    await schema.upgrade(database)
    for name in ("key", "other"):
        await keys.add(database, key_id=name, name=name, digest=name, hint="h", created_at=1)


async def record(database: Database, questions: dict[str, str], **fields) -> None:
    """Record exchanges and index them."""
    rows = [stores.exchange(name, **{"question": question, **fields}) for name, question in questions.items()]
    await records.add(database, rows)
    await index(database)


async def index(database: Database) -> None:
    while (await search.index_next(database, most=500)).count:
        pass


async def found(database: Database, query: str, *, newest: int = 1000, **facets) -> list[str]:
    async with database.transaction() as connection:
        return [identifier for identifier, _ in await search.find(connection, query, facets, newest=newest)]


async def execute(database: Database, statement: str) -> list[tuple]:
    async with database.transaction() as connection:
        result = await connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ("Назови столицы всех стран мира", "страна"),
        ("Назови столицы всех стран мира", "СТОЛИЦА страны"),
        ("Ёлки зелёные", "елка"),
        ("Елки зеленые", "ёлка"),
        ("Сколько стоит йогурт?", "\u0438\u0306\u043e\u0433\u0443\u0440\u0442"),
        ("He was jumping for hours", "jump"),
        ("How do I run it?", "running"),
        ("The happiness of dogs", "happy dogs"),
        ("The happy dog", "happiness"),
        ("Стек: Python и PostgreSQL", "postgresql стек"),
        ("Version 4.1 of gpt-4.1-mini", "gpt-4.1-mini"),
        ("See https://example.com/docs/index.html", "docs"),
        ("snake_case_name", "case"),
        ("онлайн-курсы", "онлайн-курс"),
        ("database", "data*"),
        ("one two three", '"two three"'),
        ("one two three", '"two three'),
        ("東京 タワー", "東京"),
    ],
)
async def test_texts_are_found_by_the_forms_of_their_words(database, question, query):
    await record(database, {"1": question})

    assert await found(database, query) == ["1"]


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ("one two three", "one four"),
        ("one two three", '"one three"'),
        ("one two three", "one -two"),
        ("one two three", 'one -"two three"'),
        ("database", "base"),
        ("database", "dat"),
        ("кот", "которого"),
    ],
)
async def test_texts_that_do_not_have_all_that_is_asked_for_are_not_found(database, question, query):
    await record(database, {"1": question})

    assert await found(database, query) == []


async def test_answers_are_found_as_well(database):
    await record(database, {"1": "question"}, answer="forty-two")

    assert await found(database, "question forty") == ["1"]


async def test_what_failed_is_found_by_its_question(database):
    await record(database, {"1": "question"}, status="failed", answer="")

    assert await found(database, "question", status=["failed", "cancelled"]) == ["1"]
    assert await found(database, "question", status=["completed"]) == []


async def test_the_best_match_is_the_first_then_the_newest(database):
    filler = " ".join(f"filler{number}" for number in range(50))

    await record(database, {"1": f"whale {filler}", "2": "whale whale whale", "3": f"whale {filler}"})

    assert await found(database, "whale") == ["2", "3", "1"]


async def test_only_the_newest_matches_are_looked_at(database):
    await record(database, {str(number): "whale" for number in range(1, 6)})

    assert await found(database, "whale", newest=2) == ["5", "4"]


async def test_facets_narrow_the_search(database):
    await record(database, {"1": "whale"}, user_id="a-b", project_id="p1", model="x/y:z", conversation_id="c")
    await record(database, {"2": "whale"}, user_id="a", project_id=None, model='"', provider="p", key_id="other")

    assert await found(database, "whale", user=["a-b"]) == ["1"]
    assert await found(database, "whale", user=["a-b", "a"]) == ["2", "1"]
    assert await found(database, "whale", model=["x/y:z"], conversation=["c"], project=["p1"]) == ["1"]
    assert await found(database, "whale", model=['"'], provider=["p"], key=["other"]) == ["2"]
    assert await found(database, "whale", user=["a-b"], key=["other"]) == []
    assert await found(database, "whale", user=["a"], project=[]) == []


async def test_visible_is_what_belongs_to_one_or_to_a_project_of_theirs(database):
    await record(database, {"1": "whale"}, user_id="mine")
    await record(database, {"2": "whale"}, user_id="colleague", project_id="ours")
    await record(database, {"3": "whale"}, user_id="stranger", project_id="theirs")

    assert set(await found(database, "whale", visible=["user:mine", "project:ours"])) == {"1", "2"}
    assert await found(database, "-x whale", visible=["user:nobody"]) == []


async def test_facets_are_not_found_as_words(database):
    await record(database, {"1": "whale"}, user_id="mine")

    assert await found(database, "user*") == []


async def test_nothing_is_found_twice_or_forgotten_when_several_processes_index(store, database):
    await records.add(database, [stores.exchange(f"{number:03}", question="whale") for number in range(200)])

    async with store.database() as second, store.database() as third:
        await asyncio.gather(*(index_in_parts(one) for one in (database, second, third)))

    assert len(await found(database, "whale")) == 200
    assert await execute(database, "select count(*) from indexed") == [(200,)]


async def index_in_parts(database: Database) -> None:
    while await execute(database, "select 1 from unindexed limit 1"):
        await search.index_next(database, most=7)


async def test_what_is_taken_out_is_not_found_and_leaves_nothing(database):
    questions = {"1": "whale Ёж", "2": "whale", "3": "", "4": "whale dolphin"}
    await record(database, questions, user_id="mine", answer="a" * 150_000)

    async with database.transaction() as connection:
        await search.take_out(connection, ["1", "3", "4", "unknown"])

    assert await found(database, "whale", user=["mine"]) == ["2"]
    assert await found(database, "ёж") == await found(database, "dolphin") == []
    assert await execute(database, "select exchange_id from indexed") == [("2",)]


async def test_the_index_of_a_file_is_sound_after_rows_were_taken_out(database, store):
    await record(database, {str(number): f"whale number {number}" for number in range(50)})

    async with database.transaction() as connection:
        await search.take_out(connection, [str(number) for number in range(0, 50, 2)])

    assert len(await found(database, "whale")) == 25
    if store.on_server:
        assert await execute(database, "select count(*) from search") == [(25,)]
    else:
        await execute(database, "insert into search_0 (search_0) values ('integrity-check')")


async def test_numbers_that_are_free_again_may_be_used_again(database):
    await record(database, {"1": "whale"})
    async with database.transaction() as connection:
        await search.take_out(connection, ["1"])

    await record(database, {"2": "dolphin"})

    assert await found(database, "whale") == []
    assert await found(database, "dolphin") == ["2"]


async def test_what_is_taken_out_before_it_is_in_never_gets_in(database):
    await records.add(database, [stores.exchange("1", question="whale")])

    async with database.transaction() as connection:
        await search.take_out(connection, ["1"])

    assert (await search.index_next(database, most=500)).count == 0
    assert await found(database, "whale") == []


@pytest.mark.parametrize("texts", ["encrypted", "none"])
async def test_texts_that_cannot_be_read_are_not_indexed(database, texts):
    await records.add(database, [stores.exchange("1", question="whale")])
    await execute(database, f"update exchanges set texts = '{texts}'")  # noqa: S608

    assert (await search.index_next(database, most=500)).count == 1
    assert await found(database, "whale") == []
    assert await execute(database, "select * from indexed") == []


async def test_what_is_gone_is_not_waited_for(database):
    await execute(database, "insert into unindexed values ('gone')")

    assert (await search.index_next(database, most=500)).count == 1
    assert (await search.index_next(database, most=500)).count == 0


async def test_the_oldest_can_be_given_up(database):
    await records.add(database, [stores.exchange(name, question="whale") for name in ("1", "2")])

    assert await search.skip_next(database) == "1"
    await index(database)

    assert await found(database, "whale") == ["2"]
    assert await search.skip_next(database) is None


async def test_few_long_texts_are_moved_at_a_time(database):
    await records.add(database, [stores.exchange(str(number), question="long " * 4000) for number in range(6)])

    assert (await search.index_next(database, most=500)).count == 3


@pytest.mark.parametrize(
    "long",
    [
        pytest.param("\U00020000" * 300_000, id="one word"),
        pytest.param(" ".join(chr(0x20000 + number) for number in range(40_000)), id="many characters"),
        pytest.param(" ".join(f"{number:x}" for number in range(30_000)), id="many words"),
    ],
)
async def test_no_text_is_too_long_for_the_index(database, long):
    await record(database, {"1": f"whale {long} dolphin"}, answer=f"shark {long}")

    assert await found(database, "whale") == ["1"]


@pytest.mark.parametrize(
    "query", ["", " ", '"', "*", "-", "-word", '-"a phrase"', "!?", "\x00", "a" * 501, "a " * 33, "ab*", '"" -x']
)
async def test_a_query_without_a_word_or_with_too_many_is_a_mistake(database, query):
    with pytest.raises(BadRequest):
        await found(database, query)


async def test_a_facet_that_rows_do_not_have_is_a_mistake_of_ours(database):
    with pytest.raises(KeyError):
        await found(database, "whale", colour=["blue"])


SPECIAL = st.text("ab \"*-:^(){}+&|!<>\\'\x00%_.,/@#$~`=ё\u0306", max_size=40)


@pytest.mark.parametrize("kind", stores.STORES)
def test_no_query_is_an_error_of_the_database(kind, request):
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        on_server = kind == "postgresql"
        store = (
            Store(request.getfixturevalue("postgres").new_database(), Path(name))
            if on_server
            else stores.in_file(Path(name))
        )
        database = store.database()
        runner.run(prepare(database))
        runner.run(record(database, {"1": "a and or not near ab"}))

        @given(st.one_of(st.text(max_size=60), SPECIAL, st.lists(st.sampled_from(QUIRKS)).map(" ".join)))
        @settings(max_examples=200, derandomize=True)
        def ask(query):
            try:
                runner.run(found(database, query, user=["u"]))
            except BadRequest:
                return

        ask()
        runner.run(database.__aexit__())


QUIRKS = [
    "AND",
    "OR",
    "NOT",
    "NEAR(a b, 2)",
    "words:a",
    "facets : a",
    "^a",
    '"a',
    "-a",
    "a*",
    "1e5",
    "a+b",
    "the",
    "'",
    ":*",
]


# The parts of SQLite's index

_LAST = 2**16 - 1  # the last number of the first part


@pytest.fixture
async def parted(tmp_path):
    """Its last exchange but one is "a1", in the first part; "b0" is the first one of the second part."""
    async with stores.in_file(tmp_path / "parted").database() as database:
        await prepare(database)
        await record(database, {"a0": "the first of all"})
        await execute(database, f"update indexed set number = {_LAST - 2}")  # noqa: S608
        await record(
            database, {"a1": "whale whale", "a2": "nothing", "b0": "another whale of all", "b1": "a whale, whale"}
        )
        yield database


async def parts(database: Database) -> list[str]:
    rows = await execute(database, "select name from sqlite_master where sql glob 'CREATE VIRTUAL*' order by name")
    return [name for (name,) in rows]


async def test_a_search_goes_through_all_parts_until_it_has_enough(parted):
    assert await parts(parted) == ["search_0", "search_1"]
    assert sorted(await found(parted, "whale")) == ["a1", "b0", "b1"]
    assert sorted(await found(parted, "whale", newest=2)) == ["b0", "b1"]
    assert await found(parted, "nothing") == ["a2"]


async def test_a_search_sees_what_there_was_at_its_beginning(parted):
    async with parted.transaction() as connection:
        before = await search.find(connection, "whale", {}, newest=1)
        await record(parted, {"b2": "a whale that came meanwhile"})
        again = await search.find(connection, "whale", {}, newest=1)

    assert again == before
    assert await found(parted, "meanwhile") == ["b2"]


async def test_a_good_match_of_one_part_is_before_a_bad_one_of_another(parted):
    assert await found(parted, "whale") == ["b1", "a1", "b0"]


async def test_what_is_taken_out_of_several_parts_at_once_is_in_none(parted):
    async with parted.transaction() as connection:
        await search.take_out(connection, ["a1", "b1"])

    assert await found(parted, "whale") == ["b0"]
    for part in await parts(parted):
        await execute(parted, f"insert into {part} ({part}) values ('integrity-check')")  # noqa: S608


async def test_all_is_indexed_anew_when_the_parts_are_new(store):
    config = Config()
    config.set_main_option("script_location", str(schema.SCRIPTS))

    def migrate(connection, change, to):
        config.attributes["connection"] = connection
        change(config, to)

    async with store.database() as database:
        await prepare(database)
        await record(database, {"1": "whale"})
        for change, to in ((command.downgrade, "0004"), (command.upgrade, "head")):
            async with database.migrating() as connection:
                await connection.run_sync(migrate, change, to)
        indexed = await execute(database, "select * from indexed")
        await index(database)

        assert indexed == ([(1, "1")] if store.on_server else [])
        assert await found(database, "whale") == ["1"]


async def test_a_part_that_has_nothing_any_more_goes_when_another_one_begins(parted):
    async with parted.transaction() as connection:
        await search.take_out(connection, ["a0", "a1", "a2"])
    await execute(parted, f"update indexed set number = {2 * _LAST + 1} where exchange_id = 'b1'")  # noqa: S608

    await record(parted, {"c0": "a whale of the third part"})

    assert await parts(parted) == ["search_1", "search_2"]
    assert await found(parted, "third") == ["c0"]


async def test_what_was_added_and_taken_out_in_small_parts_is_merged_bit_by_bit(tmp_path):
    store = stores.in_file(tmp_path)
    parts = []
    async with store.database() as database:
        await prepare(database)
        for number in range(15):
            await record(database, {f"{number:02}": f"words of number{number}"})
            parts += store.query("select count(distinct segid) from search_0_idx")
        for number in range(14):
            async with database.transaction() as connection:
                await search.take_out(connection, [f"{number:02}"])
            parts += store.query("select count(distinct segid) from search_0_idx")

        assert max(parts) < (8,)  # 16 are merged at once if nobody does it earlier
        assert await found(database, "number14") == ["14"]
        assert await found(database, "number13") == []
    assert store.query("select v from search_0_config where k = 'automerge'") == [(0,)]
