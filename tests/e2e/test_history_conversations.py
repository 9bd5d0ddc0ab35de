"""Conversations as people see them: in a list, with titles, forked, deleted."""

from itertools import chain
from uuid import uuid4

import pytest

from tests.e2e.test_history_use import ask, found, manager_of, new_client
from tests.stores import STORES
from tests.upstream import completion, error


@pytest.fixture(scope="module", params=STORES)
def service(request):
    return request.getfixturevalue("mocked" if request.param == "sqlite" else "mocked_on_server")


@pytest.fixture
def client(service, manager):
    with new_client(service, manager) as client:
        yield client


@pytest.fixture(scope="module")
def manager(service):
    with manager_of(service) as client:
        yield client


@pytest.fixture
def conversation():
    return str(uuid4())


def listed(client, **query) -> list[dict]:
    return client.get("/api/conversations", params=query).raise_for_status().json()["items"]


def test_a_conversation_is_counted_and_called_by_its_first_question(client, conversation):
    first = ask(client, "What  is\nthe capital?", conversation_id=conversation)
    last = ask(client, "And of Italy?", conversation_id=conversation)

    item = client.get(f"/api/conversations/{conversation}").json()

    assert (item["id"], item["title"], item["titled"]) == (conversation, "What is the capital?", False)
    assert item["exchanges"] == 2
    assert item["first_at"][:19] == first["created_at"][:19]
    assert item["last_at"][:19] == last["created_at"][:19]
    assert item["parent_id"] is item["forked_from"] is None
    assert listed(client) == [item]
    assert found(client, conversation=conversation) == ["And of Italy?", "What  is\nthe capital?"]


def test_that_which_went_on_last_comes_first_and_pages_cover_all(client):
    ids = [str(uuid4()) for _ in range(5)]
    for identifier in (*ids, ids[0]):
        ask(client, conversation_id=identifier)

    pages, cursor = [], None
    while not pages or cursor:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/conversations", params=query).json()
        pages.append([item["id"] for item in page["items"]])
        cursor = page["next_cursor"]

    assert [*chain(*pages)] == [ids[0], *ids[:0:-1]]
    assert [len(page) for page in pages] == [2, 2, 1]


def test_a_long_question_is_cut_for_a_title(client, conversation):
    ask(client, "word " * 100, conversation_id=conversation)

    title = client.get(f"/api/conversations/{conversation}").json()["title"]

    assert len(title) <= 80
    assert title.endswith("…")


def test_a_title_can_be_given_and_taken_back(client, conversation):
    ask(client, "first", conversation_id=conversation)
    path = f"/api/conversations/{conversation}"

    given = client.patch(path, json={"title": "Столицы"}).json()
    taken_back = client.patch(path, json={"title": None}).json()

    assert (given["title"], given["titled"]) == ("Столицы", True)
    assert (taken_back["title"], taken_back["titled"]) == ("first", False)


@pytest.mark.parametrize(
    "body", [{}, {"title": ""}, {"title": " "}, {"title": "a\nb"}, {"title": "x" * 201}, {"title": 1}]
)
def test_a_title_that_cannot_be_listed_is_refused(client, conversation, body):
    ask(client, conversation_id=conversation)

    assert client.patch(f"/api/conversations/{conversation}", json=body).status_code == 400


def test_the_same_id_of_another_key_is_another_conversation(client, manager, conversation):
    ask(client, "of the client", conversation_id=conversation)
    ask(manager, "of the manager", conversation_id=conversation)
    key = client.get(f"/api/conversations/{conversation}").json()["key_id"]

    ambiguous = manager.get(f"/api/conversations/{conversation}")
    named = manager.get(f"/api/conversations/{conversation}", params={"key": key})

    assert (ambiguous.status_code, ambiguous.json()["error"]["param"]) == (409, "key")
    assert named.json()["title"] == "of the client"
    assert [item["title"] for item in listed(manager, key=key)] == ["of the client"]


def test_a_deleted_conversation_is_gone_with_its_exchanges(client, manager, conversation):
    ask(client, "one", conversation_id=conversation)
    ask(client, "two", conversation_id=conversation)
    ask(client, "three")

    deleted = manager.delete(f"/api/conversations/{conversation}")

    assert deleted.json() == {"deleted": 2, "complete": True}
    assert client.get(f"/api/conversations/{conversation}").status_code == 404
    assert found(client) == ["three"]


def test_a_fork_without_exchanges_can_be_deleted(client, manager):
    fork = client.post(f"/api/history/{ask(client)['id']}/fork").json()["id"]

    deleted = manager.delete(f"/api/conversations/{fork}")

    assert deleted.json() == {"deleted": 0, "complete": True}
    assert client.get(f"/api/conversations/{fork}").status_code == 404


# What the provider gets to see


@pytest.fixture
def talk(scripted):
    """Asks, the provider answers as it is told to; what it was sent before the question."""
    service, upstream = scripted

    def talk(question, *, answer, **fields):
        upstream.handler = completion(answer)
        identifier = service.ask(question, **fields).raise_for_status().json()["id"]
        sent = [message["content"] for message in upstream.connections[-1].json["messages"]]
        return identifier, sent[:-1]

    return talk


def fork(service, exchange_id: str) -> str:
    made = service.client.post(f"/api/history/{exchange_id}/fork")
    assert made.status_code == 201, made.text
    return made.json()["id"]


def test_a_fork_goes_on_after_the_exchange(scripted, talk, conversation):
    service, _ = scripted
    talk("q1", answer="a1", conversation_id=conversation)
    middle, _ = talk("q2", answer="a2", conversation_id=conversation)
    talk("q3", answer="a3", conversation_id=conversation)

    forked = fork(service, middle)
    _, first = talk("f1", answer="b1", conversation_id=forked)
    _, second = talk("f2", answer="b2", conversation_id=forked)
    _, other = talk("q4", answer="a4", conversation_id=conversation)

    assert first == ["q1", "a1", "q2", "a2"]
    assert second == ["q1", "a1", "q2", "a2", "f1", "b1"]
    assert other == ["q1", "a1", "q2", "a2", "q3", "a3"]


def test_a_fork_of_a_fork_goes_on_after_both(scripted, talk, conversation):
    service, _ = scripted
    first, _ = talk("q1", answer="a1", conversation_id=conversation)
    forked = fork(service, first)
    second, _ = talk("f1", answer="b1", conversation_id=forked)

    _, sent = talk("g1", answer="c1", conversation_id=fork(service, second))

    assert sent == ["q1", "a1", "f1", "b1"]


def test_an_exchange_that_had_no_conversation_is_the_beginning_of_one(scripted, talk):
    service, _ = scripted
    alone, _ = talk("q1", answer="a1")
    talk("q2", answer="a2")

    _, sent = talk("f1", answer="b1", conversation_id=fork(service, alone))

    assert sent == ["q1", "a1"]


def test_a_fork_of_a_call_goes_on_after_all_that_the_call_had_before(scripted, talk):
    service, upstream = scripted
    upstream.handler = completion("a2")
    said = [("system", "Sing."), ("user", "q1"), ("assistant", "a1"), ("user", "q2")]
    messages = [{"role": role, "content": content} for role, content in said]
    service.client.post("/v1/chat/completions", json={"model": "small", "messages": messages}).raise_for_status()
    forked = fork(service, service.history(limit=1)[0]["id"])

    _, first = talk("f1", answer="b1", conversation_id=forked)
    _, second = talk("f2", answer="b2", conversation_id=forked)

    assert first == ["Sing.", "q1", "a1", "q2", "a2"]
    assert second == [*first, "f1", "b1"]


def test_a_fork_of_a_failure_goes_on_after_what_was_before_it(scripted, talk, conversation):
    service, upstream = scripted
    talk("q1", answer="a1", conversation_id=conversation)
    upstream.handler = error(400)
    assert service.ask("q2", conversation_id=conversation).status_code != 200
    failed = service.history(limit=1)[0]

    _, sent = talk("f1", answer="b1", conversation_id=fork(service, failed["id"]))

    assert failed["status"] == "failed"
    assert sent == ["q1", "a1"]


def test_a_fork_says_where_it_comes_from(scripted, talk, conversation):
    service, _ = scripted
    first, _ = talk("q1", answer="a1", conversation_id=conversation)

    item = service.client.get(f"/api/conversations/{fork(service, first)}").json()

    assert (item["parent_id"], item["forked_from"], item["exchanges"]) == (conversation, first, 0)
    assert item["title"] == "q1"
