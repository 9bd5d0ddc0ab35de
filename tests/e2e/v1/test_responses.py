"""Responses that are stored: fetched again, gone on from, forgotten."""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.service import events
from tests.upstream import completion, in_turn, status, words
from tests.v1 import ASKED, PING, RESPONSE, RESPONSES, asked_of, kept, post, streaming
from tests.wire import refused


def test_a_response_can_be_fetched_again_and_forgotten(scripted):
    service, _ = scripted
    given = post(service, RESPONSES)
    path = f"{RESPONSES}/{given.json()['id']}"

    fetched = service.client.get(path)
    forgotten = service.client.delete(path)
    gone = [service.client.get(path), service.client.delete(path)]

    assert fetched.content == given.content
    assert forgotten.json() == {"id": given.json()["id"], "object": "response", "deleted": True}
    assert [refused(one)[:3] for one in gone] == [(404, "response_not_found", "client")] * 2
    assert kept(service).response == given.content  # the history has it


@pytest.mark.parametrize("server", ["scripted", "native"])
def test_a_streamed_response_can_be_fetched_as_its_last_event_had_it(request, server):
    service, upstream = request.getfixturevalue(server)
    upstream.handler = words("po", "ng") if server == "scripted" else streaming(RESPONSES)

    (*_, (_, last)) = events(post(service, RESPONSES, stream=True).text)

    assert service.client.get(f"{RESPONSES}/{last['response']['id']}").json() == last["response"]


def test_a_response_that_is_not_to_be_stored_cannot_be_fetched(scripted):
    service, _ = scripted

    given = post(service, RESPONSES, store=False).json()
    fetched = service.client.get(f"{RESPONSES}/{given['id']}")
    continued = post(service, RESPONSES, previous_response_id=given["id"])

    assert refused(fetched)[:2] == (404, "response_not_found")
    assert refused(continued) == (400, "previous_response_not_found", "client", "previous_response_id")


def test_a_response_is_its_own_keys_alone(scripted):
    service, upstream = scripted
    given = post(service, RESPONSES).json()
    path = f"{RESPONSES}/{given['id']}"
    reference = {"type": "item_reference", "id": given["output"][0]["id"]}
    upstream.connections.clear()

    with service.client_with(service.new_key("another")) as other:
        fetched, forgotten = other.get(path), other.delete(path)
        continued = other.post(RESPONSES, json={**ASKED[RESPONSES], "previous_response_id": given["id"]})
        referred = other.post(RESPONSES, json={"model": "small", "input": [reference, *PING]})

    assert [refused(one)[:2] for one in (fetched, forgotten)] == [(404, "response_not_found")] * 2
    assert refused(continued)[:2] == (400, "previous_response_not_found")
    assert referred.status_code == 400
    assert asked_of(upstream) == []
    assert service.client.get(path).status_code == 200


def test_a_conversation_goes_from_response_to_response(scripted):
    service, upstream = scripted
    upstream.handler = in_turn(*(completion(text) for text in ("a1", "a2", "a3")))

    first = post(service, RESPONSES, input="q1", instructions="Be brief.").json()
    second = post(
        service, RESPONSES, input=[{"role": "user", "content": "q2"}], previous_response_id=first["id"]
    ).json()
    third = post(service, RESPONSES, input="q3", previous_response_id=second["id"]).json()

    sent = [(message["role"], message["content"]) for message in asked_of(upstream)[-1].json["messages"]]
    assert sent == [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2"), ("user", "q3")]
    assert (third["previous_response_id"], second["previous_response_id"]) == (second["id"], first["id"])
    assert (kept(service).question, kept(service).answer) == ("q3", "a3")
    assert json.loads(kept(service).request)["previous_response_id"] == second["id"]


def test_a_streamed_conversation_goes_on_too(scripted):
    service, upstream = scripted
    upstream.handler = in_turn(words("a", "1"), words("a", "2"))

    (*_, (_, last)) = events(post(service, RESPONSES, input="q1", stream=True).text)
    post(service, RESPONSES, input="q2", stream=True, previous_response_id=last["response"]["id"])

    sent = [message["content"] for message in asked_of(upstream)[-1].json["messages"]]
    assert sent == ["q1", "a1", "q2"]


def test_a_provider_of_responses_gets_the_whole_conversation(native):
    """It does not know our names of earlier responses, or not this one's key."""
    service, upstream = native
    upstream.handler = status(200, RESPONSE)

    post(service, RESPONSES, input="q1")
    post(service, RESPONSES, input="q2", previous_response_id="resp_theirs", odd=1.5)

    sent = asked_of(upstream)[-1].json
    assert "previous_response_id" not in sent
    assert sent["odd"] == 1.5
    assert [item.get("role") for item in sent["input"]] == ["user", "assistant", "user"]
    assert sent["input"][1] == json.loads(RESPONSE)["output"][0]


def test_an_item_can_be_referred_to(scripted):
    service, upstream = scripted
    given = post(service, RESPONSES).json()
    reference = {"type": "item_reference", "id": given["output"][0]["id"]}

    post(service, RESPONSES, input=[*PING, reference, {"role": "user", "content": "again"}])

    sent = [(message["role"], message["content"]) for message in asked_of(upstream)[-1].json["messages"]]
    assert sent == [("user", "ping"), ("assistant", "pong"), ("user", "again")]


def test_a_response_that_nobody_gave_cannot_be_gone_on_from(scripted):
    service, upstream = scripted

    response = post(service, RESPONSES, previous_response_id="resp_nobody", stream=True)

    assert refused(response) == (400, "previous_response_not_found", "client", "previous_response_id")
    assert asked_of(upstream) == []


@pytest.mark.parametrize("name", [5, True, [], {}])
@pytest.mark.parametrize("server", ["scripted", "native"])
def test_a_name_of_an_earlier_response_is_a_text(request, server, name):
    service, upstream = request.getfixturevalue(server)

    response = post(service, RESPONSES, previous_response_id=name)

    assert refused(response) == (400, "invalid_request", "client", "previous_response_id")
    assert asked_of(upstream) == []


@pytest.mark.parametrize("server", ["scripted", "native"])
def test_nothing_is_answered_in_the_background(request, server):
    """Who polled for it would get the response from our record, as it was when it was queued."""
    service, upstream = request.getfixturevalue(server)

    response = post(service, RESPONSES, background=True)

    assert refused(response) == (400, "invalid_request", "client", "background")
    assert asked_of(upstream) == []


# What a request refers to is no larger than a request may be: 20 000 bytes here.

BEFORE = (400, "invalid_request", "client", "previous_response_id")
REFERRED = (400, "invalid_request", "client", "input")
LONG = "x" * 9_000


@pytest.fixture
def limited(scripted, start):
    """The same provider behind a server that takes small requests: (service, upstream)."""
    _, upstream = scripted
    return start(
        OPENAI_API_KEY="sk-key",
        OPENAI_BASE_URL=upstream.url,
        AI_PROXY_DEFAULT_MODEL="small",
        AI_PROXY_SERVER__MAX_BODY_BYTES=20_000,
    ), upstream


def _go_on(service, name: str, *, turns: int) -> str:
    """Put as many turns after a response into the database, and give the last one's name."""
    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db")) as database, database:
        database.row_factory = sqlite3.Row
        (bodies,) = database.execute("SELECT * FROM bodies WHERE response_id = ?", [name])
        (exchange,) = database.execute("SELECT * FROM exchanges WHERE id = ?", [bodies["exchange_id"]])
        for turn in range(turns):
            request = json.dumps({"input": "on", "previous_response_id": name}).encode()
            identifier = exchange["id"][:-4] + f"{int(exchange['id'][-4:], 16) ^ (turn + 1):04x}"
            name = f"resp_turn_{turn}"
            changed = {"exchange_id": identifier, "request": request, "response_id": name}
            _insert(database, "exchanges", {**exchange, "id": identifier})
            _insert(database, "bodies", {**bodies, **changed})
    return name


def _insert(database: sqlite3.Connection, table: str, row: dict) -> None:
    places = ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))  # noqa: S608


def test_a_conversation_that_has_become_too_large_is_refused(limited):
    service, upstream = limited
    upstream.handler = in_turn(*(completion(text) for text in "abcd"))
    first = post(service, RESPONSES, input=LONG).json()
    second = post(service, RESPONSES, input=LONG, previous_response_id=first["id"]).json()
    third = post(service, RESPONSES, input=LONG, previous_response_id=second["id"])

    fourth = post(service, RESPONSES, input="?", previous_response_id=third.json()["id"])

    assert third.status_code == 200
    assert refused(fourth) == BEFORE
    assert "20000 bytes" in fourth.json()["error"]["message"]


def test_instructions_of_earlier_requests_are_not_part_of_a_conversation(limited):
    service, upstream = limited
    upstream.handler = completion()
    previous = None
    answers = []

    for _ in range(12):
        answers.append(post(service, RESPONSES, instructions=LONG, previous_response_id=previous))
        previous = answers[-1].json().get("id")
        if previous is None:
            break

    assert len(answers) > 5
    assert refused(answers[-1]) == BEFORE  # but to read them must come to an end


def test_a_conversation_of_more_turns_than_are_read_is_refused(scripted):
    service, upstream = scripted
    first = post(service, RESPONSES, input="first").json()["id"]
    previous = _go_on(service, first, turns=199)

    whole = post(service, RESPONSES, previous_response_id=previous)
    sent = asked_of(upstream)[-1].json["messages"]
    more = post(service, RESPONSES, previous_response_id=whole.json()["id"])

    assert sent[0]["content"] == "first"
    assert refused(more) == BEFORE
    assert "more than 200 turns" in more.json()["error"]["message"]


def test_items_that_are_too_large_together_cannot_be_referred_to(limited):
    service, upstream = limited
    upstream.handler = completion(LONG)
    items = [post(service, RESPONSES).json()["output"][0]["id"] for _ in range(3)]

    two, three, thrice = (
        post(service, RESPONSES, input=[{"type": "item_reference", "id": name} for name in names] + PING)
        for names in (items[:2], items, items[:1] * 3)
    )

    assert two.status_code == 200
    assert [refused(three), refused(thrice)] == [REFERRED] * 2
    assert "20000 bytes" in three.json()["error"]["message"]


def test_items_of_too_many_responses_cannot_be_referred_to(scripted):
    service, upstream = scripted
    references = [{"type": "item_reference", "id": f"msg_{number:032x}00"} for number in range(201)]

    response = post(service, RESPONSES, input=[*references, *PING])

    assert refused(response) == REFERRED
    assert "more than 200 responses" in response.json()["error"]["message"]
    assert asked_of(upstream) == []
