"""Conversations are counted exactly once, and forks go on from where they branched off."""

import pytest

from ai_proxy.storage import conversations, history, keys, records, schema
from ai_proxy.storage.conversations import Wanted
from ai_proxy.storage.filters import Visible
from tests.stores import exchange

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(store):
    async with store.database() as database:
        await schema.upgrade(database)
        for name in ("key", "other"):
            await keys.add(database, key_id=name, name=name, digest=name, hint="h", created_at=1)
        yield database


async def listed(database, wanted=None, **options) -> list[tuple]:
    async with database.transaction() as connection:
        rows = await conversations.page(connection, wanted or Wanted(), **{"before": None, "limit": 100, **options})
    return [(row.key_id, row.id, row.exchanges, row.first_id, row.last_id) for row in rows]


async def fork(database, exchange_id: str, conversation_id: str) -> None:
    async with database.transaction() as connection:
        row = await history.find(connection, exchange_id)
        await conversations.fork(connection, row, conversation_id, place=f"{exchange_id}+")


async def questions(database, conversation_id: str, budget: int = 1000) -> list[str]:
    turns = await conversations.earlier(database, "key", conversation_id, budget=budget)
    return [turn.question for turn in turns]


async def test_exchanges_are_counted_in_their_conversation_whatever_is_written_again(database):
    batch = [exchange(str(number), conversation_id="c") for number in range(3)]
    await records.add(database, batch[:2])

    await records.add(database, batch)
    await records.add(database, [exchange("9", conversation_id="c", key_id="other"), exchange("8")])

    assert await listed(database) == [("other", "c", 1, "9", "9"), ("key", "c", 3, "0", "2")]


async def test_what_comes_late_does_not_make_a_conversation_newer(database):
    await records.add(database, [exchange("5", conversation_id="c")])

    await records.add(database, [exchange("3", conversation_id="c")])

    assert await listed(database) == [("key", "c", 2, "3", "5")]


async def test_pages_are_of_those_that_may_be_seen(database):
    owners = [("u1", None), ("u2", None), ("u2", "p1"), ("u1", "p1"), ("u3", "p2")]
    await records.add(
        database,
        [
            exchange(str(number), conversation_id=f"c{number}", user_id=user, project_id=project)
            for number, (user, project) in enumerate(owners)
        ],
    )
    seen = Visible("u1", ("p1",))

    found = await listed(database, Wanted(visible=seen))
    second = await listed(database, Wanted(visible=seen), before="3", limit=1)
    of_another = await listed(database, Wanted(visible=seen, user="u2"))

    assert [row[1] for row in found] == ["c3", "c2", "c0"]
    assert [row[1] for row in second] == ["c2"]
    assert [row[1] for row in of_another] == ["c2"]


async def test_a_fork_has_its_parents_exchanges_up_to_where_it_branches_off(database):
    await records.add(database, [exchange(number, question=number, conversation_id="c") for number in "123"])
    await fork(database, "2", "f")
    await records.add(database, [exchange("4", question="4", conversation_id="f")])

    assert await questions(database, "f") == ["1", "2", "4"]
    assert await questions(database, "c") == ["1", "2", "3"]


async def test_the_newest_that_fit_are_taken_across_forks(database):
    await records.add(database, [exchange(number, question=number, conversation_id="c") for number in "123"])
    await fork(database, "3", "f")
    await records.add(database, [exchange("4", question="4", conversation_id="f")])

    assert await questions(database, "f", budget=6) == ["2", "3", "4"]
    assert await questions(database, "f", budget=2) == ["4"]
    assert await questions(database, "f", budget=1) == []


async def test_a_chain_of_forks_is_followed_so_far_and_no_farther(database):
    conversation = "c"
    for number in range(30):
        await records.add(database, [exchange(f"{number:02}", question=f"{number:02}", conversation_id=conversation)])
        await fork(database, f"{number:02}", f"f{number}")
        conversation = f"f{number}"

    found = await questions(database, conversation)

    assert found == [f"{number:02}" for number in range(11, 30)]


async def test_nothing_is_looked_for_before_a_request_that_says_what_was_before_it(database):
    whole = {"dialect": "chat", "request": b'{"messages": []}', "conversation_id": "c"}
    await records.add(
        database,
        [
            exchange("1", question="1", conversation_id="c"),
            exchange("2", question="2", **whole),
            exchange("3", question="3", conversation_id="c", request=b'{"question": "3", "system": "s"}'),
        ],
    )

    turns = await conversations.earlier(database, "key", "c", budget=1000)

    assert [(turn.question, turn.dialect, turn.request) for turn in turns] == [
        ("2", "chat", whole["request"]),
        ("3", "ask", None),
    ]


async def test_where_a_request_is_too_long_its_question_and_answer_are_sent(database):
    whole = {"dialect": "chat", "request": b'{"messages": []}', "answer": "a"}
    await records.add(database, [exchange("1", question="q", conversation_id="c", **whole)])

    for budget, request in ((17, whole["request"]), (16, None), (2, None)):
        [turn] = await conversations.earlier(database, "key", "c", budget=budget)
        assert (turn.question, turn.answer, turn.request) == ("q", "a", request)
    assert await questions(database, "c", budget=1) == []


async def test_texts_that_were_not_kept_are_not_sent_along(database):
    await records.add(
        database,
        [
            exchange("1", question="kept", conversation_id="c"),
            exchange("2", question="not kept", conversation_id="c", keep_texts=False),
        ],
    )

    assert await questions(database, "c") == ["kept"]
