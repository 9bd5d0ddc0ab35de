"""Budgets and limits of a real server, before many clients at one time, and across its death."""

import asyncio
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.service import KEY, Service, http_request
from tests.upstream import Upstream, completion, silence, stream, words

CHAT = {"model": "small", "messages": [{"role": "user", "content": "ping"}]}
BUDGET = 5_000_000_000  # nano-dollars


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.handler = completion()
        yield upstream


@pytest.fixture
def priced(store, upstream):
    """A server on either kind of database. Each call costs 10 cents."""
    store.directory.mkdir(exist_ok=True)
    service = Service(
        store.directory,
        OPENAI_API_KEY="sk-x",
        OPENAI_BASE_URL=upstream.url,
        AI_PROXY_DEFAULT_MODEL="small",
        **store.settings,
    )
    service.configure(prices={"openai/small": {"input": 0, "output": 0, "request": 0.1}})
    service.start()
    service.store = store
    yield service
    service.stop()
    service.client.close()


def give_budget(service, amount: int = BUDGET, subject: str = "service", period: str = "day") -> None:
    values = f"'{subject}', '{period}', {amount}, '[]'"
    service.store.query(f"insert into budgets (subject, period, amount, alerts) values ({values})")  # noqa: S608


def give_limit(service, subject: str = "service", **limits) -> None:
    names = ("requests_per_minute", "tokens_per_minute", "concurrent")
    values = ", ".join(str(limits.get(name, "null")) for name in names)
    service.store.query(
        f"insert into limits (subject, {', '.join(names)}) values ('{subject}', {values})"  # noqa: S608
    )


def ledger(service) -> tuple[int, int]:
    """Rows of the history, and what they cost together."""
    ((rows, cost),) = service.store.query("select count(*), coalesce(sum(cost), 0) from exchanges")
    return rows, int(cost)


def daily(service) -> int:
    ((cost,),) = service.store.query("select coalesce(sum(cost), 0) from daily_usage")
    return int(cost)


def asked(upstream) -> int:
    """Calls that came to the provider. It is asked for its models, too."""
    return sum(connection.head.startswith("POST") for connection in upstream.connections)


def chat(service, **fields) -> httpx2.Response:
    return service.client.post("/v1/chat/completions", json={**CHAT, **fields})


async def storm(service, calls: int) -> Counter:
    limits = httpx2.Limits(max_connections=calls)
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=service.url, headers=headers, limits=limits, timeout=60) as client:
        answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=CHAT) for _ in range(calls)))
    return Counter("answered" if answer.status_code == 200 else answer.json()["error"]["code"] for answer in answers)


def test_of_a_thousand_calls_at_one_time_just_those_are_answered_that_the_budget_pays_for(priced):
    give_budget(priced)

    outcomes = asyncio.run(storm(priced, 1000))

    assert outcomes == {"answered": 50, "insufficient_quota": 950}
    assert ledger(priced) == (50, BUDGET)
    assert daily(priced) == BUDGET
    metrics = priced.client.get("/metrics").text
    assert 'aiproxy_rate_limited_total{scope="budget"} 950.0' in metrics


def test_after_a_sudden_death_nothing_is_reserved_and_what_was_spent_is_what_the_ledger_says(priced, upstream):
    give_budget(priced)
    for _ in range(20):
        assert chat(priced).status_code == 200
    upstream.handler = silence
    running = [priced.raw(http_request(b'{"question": "ping"}')) for _ in range(30)]
    priced.eventually(lambda: asked(upstream) == 50)
    assert ledger(priced) == (20, 2_000_000_000)

    priced.stop(signal.SIGKILL)
    for connection in running:
        connection.close()
    upstream.handler = completion()
    priced.start()
    outcomes = asyncio.run(storm(priced, 100))

    assert outcomes == {"answered": 30, "insufficient_quota": 70}
    assert ledger(priced) == (50, BUDGET)
    assert daily(priced) == BUDGET


def test_a_client_that_goes_away_gives_its_reservation_back(priced, upstream):
    give_budget(priced, 100_000_000)
    upstream.handler = silence
    gone = priced.raw(http_request(b'{"question": "ping"}'))
    priced.eventually(lambda: asked(upstream) == 1)

    gone.close()
    priced.eventually(lambda: ledger(priced)[0] == 1)
    upstream.handler = completion()

    assert chat(priced).status_code == 200
    assert chat(priced).json()["error"]["code"] == "insufficient_quota"


def test_a_refusal_for_money_is_told_as_clients_know_it(priced):
    give_budget(priced, 50_000_000)

    answer = chat(priced)

    assert answer.status_code == 429
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert answer.json()["error"]["type"] == answer.json()["error"]["code"] == "insufficient_quota"
    assert priced.history() == []


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_answers_and_refusals_tell_what_is_left(priced, upstream, streamed):
    give_limit(priced, requests_per_minute=2, tokens_per_minute=1000)
    upstream.handler = words("po", "ng") if streamed else completion()

    first, second, third = (chat(priced, stream=streamed) for _ in range(3))

    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
    told = [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, third)]
    assert told == ["1", "0", "0"]
    assert re.fullmatch(r"1m[01]s|60s", first.headers["x-ratelimit-reset-requests"])
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert first.headers["ratelimit-policy"] == '"requests";q=2;w=60, "tokens";q=1000;w=60'
    assert re.fullmatch(r'"requests";r=1;t=6[01]', first.headers["ratelimit"])
    assert 58 <= int(third.headers["retry-after"]) <= 61
    assert 58_000 < int(third.headers["retry-after-ms"]) <= 61_000
    assert third.headers["x-should-retry"] == "true"
    assert third.json()["error"]["code"] == "rate_limit_exceeded"
    assert third.json()["error"]["retry_after"] == int(third.headers["retry-after-ms"]) / 1000
    assert len(priced.history()) == 2


def test_clients_of_anthropic_are_told_in_their_own_headers(priced):
    give_limit(priced, requests_per_minute=1)
    body = {"model": "small", "max_tokens": 5, "messages": CHAT["messages"]}

    first, second = (priced.client.post("/v1/messages", json=body) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert second.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", second.headers["anthropic-ratelimit-requests-reset"])
    assert second.json()["error"]["type"] == "rate_limit_error"


def test_an_answer_given_again_under_its_idempotency_key_takes_nothing(priced):
    give_limit(priced, requests_per_minute=1)
    give_budget(priced, 100_000_000)

    answers = [
        priced.client.post("/v1/chat/completions", json=CHAT, headers={"idempotency-key": "once"}) for _ in range(3)
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert ledger(priced) == (1, 100_000_000)


def test_streams_that_run_count_until_they_end(priced, upstream):
    give_limit(priced, concurrent=2)
    upstream.handler = stream(b'data: {"choices": [{"index": 0, "delta": {"content": "po"}}]}\n\n', silence)
    with ThreadPoolExecutor(2) as pool:
        streams = [priced.client.build_request("POST", "/v1/chat/completions", json={**CHAT, "stream": True})] * 2
        opened = list(pool.map(lambda request: priced.client.send(request, stream=True), streams))

    refused = chat(priced)
    for answer in opened:
        answer.close()
    upstream.handler = completion()
    priced.eventually(lambda: chat(priced).status_code == 200, pause=0.1)

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "at one time" in refused.json()["error"]["message"]


def test_the_limit_of_a_key_is_not_that_of_another(priced):
    other = priced.client_with(priced.new_key("other"))
    ((key_id,),) = priced.store.query("select id from api_keys where name = 'other'")
    give_limit(priced, f"key:{key_id}", requests_per_minute=1)

    statuses = [other.post("/v1/chat/completions", json=CHAT).status_code for _ in range(3)]

    assert statuses == [200, 429, 429]
    assert chat(priced).status_code == 200
    other.close()


def test_an_answer_from_memory_is_given_when_the_budget_is_spent(tmp_path, upstream):
    service = Service(
        tmp_path,
        OPENAI_API_KEY="sk-x",
        OPENAI_BASE_URL=upstream.url,
        AI_PROXY_DEFAULT_MODEL="small",
        AI_PROXY_CACHE__TTL=60,
    )
    service.configure(prices={"openai/small": {"input": 0, "output": 0, "request": 0.1}})
    service.start()
    service.run("budgets", "set", "service", "day", "0.1")
    service.eventually(lambda: service.ask("known").status_code == 200)

    again, other = service.ask("known"), service.ask("other")

    assert service.stop() == 0
    service.client.close()
    assert (again.status_code, again.headers["x-ai-proxy-cache"]) == (200, "hit")
    assert other.status_code == 429
