"""GET /api/usage and GET /api/me/usage, as clients see them; and what the sums of days are made of."""

import asyncio
import csv
import io
import json
import random
from contextlib import ExitStack
from datetime import UTC, datetime

import aiohttp
import pytest

from tests import ledger
from tests.service import KEY, http_request
from tests.upstream import Upstream, completion, delta, error, silence, stream

OPERATOR = "00000000-0000-7000-8000-000000000000"


def key_of(service, name: str, role: str) -> str:
    """A new key of a new user, which may do all that the user may."""
    key = service.new_key(f"{name}'s")
    ledger.change(service, "insert into users (id, name, role, created_at) values (?, ?, ?, 1)", name, name, role)
    ledger.change(
        service,
        """update api_keys set user_id = ?, scopes = '["calls", "history", "manage"]' where name = ?""",
        name,
        f"{name}'s",
    )
    return key


@pytest.fixture
def client_of():
    """Makes clients with keys of their own."""
    with ExitStack() as clients:
        yield lambda service, name, role: clients.enter_context(service.client_with(key_of(service, name, role)))


@pytest.fixture(scope="module")
def people(mocked):
    """Clients with keys of Ann, who administers, of Bob, who has called twice, and of Cat, who only looks on."""
    roles = {"ann": "admin", "bob": "member", "cat": "viewer"}
    with ExitStack() as clients:
        people = {
            name: clients.enter_context(mocked.client_with(key_of(mocked, name, role))) for name, role in roles.items()
        }
        for name in ("ann", "bob", "bob"):
            people[name].post("/api/ask", json={"question": f"ping from {name}"}).raise_for_status()
        yield people


def get(client, **query):
    return client.get("/api/usage", params={name.rstrip("_"): value for name, value in query.items()})


def rows(response) -> list[dict[str, str]]:
    assert response.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(response.text)))


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_a_report_is_what_the_history_adds_up_to(start, client_of):
    service = start()
    for question in ("one", "two words", "three words here"):
        service.ask(question).raise_for_status()
    client = client_of(service, "ann", "admin")

    report = get(client, group_by="day,model,provider").json()

    history = service.history()
    counted = {name: sum(item["usage"][name] for item in history) for name in ("input_tokens", "output_tokens")}
    (item,) = report["items"]
    assert (item["day"], item["model"], item["provider"]) == (today(), "mock", "mock")
    assert {name: item[name] for name in counted} == counted
    assert (item["calls"], item["failed"], item["unpriced"], item["cost_usd"]) == (3, 0, 0, "0.00")
    assert report["total"] == {name: item[name] for name in report["total"]}
    assert report["to"] == today()


def test_an_administrator_sees_everybody(people):
    items = get(people["ann"], group_by="user").json()["items"]

    seen = {item["user_name"]: item["calls"] for item in items}
    assert {"ann": 1, "bob": 2}.items() <= seen.items()


@pytest.mark.parametrize(("name", "calls"), [("bob", 2), ("cat", 0)])  # a viewer's key calls nothing
def test_others_see_their_own_calls(people, name, calls):
    report = get(people[name], group_by="user,key").json()

    assert {item["user"] for item in report["items"]} <= {name}
    assert report["total"]["calls"] == calls


@pytest.mark.parametrize("query", [{"user": "ann"}, {"user": OPERATOR}, {"key": "anybody's"}, {"project": "any"}])
def test_whoever_asks_for_others_finds_nothing(people, query):
    response = get(people["bob"], **query)

    assert response.status_code == 200
    assert response.json()["items"] == []
    assert response.json()["total"]["calls"] == 0


def test_members_of_a_project_see_its_calls(start, client_of):
    service = start()
    bob, eve = (client_of(service, name, "member") for name in ("bob", "eve"))
    ledger.change(service, "insert into projects (id, name, created_at) values ('x', 'xylophone', 1)")
    ledger.change(service, "insert into members (project_id, user_id) values ('x', 'bob'), ('x', 'eve')")
    ledger.change(service, "update api_keys set project_id = 'x' where user_id = 'bob'")
    bob.post("/api/ask", json={"question": "ping"}).raise_for_status()
    service.ask("not in the project").raise_for_status()

    (item,) = get(eve, group_by="project,user").json()["items"]

    assert (item["project_name"], item["user_name"], item["calls"]) == ("xylophone", "bob", 1)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from_": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"from_": "2026-11-02", "to": "2026-11-01"}, "from"),
        ({"group_by": "password"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"format": "xml"}, "format"),
        ({"role": "admin"}, "role"),
        ({"visible_to": "ann"}, "visible_to"),
        ({"model": "x" * 201}, "model"),
        ({"model": "\x00"}, "model"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(people, query, param):
    response = get(people["bob"], **query)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"
    assert response.json()["error"]["param"] == param


def test_without_the_scope_a_key_sees_no_report_but_its_own_use(mocked):
    report = get(mocked.client)
    own = mocked.client.get("/api/me/usage")

    assert report.status_code == 403
    assert own.status_code == 200


@pytest.mark.parametrize("path", ["/api/usage", "/api/me/usage"])
def test_without_a_key_there_is_nothing(mocked, path):
    response = mocked.client.get(path, headers={"authorization": ""})

    assert response.status_code == 401


# As CSV


@pytest.mark.parametrize("how", [{"params": {"format": "csv"}}, {"headers": {"accept": "text/csv"}}])
def test_the_same_may_be_had_as_csv(people, how):
    response = people["bob"].get("/api/usage", **how)

    assert response.headers["content-disposition"].startswith('attachment; filename="usage-2')
    assert [(row["day"], row["calls"], row["cost_usd"]) for row in rows(response)] == [(today(), "2", "0.00")]


def test_the_parameter_counts_more_than_the_header(people):
    response = people["bob"].get("/api/usage", params={"format": "json"}, headers={"accept": "text/csv"})

    assert response.json()["total"]["calls"] == 2


def test_no_cell_is_a_formula(start, client_of):
    service = start()
    evil = '=HYPERLINK("http://evil.example";"click")'
    key = service.new_key(evil)
    with service.client_with(key) as caller:
        caller.post("/api/ask", json={"question": "ping"}).raise_for_status()
    client = client_of(service, "ann", "admin")

    (row,) = rows(get(client, group_by="key", format="csv"))

    assert row["key_name"] == f"'{evil}"


def test_who_carries_a_report_away_is_in_the_audit_log(start, client_of):
    service = start()
    bob, ann = client_of(service, "bob", "member"), client_of(service, "ann", "admin")

    get(bob, format="csv", group_by="model", from_="2026-11-01", to="2026-11-02").raise_for_status()
    get(bob).raise_for_status()

    (entry,) = ann.get("/api/audit", params={"action": "usage.export"}).json()["items"]
    assert (entry["actor"], entry["target"], entry["details"]["rows"]) == ("bob", "usage", 0)
    assert (entry["details"]["from"], entry["details"]["group_by"]) == ("2026-11-01", ["model"])
    assert entry["request_id"] != ""


# What a key has used


def test_a_key_sees_what_it_used_itself(mocked):
    with mocked.client_with(mocked.new_key("counted")) as client:
        before = client.get("/api/me/usage").json()
        answers = [client.post("/api/ask", json={"question": "ping"}).json() for _ in range(2)]
        mocked.ask("from another key").raise_for_status()

        own = client.get("/api/me/usage").json()

    tokens = sum(answer["usage"]["output_tokens"] for answer in answers)
    assert before["total"]["calls"] == 0
    assert own["key"]["name"] == "counted"
    for period in ("today", "this_week", "this_month", "total"):
        assert (own[period]["calls"], own[period]["output_tokens"]) == (2, tokens)
    assert [(item["day"], item["model"], item["calls"]) for item in own["days"]] == [(today(), "mock", 2)]
    assert (own["limits"], own["budgets"]) == ([], [])


def test_a_key_sees_its_limits_and_what_is_left_of_its_budgets(mocked):
    key = mocked.new_key("limited")
    key_id = mocked.run("keys", "list").stdout.partition("limited")[0].splitlines()[-1].split()[0]
    ledger.change(mocked, "insert into limits (subject, requests_per_minute) values (?, 60)", f"key:{key_id}")
    ledger.change(mocked, "insert into budgets values (?, 'day', 5000000000, '[]')", f"key:{key_id}")
    ledger.change(mocked, "insert into budgets values (?, 'total', 7000000001, '[]')", f"key:{key_id}")

    with mocked.client_with(key) as client:
        own = client.get("/api/me/usage").json()

    assert own["limits"] == [
        {"subject": f"key:{key_id}", "requests_per_minute": 60, "tokens_per_minute": None, "concurrent": None}
    ]
    day, total = sorted(own["budgets"], key=lambda budget: budget["period"])
    assert (day["amount_usd"], day["spent_usd"], day["remaining_usd"]) == ("5.00", "0.00", "5.00")
    assert day["ends_at"] > today()
    assert (total["amount_usd"], total["ends_at"]) == ("7.000000001", None)


# What the days are made of


def test_failed_and_cancelled_calls_are_counted_once(start):
    with Upstream() as upstream:
        service = start(OPENAI_API_KEY="sk-x", OPENAI_BASE_URL=upstream.url, AI_PROXY_DEFAULT_MODEL="small")
        upstream.handler = completion()
        service.ask("completed").raise_for_status()
        upstream.handler = error(400)
        service.ask("failed")
        upstream.handler = stream(delta("half "), silence)
        body = json.dumps({"question": "cancelled"}).encode()
        with service.raw(http_request(body, path="/api/streaming")) as connection:
            while b"half" not in connection.recv(65_536):
                pass
        service.eventually(lambda: ledger.count(service) == 3)

        own = service.client.get("/api/me/usage").json()

    days, history = ledger.usage(service)
    assert [row.status for row in ledger.rows(service)] == ["completed", "failed", "cancelled"]
    assert (own["total"]["calls"], own["total"]["failed"]) == (3, 1)
    assert days == history


@pytest.mark.anyio
async def test_the_days_add_up_to_the_history_after_a_load_with_clients_that_leave(start):
    service = start(AI_PROXY_MOCK__LATENCY=0.01, AI_PROXY_MOCK__TOKEN_DELAY=0.002)
    keys = [KEY, *(service.new_key(name) for name in ("second", "third"))]

    async def call(session, number: int) -> None:
        headers = {"authorization": f"Bearer {keys[number % len(keys)]}"}
        path = ("/api/ask", "/api/streaming")[number % 2]
        async with session.post(path, json={"question": "ping " * 20}, headers=headers) as response:
            await response.read()

    async def client(session, number: int) -> None:
        for turn in range(15):
            try:
                async with asyncio.timeout(random.choice((None, 0.005, 0.02, 0.05))):
                    await call(session, number + turn)
            except TimeoutError:
                pass

    async with aiohttp.ClientSession(service.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session, number) for number in range(20)))
    assert service.stop() == 0

    days, history = ledger.usage(service)
    statuses = {row.status for row in ledger.rows(service)}
    assert statuses == {"completed", "cancelled"}
    assert days == history
    assert sum(row[6] for row in days) == ledger.count(service)
