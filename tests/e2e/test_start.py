"""S1, X15: a service that is started while its database is away: it serves whom it can, and heals by itself."""

import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from typing import NamedTuple

import httpx2
import pytest

from tests import stores
from tests.postgres import Postgres
from tests.service import KEY, Service, events
from tests.stores import Store
from tests.upstream import Upstream, completion, words

CHAT = {"model": "small", "messages": [{"role": "user", "content": "a chat"}]}
PRICES = {"openai/small": {"input": 0, "output": 0, "request": 0.1}}
NOBODYS = "a-key-that-nobody-has-ever-made"
SUMMED_UP = """
    select key_id, user_id, coalesce(project_id, ''), provider, model, count(*), coalesce(sum(cost), 0)
    from exchanges group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
"""
DAYS = """
    select key_id, user_id, project_id, provider, model, sum(calls), sum(cost)
    from daily_usage group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
"""


class Made(NamedTuple):
    id: str
    key: str


class Place:
    """A database that can be taken away, and the service on it. Each call costs 10 cents."""

    def __init__(self, store: Store, server: Postgres | None, upstream: Upstream) -> None:
        self.store = store
        self.server = server
        self.upstream = upstream
        self.service = Service(
            store.directory,
            OPENAI_API_KEY="sk-x",
            OPENAI_BASE_URL=upstream.url,
            AI_PROXY_DEFAULT_MODEL="small",
            AI_PROXY_RECORDER__WAIT=0.2,
            **store.settings,
        )
        self.service.configure(prices=PRICES, providers={"openai": {"models": ["small"]}})

    @contextmanager
    def away(self) -> Iterator[None]:
        if self.server is None:
            with closing(sqlite3.connect(self.store.file, isolation_level=None, timeout=5)) as connection:
                connection.execute("begin exclusive")
                yield
        else:
            self.server.stop()
            try:
                yield
            finally:
                self.server.start()

    def new_key(self, name: str) -> Made:
        return Made(*re.findall(r"^(?:id|key): +(\S+)$", self.service.run("keys", "create", name).stdout, re.MULTILINE))

    def ask_with(self, key: str, question: str = "ping") -> int:
        with self.service.client_with(key) as client:
            return client.post("/api/ask", json={"question": question}).status_code

    def refusal(self, key: str) -> httpx2.Response:
        with self.service.client_with(key) as client:
            return client.post("/api/ask", json={"question": "refused"})

    def wait_until_ready(self, seconds: float = 20) -> None:
        self.service.eventually(lambda: self.service.client.get("/readyz").status_code == 200, seconds)
        self.service.eventually(lambda: "aiproxy_records_spooled 0.0" in self.service.client.get("/metrics").text, 20)

    def questions(self) -> list[tuple[str, str]]:
        """All that is in the history: the question, and whose key it was."""
        return sorted(self.store.query("select question, key_id from exchanges"))

    def spent(self) -> int:
        """Dimes."""
        return round(int(self.store.query("select sum(cost) from daily_usage")[0][0]) / 10**8)

    def budget(self, subject: str, dollars: float) -> None:
        values = f"('{subject}', 'total', {round(dollars * 10**9)}, '[]')"
        self.store.query(f"insert into budgets (subject, period, amount, alerts) values {values}")  # noqa: S608

    def own_key(self) -> str:
        return self.store.query("select id from api_keys where name = 'from AI_PROXY_API_KEY'")[0][0]


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.handler = completion()
        yield upstream


@pytest.fixture(params=stores.STORES)
def place(request, tmp_path, upstream):
    directory = tmp_path / "data"
    directory.mkdir()
    if request.param == "sqlite":
        place = Place(stores.in_file(directory), None, upstream)
        yield place
    else:
        with Postgres() as server:
            place = Place(Store(server.new_database(), directory), server, upstream)
            yield place
            place.service.stop()
    place.service.stop()
    place.service.client.close()


def kill(service: Service) -> None:
    service.process.kill()
    service.process.wait()


def test_fault_x15_keys_that_are_known_are_served_while_the_database_is_away_and_all_when_it_is_back(place):
    place.service.start(60)
    seen, unseen, poor = (place.new_key(name) for name in ("seen", "unseen", "poor"))
    place.budget(f"key:{poor.id}", 10)
    before = [place.ask_with(key) for key in (KEY, seen.key, poor.key)]
    place.service.stop()

    with place.away():
        place.service.start(60)
        during = [place.ask_with(key) for key in (KEY, seen.key)]
        refusals = [place.refusal(key) for key in (unseen.key, poor.key, NOBODYS)]
    place.wait_until_ready()
    after = [place.ask_with(key) for key in (KEY, seen.key, unseen.key, poor.key, NOBODYS)]

    assert before == [200] * 3
    assert during == [200] * 2
    for response in refusals:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "database_unavailable")
        assert int(response.headers["retry-after"]) > 0
    assert "budgets" in refusals[1].json()["error"]["message"]
    assert after == [200] * 4 + [401]


def test_fault_x15_it_is_up_soon_and_says_what_is_wrong_until_it_is_not(place):
    service = place.service.start(60)
    service.stop()

    with place.away():
        service.start(60)
        took = seconds_to_start(service)
        live, ready = service.client.get("/livez"), service.client.get("/readyz")
    place.wait_until_ready(5)

    assert took < 20  # two seconds and one try; who runs tests may be busy
    assert (live.status_code, ready.status_code) == (200, 503)
    assert int(ready.headers["retry-after"]) == 1
    assert ready.json()["checks"] == {"database": "unavailable", "history": "spooling"}
    log = service.eventually(lambda: [line["message"] for line in service.log() if "database: back" in line["message"]])
    assert log == ["database: back"]
    assert "database: away at the start, it is tried again every second" in [line["message"] for line in service.log()]
    assert "The database cannot be reached: " in service.stderr()


def seconds_to_start(service: Service) -> float:
    """Of the last start, without what it takes to load the program."""
    lines = [line for line in service.log() if "application startup" in line["message"].lower()]
    began, ended = (datetime.fromisoformat(line["timestamp"]) for line in lines[-2:])
    return (ended - began).total_seconds()


def test_fault_x15_what_was_answered_meanwhile_is_in_the_history_once_with_the_key_that_called(place):
    service = place.service.start(60)
    seen = place.new_key("seen")
    place.ask_with(seen.key, "before")
    service.stop()

    with place.away():
        service.start(60)
        service.ask("own").raise_for_status()
        service.client.post("/v1/chat/completions", json=CHAT).raise_for_status()
        place.upstream.handler = words("all", "of", "it")
        streamed = service.client.post("/api/streaming", json={"question": "a stream"}).text
        place.upstream.handler = completion()
        place.ask_with(seen.key, "seen")
    place.wait_until_ready()

    own = place.own_key()
    assert events(streamed)[-1][0] == "done"
    assert place.questions() == [
        ("a chat", own), ("a stream", own), ("before", seen.id), ("own", own), ("seen", seen.id),
    ]  # fmt: skip
    assert place.store.query(DAYS) == place.store.query(SUMMED_UP)


def test_fault_x15_what_only_the_database_knows_is_not_to_be_had_meanwhile_and_never_looks_empty(place):
    service = place.service.start(60)
    service.ask("before").raise_for_status()
    service.stop()

    with place.away():
        client = service.start(60).client
        responses = [
            client.get("/api/history"),
            client.get("/v1/responses/resp_1"),
            client.get("/api/users"),
            service.ask("and then?", conversation_id="00000000-0000-7000-8000-000000000000"),
            client.post("/api/ask", json={"question": "once"}, headers={"idempotency-key": "one"}),
        ]
    place.wait_until_ready()

    assert [(response.status_code, response.json()["error"]["code"]) for response in responses] == [
        (503, "database_unavailable")
    ] * 5
    assert [item["question"] for item in service.history()] == ["and then?", "before"]


def test_fault_x15_nothing_is_spent_twice_and_nothing_over_a_budget_whatever_died_before(place):
    service = place.service.start(60)
    service.ask("committed 1").raise_for_status()
    service.ask("committed 2").raise_for_status()
    time.sleep(3.5)  # the key is kept for the next start soon, but not at once
    with place.away():
        during = [service.ask(f"of one that died {number}").status_code for number in range(2)]
        kill(service)
    place.budget("service", 1)

    with place.away():
        service.start(60)
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(service.ask, ["provisional 1", "provisional 2", "provisional 3"]))
    place.wait_until_ready()
    after = [service.ask(f"after {number}") for number in range(5)]
    service.stop()
    service.start(60)
    place.wait_until_ready()
    restarted = service.ask("restarted").status_code

    assert during == [200] * 2
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.status_code for answer in after] == [200, 200, 200, 429, 429]
    assert restarted == 429
    assert place.spent() == 10
    assert place.store.query(DAYS) == place.store.query(SUMMED_UP)


def test_fault_x15_calls_of_a_key_that_is_not_known_yet_are_those_of_the_one_that_it_is(place):
    service = place.service.start(60)
    service.ask("before").raise_for_status()
    service.stop()
    place.budget(f"key:{place.own_key()}", 0.5)
    (service.directory / "seen-keys" if place.server is None else service.directory / "data" / "seen-keys").unlink()

    with place.away():
        service.start(60)
        during = [service.ask(f"provisional {number}").status_code for number in range(2)]
    place.wait_until_ready()
    after = [service.ask(f"after {number}").status_code for number in range(3)]

    assert during == [200, 200]
    assert after == [200, 200, 429]
    assert {key for _, key in place.questions()} == {place.own_key()}
    assert place.spent() == 5
    assert place.store.query(DAYS) == place.store.query(SUMMED_UP)


def test_fault_x15_calls_running_while_the_database_comes_back_count_once(place):
    service = place.service.start(60)
    service.ask("before").raise_for_status()
    service.stop()

    with place.away():
        service.start(60)
        pool = ThreadPoolExecutor(4)
        until = time.monotonic() + 4
        running = [pool.submit(ask_until, service, until, name) for name in range(4)]
        time.sleep(1)
    place.wait_until_ready()
    statuses = [status for future in running for status in future.result()]
    pool.shutdown()
    place.wait_until_ready()
    place.budget("service", (len(statuses) + 3) / 10)  # what is spent, and two calls
    time.sleep(5.2)  # keys are remembered for five seconds
    after = [service.ask("after").status_code for _ in range(3)]

    assert set(statuses) == {200}
    assert len(place.questions()) == len(set(place.questions())) + 1 == len(statuses) + 3
    assert after == [200, 200, 429]
    assert place.store.query(DAYS) == place.store.query(SUMMED_UP)


def ask_until(service: Service, until: float, name: int) -> list[int]:
    statuses = []
    with service.client_with(KEY) as client:
        while time.monotonic() < until:
            question = f"running {name} {len(statuses)}"
            statuses.append(client.post("/api/ask", json={"question": question}).status_code)
    return statuses


def test_fault_x15_a_first_start_makes_the_schema_and_the_key_when_the_database_is_there(place):
    place.service.settings.pop("AI_PROXY_API_KEY")
    service = place.service

    with place.away():
        service.start(60)
        before = service.ask("nobody has a key").status_code
    place.wait_until_ready()

    key = re.search("shown only now: (.*)", service.stderr())[1]
    assert before == 503
    assert place.ask_with(key) == 200
    assert service.stderr().count("AI Proxy") == 2


def test_fault_x15_rows_of_a_key_that_is_in_the_environment_no_more_have_a_place(place):
    service = place.service
    with place.away():
        service.start(60)
        service.ask("an earlier key").raise_for_status()
        kill(service)
    service.settings["AI_PROXY_API_KEY"] = ""
    service.start(60)
    place.wait_until_ready()

    [(question, key_id)] = place.questions()
    names = dict(place.store.query("select id, name from api_keys"))
    assert question == "an earlier key"
    assert names[key_id] == "an earlier AI_PROXY_API_KEY"


def test_a_service_that_is_stopped_while_the_database_is_away_ends_soon_and_in_order(place):
    service = place.service
    with place.away():
        service.start(60)
        service.ask("kept").raise_for_status()
        began = time.monotonic()
        code = service.stop()
        took = time.monotonic() - began
    service.start(60)
    place.wait_until_ready()

    assert code == 0
    assert took < 20  # two seconds and one try; who runs tests may be busy
    assert [question for question, _ in place.questions()] == ["kept"]
