"""GET /api/history, as a client sees it."""

import json
from itertools import chain
from uuid import UUID

import pytest

from ai_proxy.core.types import OPERATOR_ID
from tests.service import http_request
from tests.stores import STORES
from tests.upstream import completion, delta, error, finish, silence, stream

QUESTIONS = [f"question {number}" for number in range(45)]


@pytest.fixture(scope="module", params=STORES)
def mocked(request, mocked):
    return mocked if request.param == "sqlite" else request.getfixturevalue("mocked_on_server")


@pytest.fixture(scope="module")
def reader(mocked):
    """A client with a key of its own, that has asked 45 questions."""
    client = mocked.client_with(mocked.new_key("reader"))
    for question in QUESTIONS:
        client.post("/api/ask", json={"question": question}).raise_for_status()
    yield client
    client.close()


@pytest.mark.parametrize(("limit", "sizes"), [(20, [20, 20, 5]), (15, [15, 15, 15])])
def test_the_pages_cover_everything_exactly_once(reader, limit, sizes):
    pages, cursor = [], None
    while not pages or cursor:
        page = reader.get("/api/history", params={"limit": limit} | ({"cursor": cursor} if cursor else {})).json()
        pages.append([item["question"] for item in page["items"]])
        cursor = page["next_cursor"]

    assert [len(page) for page in pages] == sizes
    assert list(chain(*pages)) == QUESTIONS[::-1]


def test_the_newest_comes_first_and_a_page_has_twenty(reader):
    page = reader.get("/api/history").json()

    assert [item["question"] for item in page["items"]] == QUESTIONS[::-1][:20]


def test_an_item_has_the_promised_shape(reader):
    answer = reader.post("/api/ask", json={"question": QUESTIONS[-1]}).json()

    item = reader.get("/api/history", params={"limit": 1}).json()["items"][0]

    UUID(item.pop("key_id"))
    assert item == {
        "id": answer["id"],
        "question": QUESTIONS[-1],
        "answer": answer["answer"],
        "model": "mock",
        "provider": "mock",
        "mock": True,
        "status": "completed",
        "error": None,
        "usage": answer["usage"],
        "cost_usd": "0.00",
        "duration_ms": answer["duration_ms"],
        "created_at": answer["created_at"],
        "conversation_id": None,
        "user_id": OPERATOR_ID,
        "project_id": None,
        "tags": [],
        "feedback": None,
        "texts": "plain",
    }


def test_a_page_does_not_shift_when_something_is_asked_in_between(reader):
    first = reader.get("/api/history", params={"limit": 5}).json()
    reader.post("/api/ask", json={"question": "in between"}).raise_for_status()

    second = reader.get("/api/history", params={"limit": 5, "cursor": first["next_cursor"]}).json()

    assert {item["id"] for item in first["items"]}.isdisjoint(item["id"] for item in second["items"])
    assert "in between" not in [item["question"] for item in second["items"]]


@pytest.mark.parametrize(("limit", "items"), [(1, 1), (200, 45)])
def test_the_limit_may_be_between_1_and_200(reader, limit, items):
    page = reader.get("/api/history", params={"limit": limit}).json()

    assert len(page["items"]) >= items
    assert len(page["items"]) <= limit


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1.5", ""])
def test_any_other_limit_is_refused_by_name(mocked, limit):
    response = mocked.client.get("/api/history", params={"limit": limit})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"
    assert response.json()["error"]["param"] == "limit"


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "not a cursor", "A" * 22 + "!", "\x00" * 22, "ключ", "A" * 101])
def test_a_cursor_that_is_none_is_refused_by_name(mocked, cursor):
    response = mocked.client.get("/api/history", params={"cursor": cursor})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "cursor"


def test_nobody_sees_what_another_key_asked(mocked, reader):
    mocked.ask("for my eyes only").raise_for_status()

    theirs = reader.get("/api/history", params={"limit": 200}).json()["items"]
    mine = mocked.history(limit=200)

    assert "for my eyes only" in [item["question"] for item in mine]
    assert "for my eyes only" not in [item["question"] for item in theirs]
    assert {item["id"] for item in mine}.isdisjoint(item["id"] for item in theirs)


def test_the_cursor_of_another_key_shows_nothing_of_that_key(mocked, reader):
    mocked.ask("before").raise_for_status()
    mocked.ask("after").raise_for_status()
    cursor = mocked.client.get("/api/history", params={"limit": 1}).json()["next_cursor"]

    theirs = reader.get("/api/history", params={"cursor": cursor, "limit": 200}).json()["items"]

    assert {"before", "after"}.isdisjoint(item["question"] for item in theirs)


def test_a_failed_call_is_kept_with_its_code(scripted):
    service, upstream = scripted
    upstream.handler = error(429)

    response = service.ask("too many")

    item = service.history(limit=1)[0]
    assert response.status_code == 429
    assert (item["question"], item["status"], item["error"]) == ("too many", "failed", "upstream_rate_limited")
    assert (item["answer"], item["usage"]) == ("", {"input_tokens": 0, "output_tokens": 0, "estimated": False})


def test_a_stream_that_broke_off_is_kept_as_far_as_it_came(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("half "), delta("an answer"))

    service.client.post("/api/streaming", json={"question": "break off"})

    item = service.history(limit=1)[0]
    assert (item["status"], item["error"]) == ("failed", "upstream_stream_truncated")
    assert item["answer"] == "half an answer"
    assert item["usage"]["estimated"] is True


def test_a_call_whose_client_left_is_kept_as_cancelled(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("half "), silence)
    body = json.dumps({"question": "who is there?"}).encode()

    with service.raw(http_request(body, path="/api/streaming")) as connection:
        while b"half" not in connection.recv(65_536):
            pass

    item = service.eventually(
        lambda: [item for item in service.history(limit=1) if item["question"] == "who is there?"]
    )[0]
    assert (item["status"], item["error"], item["answer"]) == ("cancelled", "client_gone", "half ")


def test_refused_requests_are_not_in_the_history(scripted):
    service, upstream = scripted
    upstream.handler = completion()
    service.ask("the last good one").raise_for_status()

    refused = service.client.post("/api/ask", json={"question": ""})

    assert refused.status_code == 400
    assert service.history(limit=1)[0]["question"] == "the last good one"


def test_text_comes_back_as_it_went_in(scripted):
    service, upstream = scripted
    text = "Ünïcödé 🦆 \u202e\u2028 'quotes\" \\ ; drop table exchanges; -- \n\t\x1b[31m %s {} &lt;"
    upstream.handler = stream(delta(text), finish())

    service.client.post("/api/streaming", json={"question": text})

    item = service.history(limit=1)[0]
    assert (item["question"], item["answer"]) == (text, text)
