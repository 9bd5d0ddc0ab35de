"""Questions with a conversation_id: what the provider gets to see of the earlier ones."""

import json
from uuid import uuid4

import pytest

from tests.service import http_request
from tests.upstream import completion, delta, error, silence, stream, words


def messages(upstream) -> list[tuple[str, str]]:
    """What the provider was sent last."""
    return [(message["role"], message["content"]) for message in upstream.connections[-1].json["messages"]]


@pytest.fixture
def conversation():
    return str(uuid4())


@pytest.fixture
def talk(scripted, conversation):
    """Asks within one conversation; the provider answers as it is told to."""
    service, upstream = scripted

    def talk(question, *, answer, **fields):
        upstream.handler = completion(answer)
        return service.ask(question, conversation_id=conversation, **fields)

    return talk


def test_earlier_exchanges_are_sent_along_in_their_order(scripted, talk):
    talk("My name is Ada.", answer="Hello Ada.").raise_for_status()
    talk("I am 36.", answer="Noted.").raise_for_status()

    talk("Who am I?", answer="Ada, 36.").raise_for_status()

    assert messages(scripted[1]) == [
        ("user", "My name is Ada."),
        ("assistant", "Hello Ada."),
        ("user", "I am 36."),
        ("assistant", "Noted."),
        ("user", "Who am I?"),
    ]


def test_the_system_text_comes_first_and_is_that_of_the_call(scripted, talk):
    talk("One?", answer="Yes.", system="Be polite.").raise_for_status()

    talk("Two?", answer="No.", system="Be short.").raise_for_status()

    assert messages(scripted[1]) == [
        ("system", "Be short."),
        ("user", "One?"),
        ("assistant", "Yes."),
        ("user", "Two?"),
    ]


def test_an_unknown_conversation_starts_anew(scripted, talk, conversation):
    response = talk("Who am I?", answer="I can't know.")

    assert response.json()["conversation_id"] == conversation
    assert messages(scripted[1]) == [("user", "Who am I?")]


def test_a_question_without_a_conversation_gets_nothing_along(scripted, talk):
    service, upstream = scripted
    talk("My name is Ada.", answer="Hello Ada.").raise_for_status()

    response = service.ask("Who am I?")

    assert response.json()["conversation_id"] is None
    assert messages(upstream) == [("user", "Who am I?")]


def test_another_conversation_gets_nothing_along(scripted, talk):
    service, upstream = scripted
    talk("My name is Ada.", answer="Hello Ada.").raise_for_status()

    service.ask("Who am I?", conversation_id=str(uuid4())).raise_for_status()

    assert messages(upstream) == [("user", "Who am I?")]


def test_the_same_conversation_of_another_key_gets_nothing_along(scripted, talk, conversation):
    service, upstream = scripted
    talk("My name is Ada.", answer="Hello Ada.").raise_for_status()

    with service.client_with(service.new_key("eve")) as eve:
        eve.post("/api/ask", json={"question": "Who am I?", "conversation_id": conversation}).raise_for_status()

    assert messages(upstream) == [("user", "Who am I?")]


def test_only_completed_exchanges_are_sent_along(scripted, talk, conversation):
    service, upstream = scripted
    talk("This one works.", answer="It does.").raise_for_status()
    upstream.handler = error(429)
    assert service.ask("This one fails.", conversation_id=conversation).status_code == 429
    upstream.handler = stream(delta("half"))
    service.client.post("/api/streaming", json={"question": "This breaks off.", "conversation_id": conversation})
    upstream.handler = stream(delta("half"), silence)
    body = json.dumps({"question": "Nobody waits.", "conversation_id": conversation}).encode()
    with service.raw(http_request(body, path="/api/streaming")) as connection:
        while b"half" not in connection.recv(65_536):
            pass
    service.eventually(lambda: service.history(limit=1)[0]["status"] == "cancelled")

    talk("And now?", answer="Fine.").raise_for_status()

    assert messages(upstream) == [("user", "This one works."), ("assistant", "It does."), ("user", "And now?")]


def test_streams_take_part_in_conversations(scripted, talk, conversation):
    service, upstream = scripted
    talk("My name is Ada.", answer="Hello Ada.").raise_for_status()
    upstream.handler = words("Ada", ", ", "of course.")

    asked = {"question": "Who am I?", "conversation_id": conversation}
    service.client.post("/api/streaming", json=asked).raise_for_status()
    sent = messages(upstream)
    talk("Are you sure?", answer="Yes.").raise_for_status()

    assert sent == [("user", "My name is Ada."), ("assistant", "Hello Ada."), ("user", "Who am I?")]
    assert messages(upstream)[2:] == [
        ("user", "Who am I?"),
        ("assistant", "Ada, of course."),
        ("user", "Are you sure?"),
    ]


def test_the_answer_and_the_history_name_the_conversation(scripted, talk, conversation):
    answer = talk("My name is Ada.", answer="Hello Ada.").json()

    item = scripted[0].history(limit=1)[0]

    assert answer["conversation_id"] == item["conversation_id"] == conversation


def test_an_identifier_is_the_same_in_every_spelling(scripted, talk, conversation):
    service, upstream = scripted
    talk("My name is Ada.", answer="Hello Ada.").raise_for_status()

    service.ask("Who am I?", conversation_id=conversation.upper()).raise_for_status()

    assert messages(upstream)[0] == ("user", "My name is Ada.")


def test_the_oldest_are_left_out_when_they_do_not_fit(scripted_pair, start, conversation):
    _, upstream = scripted_pair
    service = start(
        OPENAI_API_KEY="sk-upstream", OPENAI_BASE_URL=upstream.url, AI_PROXY_CONVERSATION_BUDGET=20, MOCK_MODE="false"
    )
    upstream.handler = completion("12345")
    for question in ("aaaaa", "bbbbb", "ccccc"):
        service.ask(question, conversation_id=conversation).raise_for_status()

    service.ask("ddddd", conversation_id=conversation).raise_for_status()
    fitting = messages(upstream)
    service.ask("long" * 10, conversation_id=conversation).raise_for_status()
    service.ask("eeeee", conversation_id=conversation).raise_for_status()
    blocked = messages(upstream)

    assert fitting == [
        ("user", "bbbbb"),
        ("assistant", "12345"),
        ("user", "ccccc"),
        ("assistant", "12345"),
        ("user", "ddddd"),
    ]
    assert blocked == [("user", "eeeee")]
