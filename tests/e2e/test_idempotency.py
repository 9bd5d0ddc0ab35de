"""The header Idempotency-Key: a retry gets the answer of the first try."""

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.service import http_request
from tests.upstream import Upstream, completion, error, words

CHAT = {"model": "small", "messages": [{"role": "user", "content": "ping"}]}
QUESTION = {"question": "ping"}
REQUESTS = {
    "/api/ask": QUESTION,
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "small", "input": "ping"},
    "/v1/messages": {"model": "small", "max_tokens": 9, "messages": CHAT["messages"]},
}
DAY = 24 * 3600 * 1_000_000


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.handler = completion()
        yield upstream


@pytest.fixture
def serve(start, upstream):
    """Starts a server that asks the scripted provider."""

    def serve(directory=None, **settings):
        provider = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.url, "AI_PROXY_DEFAULT_MODEL": "small"}
        return start(directory, **provider, **settings)

    return serve


@pytest.fixture
def service(serve):
    return serve()


def calls(upstream) -> int:
    return sum(connection.head.startswith("POST") for connection in upstream.connections)


def post(service, path="/api/ask", body=QUESTION, *, key="once", client=None, **headers):
    return (client or service.client).post(path, json=body, headers={"idempotency-key": key, **headers})


def execute(service, statement: str, *values) -> list:
    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def code(response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def slow(answer, seconds: float = 1.0):
    async def handle(connection) -> None:
        await asyncio.sleep(seconds)
        await answer(connection)

    return handle


@pytest.mark.parametrize("path", REQUESTS)
def test_the_same_request_gets_the_same_answer_and_is_not_made_again(service, upstream, path):
    first = post(service, path, REQUESTS[path])
    again = post(service, path, REQUESTS[path])

    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    for name in ("content-type", "x-ai-proxy-provider", "x-ai-proxy-model", "x-ai-proxy-attempts"):
        assert again.headers[name] == first.headers[name]
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert calls(upstream) == 1
    assert len(service.history()) == 1


def test_the_log_says_that_an_answer_was_given_again_and_whose_it_is(service):
    first = post(service)
    post(service)

    requests = service.eventually(lambda: len(found := service.request_log("/api/ask")) == 2 and found)
    [line] = [line for line in service.log() if line["message"] == "idempotency: an answer is given again"]
    assert line["exchange_id"] == first.json()["id"]
    assert [request.get("exchange_id") for request in requests] == [first.json()["id"], None]


def test_the_order_of_names_in_the_body_does_not_count(service, upstream):
    first = post(service, "/v1/chat/completions", CHAT)
    again = post(service, "/v1/chat/completions", dict(reversed(CHAT.items())))

    assert again.content == first.content
    assert calls(upstream) == 1


def test_another_request_under_the_same_key_is_refused(service, upstream):
    post(service)

    other_body = post(service, body={"question": "pong"})
    other_conversation = post(service, body={**QUESTION, "conversation_id": "8b1f6b2e-0000-4000-8000-000000000001"})
    other_path = post(service, "/v1/chat/completions", CHAT)

    assert code(other_body) == (422, "idempotency_key_reused")
    assert other_body.json()["error"]["param"] == "idempotency-key"
    assert code(other_conversation) == code(other_path) == (422, "idempotency_key_reused")
    assert calls(upstream) == 1


def test_the_same_idempotency_key_of_two_callers_is_two(service, upstream):
    with service.client_with(service.new_key("other")) as other:
        first, second = post(service), post(service, client=other)
        again = post(service, client=other)

    assert first.json()["id"] != second.json()["id"]
    assert again.json()["id"] == second.json()["id"]
    assert calls(upstream) == 2


def test_while_the_first_try_runs_another_one_is_told_to_wait(service, upstream):
    upstream.handler = slow(completion())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, service)
        service.eventually(lambda: calls(upstream))

        conflict = post(service)
        other = post(service, body={"question": "pong"})
        another_key = post(service, key="twice")
        first = running.result()

    assert code(conflict) == (409, "idempotency_conflict")
    assert conflict.headers["retry-after"] == "1"
    assert code(other) == (422, "idempotency_key_reused")
    assert another_key.status_code == 200
    assert post(service).content == first.content
    assert calls(upstream) == 2


def test_of_many_equal_requests_at_once_one_is_made(service, upstream):
    upstream.handler = slow(completion())
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: post(service), range(8)))

    assert sorted(response.status_code for response in responses) == [200, *[409] * 7]
    assert calls(upstream) == 1


def test_a_failure_is_not_kept_so_that_a_retry_tries_again(service, upstream):
    upstream.handler = error(400)
    failed = post(service)
    upstream.handler = completion()
    retried = post(service)

    assert failed.status_code == 400
    assert retried.status_code == 200
    assert "idempotent-replayed" not in retried.headers
    assert post(service).content == retried.content


def test_a_call_that_its_client_left_is_made_again(service, upstream):
    upstream.handler = slow(completion(), 30)
    body = json.dumps(QUESTION).encode()
    with service.raw(http_request(body, headers="idempotency-key: once\r\n")):
        service.eventually(lambda: calls(upstream))
    service.eventually(service.history)
    upstream.handler = completion()

    assert post(service).status_code == 200
    assert calls(upstream) == 2


def test_answers_survive_a_restart(serve, upstream):
    service = serve()
    first = {path: post(service, path, body, key=path) for path, body in REQUESTS.items()}
    service.stop()

    restarted = serve(service.directory)
    again = {path: post(restarted, path, body, key=path) for path, body in REQUESTS.items()}

    assert [response.content for response in again.values()] == [response.content for response in first.values()]
    assert calls(upstream) == len(REQUESTS)


def test_answers_survive_sudden_death(serve, upstream):
    service = serve()
    first = post(service)
    service.process.kill()
    service.process.wait()

    assert post(serve(service.directory)).content == first.content
    assert calls(upstream) == 1


def test_another_process_knows_the_answer_too(serve, upstream):
    one = serve()
    other = serve(one.directory)

    assert post(other).content == post(one).content
    assert calls(upstream) == 1


def test_after_a_day_the_key_is_free_again(service, upstream):
    first = post(service)
    execute(service, "update idempotent_answers set created_at = created_at - ?", DAY)

    second = post(service, body={"question": "pong"})

    assert second.status_code == 200
    assert second.json()["id"] != first.json()["id"]
    assert post(service, body={"question": "pong"}).content == second.content
    assert calls(upstream) == 2


def test_without_the_header_nothing_is_kept(service):
    service.ask()

    assert execute(service, "select count(*) from idempotent_answers") == [(0,)]


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é", "a\tb"])
def test_a_key_that_cannot_be_one_is_refused(service, upstream, key):
    response = post(service, key=key.encode())

    assert code(response) == (400, "invalid_request")
    assert response.json()["error"]["param"] == "idempotency-key"
    assert calls(upstream) == 0


def test_a_key_may_be_as_long_as_255_characters(service):
    first = post(service, key="~" * 255)

    assert post(service, key="~" * 255).content == first.content


@pytest.mark.parametrize(
    ("path", "body"), [("/api/streaming", QUESTION), ("/v1/chat/completions", {**CHAT, "stream": True})]
)
def test_streams_ignore_it(service, upstream, path, body):
    upstream.handler = words("pong")

    responses = [post(service, path, body) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    assert calls(upstream) == 2


def test_an_answer_from_memory_is_kept_too(serve, upstream):
    service = serve(AI_PROXY_CACHE__TTL=60)
    post(service, key="first")

    hit = post(service, key="second")
    again = post(service, key="second")

    assert hit.headers["x-ai-proxy-cache"] == "hit"
    assert again.content == hit.content
    assert again.headers["idempotent-replayed"] == "true"
    assert calls(upstream) == 1


def test_when_the_database_is_away_the_call_is_not_made(service, upstream):
    post(service)
    database = service.directory / "data" / "ai-proxy.db"
    database.rename(database.with_suffix(".away"))

    response = post(service, key="another")

    assert code(response) == (503, "database_unavailable")
    assert calls(upstream) == 1
