"""What calls cost, wherever a client or an operator looks at it."""

import json
import sqlite3

import pytest

from tests.service import Service, events
from tests.upstream import DONE, Upstream, completion, delta, event, finish, stream, usage, words

CACHED = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "prompt_tokens_details": {"cached_tokens": 800},
    "completion_tokens_details": {"reasoning_tokens": 60},
}


@pytest.fixture(scope="module")
def start_module(tmp_path_factory):
    started = []

    def begin(upstream, **settings):
        service = Service(tmp_path_factory.mktemp("priced")).configure(**configuration(upstream, **settings)).start()
        started.append(service)
        return service

    yield begin
    for service in started:
        assert service.stop() == 0
        service.client.close()


@pytest.fixture(scope="module")
def priced_pair(start_module):
    with Upstream() as upstream:
        yield start_module(upstream), upstream


@pytest.fixture
def priced(priced_pair):
    """A server whose models have prices: (service, upstream)."""
    service, upstream = priced_pair
    upstream.handler = completion()
    upstream.connections.clear()
    return service, upstream


def configuration(upstream, **settings):
    return {
        "providers": {"openai": {"base_url": upstream.url, "api_keys": "sk-upstream-canary-key"}},
        "default_model": "own",
        "prices": {"openai/own": {"input": 2.5, "output": 10, "cache_read": 1.25, "request": 0.001}},
        **settings,
    }


def chat(service, model="own", **fields):
    return service.client.post(
        "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "ping"}], **fields}
    )


def test_an_answer_says_what_it_cost(priced):
    service, upstream = priced
    upstream.handler = completion(usage=CACHED)

    asked = service.ask()

    # 200 · 2.5 + 800 · 1.25 + 100 · 10 millionths, and 1000 for the call
    assert asked.json()["cost_usd"] == "0.0035"
    assert asked.headers["x-ai-proxy-cost-usd"] == "0.0035"
    assert service.history()[0]["cost_usd"] == "0.0035"


def test_a_call_in_an_sdks_format_says_it_in_a_header(priced):
    service, upstream = priced
    upstream.handler = completion(usage=CACHED)

    assert chat(service).headers["x-ai-proxy-cost-usd"] == "0.0035"


def test_a_stream_says_it_at_its_end(priced):
    service, upstream = priced
    upstream.handler = words("pong")

    response = service.client.post("/api/streaming", json={"question": "ping"})

    tail = dict(events(response.text))["done"]
    assert tail["cost_usd"] == "0.0010475"
    assert set(tail["usage"]) == {"input_tokens", "output_tokens", "estimated"}
    assert "x-ai-proxy-cost-usd" not in chat(service, stream=True).headers


def test_the_row_has_all_kinds_of_tokens_and_the_price(priced):
    service, upstream = priced
    upstream.handler = completion(usage=CACHED)
    answer = service.ask().json()

    with sqlite3.connect(service.directory / "data" / "ai-proxy.db") as database:
        row = database.execute(
            "SELECT cache_read_tokens, reasoning_tokens, cost, price FROM exchanges WHERE id = ?", (answer["id"],)
        ).fetchone()

    assert row[:3] == (800, 60, 3_500_000)
    assert json.loads(row[3])["cache_read"] == 1_250_000_000


def test_what_the_provider_says_wins(priced):
    service, upstream = priced
    upstream.handler = completion(usage={**CACHED, "cost": 0.95})

    assert service.ask().json()["cost_usd"] == "0.95"


def test_a_stream_that_its_client_left_has_a_cost(priced):
    service, upstream = priced
    upstream.handler = stream(delta("a" * 400), 30.0)

    with service.client.stream("POST", "/api/streaming", json={"question": "leaves"}) as response:
        next(response.iter_bytes())
    item = service.eventually(lambda: [item for item in service.history() if item["question"] == "leaves"])[0]

    assert (item["status"], item["usage"]["estimated"]) == ("cancelled", True)
    assert item["cost_usd"] == "0.002005"  # 2 · 2.5 + 100 · 10, and the call


def test_a_call_to_a_tool_is_not_free_because_nobody_counted_it(priced):
    service, upstream = priced
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "the sea"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    upstream.handler = completion(usage=None, choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])

    assert chat(service).headers["x-ai-proxy-cost-usd"] == "0.0010625"  # 1 · 2.5 + 6 · 10


def test_a_model_that_nobody_prices_is_answered_without_a_cost(priced):
    service, _ = priced
    before = metric(service, "aiproxy_unpriced_calls_total")

    answer = service.ask(model="nobody-knows")

    assert answer.json()["cost_usd"] is None
    assert "x-ai-proxy-cost-usd" not in answer.headers
    assert metric(service, "aiproxy_unpriced_calls_total") == before + 1


def test_a_model_of_the_lists_costs_what_they_say(priced):
    service, upstream = priced
    upstream.handler = completion(usage=CACHED)

    assert service.ask(model="gpt-4o").json()["cost_usd"] == "0.0025"


def test_what_was_spent_is_counted_and_logged(priced):
    service, upstream = priced
    upstream.handler = completion(usage=CACHED)
    before = metric(service, 'aiproxy_cost_usd_total{provider="openai"}')

    response = service.ask()

    assert metric(service, 'aiproxy_cost_usd_total{provider="openai"}') == pytest.approx(before + 0.0035)
    lines = service.eventually(
        lambda: [
            line for line in service.request_log("/api/ask") if line["request_id"] == response.headers["x-request-id"]
        ]
    )
    assert lines[0]["cost_usd"] == "0.0035"


def test_a_call_that_nobody_answered_costs_nothing(priced):
    service, upstream = priced
    upstream.handler = completion(choices=[])

    service.ask("fails")

    assert service.history()[0]["cost_usd"] == "0.00"


def test_the_mock_is_free(mocked):
    assert mocked.ask().json()["cost_usd"] == "0.00"


def test_an_answer_from_memory_costs_nothing(start_module):
    with Upstream() as upstream:
        service = start_module(upstream, cache={"ttl": 60})

        costs = [service.ask("again").headers["x-ai-proxy-cost-usd"] for _ in range(2)]

    assert costs == ["0.0010475", "0.00"]


def test_models_without_a_price_may_be_refused_before_anybody_is_asked(start_module):
    with Upstream() as upstream:
        service = start_module(upstream, pricing={"unpriced": "refuse"})
        upstream.connections.clear()

        refused = service.ask(model="nobody-knows")
        streamed = chat(service, "nobody-knows", stream=True)
        asked = [connection for connection in upstream.connections if connection.body]

        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_priced")
        assert (streamed.status_code, streamed.json()["error"]["code"]) == (403, "model_not_priced")
        assert asked == []
        assert service.ask().status_code == 200


def test_prices_change_at_a_reload(start_module):
    with Upstream() as upstream:
        service = start_module(upstream)
        before = service.ask().json()["cost_usd"]

        service.configure(**configuration(upstream, prices={"openai/own": {"input": 0, "output": 1}}))

        assert (before, service.ask().json()["cost_usd"]) == ("0.0010475", "0.000004")


def test_usage_that_comes_late_in_a_stream_is_charged(priced):
    service, upstream = priced
    upstream.handler = stream(delta("pong"), finish(), usage(1000, 100), event({"choices": []}), DONE)

    chat(service, stream=True).read()

    assert service.history()[0]["cost_usd"] == "0.0045"


def metric(service, name):
    lines = service.client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)
