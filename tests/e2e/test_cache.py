"""Answers that are given again, and calls that share one: as clients, provider, history and metrics see it."""

import asyncio
import json
import re
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.service import events, http_request, read_all
from tests.upstream import Upstream, completion, delta, finish, silence, status, stream, usage, words

CHAT = {"model": "small", "messages": [{"role": "user", "content": "ping"}]}


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.handler = numbered(upstream)
        yield upstream


@pytest.fixture
def serve(start, upstream):
    """Starts a server that asks the scripted provider."""

    def serve(**settings):
        provider = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.url, "AI_PROXY_DEFAULT_MODEL": "small"}
        return start(**provider, **settings)

    return serve


@pytest.fixture
def caching(serve):
    return serve(AI_PROXY_CACHE__TTL=60)


def calls(upstream) -> int:
    return sum(connection.head.startswith("POST") for connection in upstream.connections)


def numbered(upstream):
    """Each answer says which one it is."""

    async def handle(connection) -> None:
        text = f"answer {calls(upstream)}"
        is_stream = connection.body and connection.json.get("stream")
        await (words(*text.split(" ")) if is_stream else completion(text, id=f"chatcmpl-{text[-1]}"))(connection)

    return handle


def post(service, path="/v1/chat/completions", body=CHAT, *, client=None, **headers):
    return (client or service.client).post(path, json=body, headers=headers)


def rows(service) -> list[dict]:
    """What the history keeps of each call, oldest first."""
    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("select * from exchanges order by id")]


def metric(service, name: str) -> float:
    text = service.client.get("/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def outcomes(*responses) -> list[str | None]:
    return [response.headers.get("x-ai-proxy-cache") for response in responses]


REQUESTS = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "small", "input": "ping"},
    "/v1/messages": {"model": "small", "max_tokens": 9, "messages": CHAT["messages"]},
}


@pytest.mark.parametrize("path", REQUESTS)
def test_an_equal_request_gets_the_same_bytes_and_the_provider_is_not_asked(caching, upstream, path):
    first = post(caching, path, REQUESTS[path])
    second = post(caching, path, REQUESTS[path])

    assert second.content == first.content
    assert outcomes(first, second) == ["miss", "hit"]
    assert (first.headers.get("age"), second.headers["age"]) == (None, "0")
    assert (second.headers["x-ai-proxy-provider"], second.headers["x-ai-proxy-attempts"]) == ("openai", "0")
    assert calls(upstream) == 1


@pytest.mark.parametrize("path", REQUESTS)
def test_a_stream_is_given_again_event_by_event(caching, upstream, path):
    body = {**REQUESTS[path], "stream": True}

    first = post(caching, path, body)
    second = post(caching, path, body)

    assert second.content == first.content
    assert "answer" in first.text
    assert outcomes(first, second) == ["miss", "hit"]
    assert calls(upstream) == 1
    assert [row["answer"] for row in rows(caching)] == ["answer1", "answer1"]


def test_a_stream_and_a_whole_answer_are_different_requests(caching, upstream):
    whole = post(caching)
    streamed = post(caching, body={**CHAT, "stream": True})

    assert outcomes(whole, streamed) == ["miss", "miss"]
    assert calls(upstream) == 2


def test_embeddings_and_text_completions_too(start):
    service = start(AI_PROXY_CACHE__TTL=60)

    for path, body in (("/v1/embeddings", {"input": "x"}), ("/v1/completions", {"prompt": "x"})):
        first, second = (post(service, path, {"model": "mock", **body}) for _ in range(2))

        assert outcomes(first, second) == ["miss", "hit"]
        assert second.content == first.content


def test_questions_too_and_each_answer_has_an_id_of_its_own(caching, upstream):
    first, second = caching.ask("ping"), caching.ask("ping")
    streams = [caching.client.post("/api/streaming", json={"question": "ping"}) for _ in range(2)]

    assert outcomes(first, second, *streams) == ["miss", "hit", "miss", "hit"]
    assert first.json()["answer"] == second.json()["answer"] == "answer 1"
    assert first.json()["usage"] == second.json()["usage"]
    assert first.json()["id"] != second.json()["id"]
    told = [[(name, data) for name, data in events(found.text) if name == "delta"] for found in streams]
    assert told[0] == told[1] != []
    assert calls(upstream) == 2


def test_in_a_conversation_a_question_is_equal_only_after_the_same_words(caching, upstream):
    conversation = "8b1f6b2e-0000-4000-8000-000000000001"

    first = caching.ask("ping", conversation_id=conversation)
    second = caching.ask("ping", conversation_id=conversation)
    elsewhere = caching.ask("ping", conversation_id="8b1f6b2e-0000-4000-8000-000000000002")

    assert outcomes(first, second, elsewhere) == ["miss", "miss", "hit"]
    assert calls(upstream) == 2


def test_a_hit_is_recorded_as_a_call_that_no_provider_counted(caching):
    post(caching)
    tokens = metric(caching, 'aiproxy_tokens_total{direction="output",provider="openai"}')

    post(caching)

    made, cached = rows(caching)
    assert [(row["cached"], row["attempts"] == "[]") for row in (made, cached)] == [(0, False), (1, True)]
    for name in ("answer", "model", "provider", "finish_reason", "input_tokens", "output_tokens", "status", "key_id"):
        assert cached[name] == made[name]
    assert tokens == 4
    assert metric(caching, 'aiproxy_tokens_total{direction="output",provider="openai"}') == tokens
    assert metric(caching, 'aiproxy_upstream_requests_total{outcome="completed",provider="openai"}') == 1
    assert (metric(caching, "aiproxy_cache_hits_total"), metric(caching, "aiproxy_cache_misses_total")) == (1, 1)
    assert metric(caching, "aiproxy_cache_bytes") > 0


def test_two_keys_never_share(caching, upstream):
    with caching.client_with(caching.new_key("other")) as other:
        responses = [post(caching), post(caching, client=other), post(caching), post(caching, client=other)]

    assert outcomes(*responses) == ["miss", "miss", "hit", "hit"]
    assert [response.json()["id"] for response in responses] == ["chatcmpl-1", "chatcmpl-2"] * 2


def test_a_header_that_changes_how_a_request_is_read_makes_it_another(caching):
    first = post(caching, **{"openai-beta": "one"})
    second = post(caching, **{"openai-beta": "two"})

    assert outcomes(first, second) == ["miss", "miss"]


def test_no_cache_asks_the_provider_and_keeps_the_new_answer(caching):
    responses = [post(caching), post(caching, **{"cache-control": "no-cache"}), post(caching)]

    assert outcomes(*responses) == ["miss", None, "hit"]
    assert [response.json()["id"] for response in responses] == ["chatcmpl-1", "chatcmpl-2", "chatcmpl-2"]


def test_no_store_leaves_nothing_behind(caching):
    responses = [post(caching, **{"cache-control": "no-store"}), post(caching)]

    assert outcomes(*responses) == [None, "miss"]


def test_max_age_takes_young_answers_only(caching):
    post(caching)
    time.sleep(1.1)

    responses = [post(caching, **{"cache-control": f"max-age={seconds}"}) for seconds in (60, 1)]

    assert outcomes(*responses) == ["hit", "miss"]
    assert responses[0].headers["age"] == "1"


def test_an_answer_ends_with_its_time(serve, upstream):
    service = serve(AI_PROXY_CACHE__TTL=0.5)

    responses = [post(service), post(service)]
    time.sleep(0.6)
    responses.append(post(service))

    assert outcomes(*responses) == ["miss", "hit", "miss"]
    assert calls(upstream) == 2


def test_failures_and_streams_that_break_off_are_not_kept(caching, upstream):
    good = upstream.handler
    upstream.handler = status(400, b"{}")
    failed = post(caching)
    upstream.handler = stream(delta("half"), end=b"")
    with caching.client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        list(response.iter_raw())
    upstream.handler = good

    responses = [post(caching), post(caching, body={**CHAT, "stream": True})]

    assert failed.status_code == 400
    assert outcomes(failed, *responses) == [None, "miss", "miss"]
    assert "half" not in responses[1].text


def test_a_stream_that_its_client_left_is_not_kept(caching, upstream):
    body = json.dumps({**CHAT, "stream": True}).encode()
    upstream.handler = stream(delta("one"), 5.0, delta("two"), finish(), usage())
    with caching.raw(http_request(body, path="/v1/chat/completions")) as connection:
        connection.recv(1000)
    caching.eventually(lambda: rows(caching))
    upstream.handler = words("whole")

    response = post(caching, body={**CHAT, "stream": True})

    assert outcomes(response) == ["miss"]
    assert "whole" in response.text


def test_a_response_from_memory_can_be_fetched_even_after_the_first_was_forgotten(caching):
    first = post(caching, "/v1/responses", REQUESTS["/v1/responses"])
    path = f"/v1/responses/{first.json()['id']}"

    caching.client.delete(path).raise_for_status()
    gone = caching.client.get(path)
    again = post(caching, "/v1/responses", REQUESTS["/v1/responses"])

    assert gone.status_code == 404
    assert outcomes(again) == ["hit"]
    assert caching.client.get(path).json() == first.json()


def test_when_the_routes_change_old_answers_are_forgotten(caching):
    post(caching)
    caching.process.send_signal(signal.SIGHUP)
    caching.eventually(lambda: any("reload" in line["message"] for line in caching.log()))

    assert outcomes(post(caching)) == ["miss"]


def test_off_by_default_whatever_a_client_asks_for(serve, upstream):
    service = serve()

    responses = [post(service, **{"cache-control": "max-age=60"}) for _ in range(2)]

    assert outcomes(*responses) == [None, None]
    assert calls(upstream) == 2


def slow(answer, seconds: float = 0.5):
    """The same answer, after some time."""

    async def handle(connection) -> None:
        await asyncio.sleep(seconds)
        await answer(connection)

    return handle


def at_once(count: int, call) -> list:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: call(), range(count)))


def test_equal_calls_at_one_time_share_one_answer(serve, upstream):
    service = serve(AI_PROXY_CACHE__COALESCE="true")
    upstream.handler = slow(upstream.handler)

    responses = at_once(5, lambda: post(service))

    assert len({response.content for response in responses}) == 1
    assert sorted(map(str, outcomes(*responses))) == ["None", *["shared"] * 4]
    assert calls(upstream) == 1
    assert sorted(row["cached"] for row in rows(service)) == [0, 1, 1, 1, 1]
    assert metric(service, "aiproxy_shared_answers_total") == 4
    assert metric(service, 'aiproxy_tokens_total{direction="output",provider="openai"}') == 4


def test_who_takes_no_answer_from_memory_shares_none(serve, upstream):
    service = serve(AI_PROXY_CACHE__COALESCE="true")
    upstream.handler = slow(upstream.handler, 0.2)

    at_once(3, lambda: post(service, **{"cache-control": "no-cache"}))

    assert calls(upstream) == 3


def test_the_keys_of_two_callers_do_not_share(serve, upstream):
    service = serve(AI_PROXY_CACHE__COALESCE="true")
    upstream.handler = slow(upstream.handler)
    with service.client_with(service.new_key("other")) as other:
        clients = [service.client, other]
        at_once(2, lambda: post(service, client=clients.pop()))

    assert calls(upstream) == 2


def test_a_shared_failure_reaches_everybody(serve, upstream):
    service = serve(AI_PROXY_CACHE__COALESCE="true")

    upstream.handler = slow(status(400, b'{"error": {"message": "no"}}'))

    responses = at_once(3, lambda: post(service))

    assert [response.status_code for response in responses] == [400] * 3
    assert calls(upstream) == 1
    assert [row["error"] for row in rows(service)] == ["upstream_rejected"] * 3


def test_the_call_outlives_the_client_that_began_it(serve, upstream):
    service = serve(AI_PROXY_CACHE__COALESCE="true")
    upstream.handler = slow(upstream.handler, 1.0)
    request = http_request(json.dumps(CHAT, separators=(",", ":")).encode(), path="/v1/chat/completions")
    first = service.raw(request)
    service.eventually(lambda: calls(upstream))
    second = service.raw(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
    time.sleep(0.2)

    first.close()
    answer = read_all(second)
    second.close()

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"answer 1" in answer
    assert calls(upstream) == 1
    service.eventually(lambda: len(rows(service)) == 2)
    left, stayed = rows(service)
    assert (left["status"], left["error"], left["attempts"]) == ("cancelled", "client_gone", "[]")
    assert (stayed["status"], stayed["cached"], stayed["output_tokens"]) == ("completed", 0, 4)


def test_when_all_clients_leave_the_provider_is_left_too(serve, upstream):
    service = serve(AI_PROXY_CACHE__COALESCE="true")
    upstream.handler = silence
    request = http_request(json.dumps(CHAT).encode(), path="/v1/chat/completions")
    clients = [service.raw(request) for _ in range(2)]
    service.eventually(lambda: calls(upstream))
    time.sleep(0.2)

    for client in clients:
        client.close()

    made = [connection for connection in upstream.connections if connection.head.startswith("POST")]
    assert service.eventually(lambda: made[0].closed_after) < 3
    service.eventually(lambda: len(rows(service)) == 2)
