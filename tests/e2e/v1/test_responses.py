"""Responses that are stored: fetched again, gone on from, forgotten."""

import json

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
