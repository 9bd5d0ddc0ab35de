"""The history as people use it: filtered, searched, looked at closely, commented on, deleted."""

import re
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import uuid4

import httpx2
import pytest

from ai_proxy.core.ids import uuid7
from tests.stores import STORES
from tests.upstream import delta, finish, stream


@pytest.fixture(scope="module", params=STORES)
def service(request):
    return request.getfixturevalue("mocked" if request.param == "sqlite" else "mocked_on_server")


def manager_of(service) -> httpx2.Client:
    """A client with an administrator's key that may all."""
    scopes = [part for scope in ("calls", "history", "manage") for part in ("--scope", scope)]
    done = service.run("keys", "create", f"key {uuid4()}", *scopes)
    return service.client_with(re.search(r"^key: (\S+)$", done.stdout, re.MULTILINE)[1])


def new_client(service, manager) -> httpx2.Client:
    """A client with a key of its own, that may not manage."""
    made = manager.post("/api/keys", json={"name": "own", "scopes": ["calls", "history"]}).raise_for_status()
    return service.client_with(made.json()["key"])


@pytest.fixture
def client(service, manager):
    with new_client(service, manager) as client:
        yield client


@pytest.fixture(scope="module")
def manager(service):
    with manager_of(service) as client:
        yield client


def ask(client, question: str = "ping", **fields) -> dict:
    return client.post("/api/ask", json={"question": question, **fields}).raise_for_status().json()


def found(client, **query) -> list[str]:
    """The questions on a page of the history."""
    page = client.get("/api/history", params=query)
    assert page.status_code == 200, page.text
    return [item["question"] for item in page.json()["items"]]


# Filters


def test_each_filter_leaves_out_the_rest(client):
    conversation = str(uuid4())
    own = ask(client, "one", conversation_id=conversation)
    ask(client, "two")
    client.put(f"/api/history/{own['id']}/tags", json={"tags": ["good"]}).raise_for_status()
    client.put(f"/api/history/{own['id']}/feedback", json={"thumb": "up"}).raise_for_status()
    item = client.get(f"/api/history/{own['id']}").json()

    assert found(client, conversation=conversation) == ["one"]
    assert found(client, tag="good") == ["one"]
    assert found(client, thumb="up") == ["one"]
    assert found(client, thumb="down") == []
    assert found(client, key=item["key_id"], user=item["user_id"], status="completed", provider="mock") == [
        "two",
        "one",
    ]
    assert found(client, model="mock", provider="mock", max_cost_usd="0") == ["two", "one"]
    assert found(client, min_cost_usd="0.01") == []
    for name, value in {"model": "gpt", "provider": "x", "status": "failed", "project": uuid7(), "tag": "bad"}.items():
        assert found(client, **{name: value}) == []


def test_times_are_days_or_instants(client):
    at = datetime.fromisoformat(ask(client, "now")["created_at"])
    today, tomorrow = at.date().isoformat(), (at.date() + timedelta(days=1)).isoformat()
    before, after = ((at + timedelta(seconds=seconds)).isoformat() for seconds in (-2, 2))

    assert found(client, **{"from": today, "to": tomorrow}) == ["now"]
    assert found(client, **{"from": before, "to": after}) == ["now"]
    assert found(client, **{"from": before.replace("+00:00", "Z")}) == ["now"]
    assert found(client, **{"from": after}) == []
    assert found(client, to=before) == []
    assert found(client, **{"from": (at.astimezone(UTC).date() + timedelta(days=2)).isoformat()}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "yesterday"),
        ("to", "2026-13-01"),
        ("to", "2026-11-23T25:00:00Z"),
        ("status", "great"),
        ("thumb", "sideways"),
        ("conversation", "x"),
        ("min_cost_usd", "much"),
        ("max_cost_usd", "0.0000000001"),
        ("model", ""),
        ("tag", "x" * 51),
        ("model", "\x00"),
        ("q", "\x00"),
        ("q", "x" * 501),
        ("colour", "red"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(service, name, value):
    response = service.client.get("/api/history", params={name: value})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == name


def test_a_key_sees_nothing_of_another_key_whatever_it_asks_for(client, manager):
    ask(manager, "of the manager")
    item = manager.get("/api/history", params={"limit": 1}).json()["items"][0]

    assert found(client, key=item["key_id"]) == []
    assert found(client, user=item["user_id"], model="mock") == []
    assert client.get(f"/api/history/{item['id']}").status_code == 404


def test_a_key_that_may_manage_sees_what_its_user_may_see(client, manager):
    own = ask(client, "of another key")

    assert "of another key" in found(manager)
    assert manager.get(f"/api/history/{own['id']}").status_code == 200


# Search


def test_words_are_found_and_the_pages_cover_all(service, client):
    word = f"w{uuid4().hex}"
    for number in range(5):
        ask(client, f"{word} number{number}")
    ask(client, "something else")
    service.eventually(lambda: len(found(client, q=word)) == 5, seconds=20, pause=0.1)

    pages, cursor = [], None
    while not pages or cursor:
        query = {"q": word, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/history", params=query).json()
        pages.append([item["question"] for item in page["items"]])
        cursor = page["next_cursor"]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(chain(*pages)) == [f"{word} number{number}" for number in range(5)]
    assert found(client, q=f"{word} number3") == [f"{word} number3"]
    assert found(client, q=word, status="failed") == []
    assert found(client, q=word, tag="none") == []
    assert found(service.client, q=word) == []


@pytest.mark.parametrize("words", ["", "-", '""'])
def test_a_search_for_no_word_is_refused(service, words):
    response = service.client.get("/api/history", params={"q": words})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "q"


def test_a_cursor_is_good_for_its_own_kind_of_query_only(service, client):
    word = f"w{uuid4().hex}"
    for _ in range(3):
        ask(client, word)
    service.eventually(lambda: len(found(client, q=word)) == 3, seconds=20, pause=0.1)
    of_list = client.get("/api/history", params={"limit": 1}).json()["next_cursor"]
    of_search = client.get("/api/history", params={"limit": 1, "q": word}).json()["next_cursor"]

    wrong = [{"cursor": of_search}, {"cursor": of_search, "q": "other"}, {"cursor": of_list, "q": word}]
    refused = [client.get("/api/history", params=query) for query in wrong]

    assert [(response.status_code, response.json()["error"]["param"]) for response in refused] == [(400, "cursor")] * 3


# One exchange


def test_all_that_is_known_of_a_question(client):
    answer = ask(client, "what is it?")

    details = client.get(f"/api/history/{answer['id']}").json()

    [item] = client.get("/api/history", params={"limit": 1}).json()["items"]
    assert {name: value for name, value in details.items() if name in item and name != "usage"} == {
        name: value for name, value in item.items() if name != "usage"
    }
    assert item["usage"].items() <= details["usage"].items()
    assert (details["dialect"], details["stream"], details["cached"], details["asked_model"]) == (
        "ask",
        False,
        False,
        "",
    )
    assert details["finish_reason"] == "stop"
    assert [attempt["outcome"] for attempt in details["attempts"]] == ["completed"]
    assert details["request"] is details["response"] is None
    timing = details["timing"]
    assert timing["first_token_ms"] is None
    assert 0 < timing["waited_ms"] < timing["duration_ms"]
    assert timing["overhead_ms"] == pytest.approx(timing["duration_ms"] - timing["waited_ms"], abs=0.01)


@pytest.mark.parametrize("path", ["/api/ask", "/api/streaming"])
def test_of_a_question_with_more_to_it_the_request_is_there(client, path):
    body = {"question": "sing", "system": "Be kind.", "temperature": 0.5, "max_tokens": 9}
    client.post(path, json=body).raise_for_status()
    [item] = client.get("/api/history", params={"limit": 1}).json()["items"]

    details = client.get(f"/api/history/{item['id']}").json()

    assert (details["question"], details["request"], details["response"]) == ("sing", body, None)


def test_the_bodies_of_a_call_of_v1_are_values(client):
    body = {"model": "mock", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}
    sent = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    [item] = client.get("/api/history").json()["items"]

    details = client.get(f"/api/history/{item['id']}").json()

    assert (details["request"], details["response"]) == (body, sent)
    assert (details["dialect"], details["asked_model"]) == ("chat", "mock")


def test_a_stream_has_the_time_of_its_first_content(scripted):
    service, upstream = scripted
    upstream.handler = stream(delta("a"), delta("b"), finish())
    service.client.post("/api/streaming", json={"question": "stream"}).raise_for_status()
    [item] = service.history(limit=1)

    timing = service.client.get(f"/api/history/{item['id']}").json()["timing"]

    assert 0 < timing["waited_ms"] < timing["first_token_ms"] <= timing["duration_ms"]
    assert timing["overhead_ms"] == pytest.approx(timing["first_token_ms"] - timing["waited_ms"], abs=0.01)


@pytest.mark.parametrize("name", ["x", "%00", "a%2Fb", "8f61ed65-da07-44e0-85be-44f1debe3d5e", "'%20or%201=1"])
def test_what_is_not_there_is_404(service, name):
    for path in (f"/api/history/{name}", f"/api/conversations/{name}"):
        response = service.client.get(path)

        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"


# Feedback and tags


def test_feedback_is_the_last_that_was_given(client):
    path = f"/api/history/{ask(client)['id']}"
    client.put(f"{path}/feedback", json={"thumb": "down", "comment": "Nonsense."}).raise_for_status()
    client.put(f"{path}/feedback", json={"thumb": "up", "score": 0.9}).raise_for_status()

    given = client.get(path).json()["feedback"]
    client.delete(f"{path}/feedback").raise_for_status()
    client.delete(f"{path}/feedback").raise_for_status()

    assert (given["thumb"], given["score"], given["comment"]) == ("up", 0.9, None)
    assert client.get(path).json()["feedback"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"thumb": None},
        {"thumb": "left"},
        {"score": "1"},
        {"score": True},
        {"score": 1e300},
        {"comment": "x" * 2001},
        {"comment": "\x00"},
        {"thumb": "up", "mood": "good"},
    ],
)
def test_feedback_that_says_nothing_or_too_much_is_refused(client, body):
    path = f"/api/history/{ask(client)['id']}/feedback"

    assert client.put(path, json=body).status_code == 400


def test_tags_are_set_in_place_of_those_there_were(client):
    path = f"/api/history/{ask(client)['id']}"
    client.put(f"{path}/tags", json={"tags": ["old"]}).raise_for_status()

    told = client.put(f"{path}/tags", json={"tags": [" zebra", "ясно", "zebra", "a b"]}).json()

    assert told == {"tags": ["a b", "zebra", "ясно"]}
    assert client.get(path).json()["tags"] == told["tags"]
    assert client.put(f"{path}/tags", json={"tags": []}).json() == {"tags": []}


@pytest.mark.parametrize(
    "tags", [["x" * 51], [""], ["  "], ["a\nb"], ["\x00"], [1], "x", None, [str(number) for number in range(21)]]
)
def test_tags_that_cannot_be_listed_are_refused(client, tags):
    path = f"/api/history/{ask(client)['id']}/tags"

    response = client.put(path, json={"tags": tags})

    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("tags")


# Deleting


def test_a_deleted_exchange_is_gone_but_still_counts(client, manager):
    exchange_id = ask(client, "forget me")["id"]
    client.put(f"/api/history/{exchange_id}/tags", json={"tags": ["x"]}).raise_for_status()
    client.put(f"/api/history/{exchange_id}/feedback", json={"thumb": "up"}).raise_for_status()

    deleted = manager.delete(f"/api/history/{exchange_id}")

    assert deleted.status_code == 204
    assert manager.delete(f"/api/history/{exchange_id}").status_code == 404
    assert client.get(f"/api/history/{exchange_id}").status_code == 404
    assert found(client) == []
    assert client.get("/api/me/usage").json()["total"]["calls"] == 1
    [entry] = manager.get("/api/audit", params={"target": f"exchange:{exchange_id}"}).json()["items"]
    assert entry["action"] == "history.delete"


def test_a_key_that_may_not_manage_deletes_nothing(client):
    exchange_id = ask(client)["id"]

    response = client.delete(f"/api/history/{exchange_id}")

    assert response.status_code == 403
    assert "--scope manage" in response.json()["error"]["message"]


def test_all_of_a_user_can_be_deleted(start):
    service = start()
    with manager_of(service) as client:
        user_id = ask(client, "mine")["id"] and client.get("/api/auth/me").json()["id"]
        for number in range(4):
            ask(client, f"mine {number}", conversation_id=str(uuid4()))
        fork = client.post(f"/api/history/{ask(client)['id']}/fork").json()["id"]
        client.patch(f"/api/conversations/{fork}", json={"title": "A secret"}).raise_for_status()

        deleted = client.delete(f"/api/users/{user_id}/history")

        assert deleted.json() == {"deleted": 6, "complete": True}
        assert found(client) == []
        assert client.get("/api/conversations").json()["items"] == []
        entries = client.get("/api/audit", params={"target": f"user:{user_id}"}).json()["items"]
        assert [entry["action"] for entry in entries if "history" in entry["action"]] == [
            "history.deleted",
            "history.delete",
        ]
        assert entries[0]["details"]["deleted"] == 6
