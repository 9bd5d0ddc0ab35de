"""P1 to P8: what happens to calls and their rows when PostgreSQL is restarted, down, crowded, locked or silent."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from tests import postgres
from tests.outcome import STREAMING
from tests.postgres import Postgres
from tests.service import Service, events, http_request
from tests.stores import Store
from tests.wire import parse, read_until
from tests.wiretap import Wiretap

WAIT = 0.3  # seconds that an answer waits for its row
PROMPT = WAIT + 3  # seconds in which a call is answered without the database, on a machine that is busy
NOBODYS_KEY = {"authorization": "Bearer a-key-that-nobody-has-ever-made"}
CONVERSATION = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def server():
    """A database server that these tests may stop."""
    with Postgres() as server:
        yield server


@pytest.fixture
def store(server, tmp_path):
    return Store(server.new_database(), tmp_path)


@pytest.fixture
def service(start, store):
    service = start(AI_PROXY_RECORDER__WAIT=WAIT, AI_PROXY_MOCK__TOKEN_DELAY=0, **store.settings)
    service.ask("before").raise_for_status()
    return service


def history(store: Store) -> Counter[str]:
    """How often each question is in it."""
    return Counter(question for (question,) in store.query("select question from exchanges"))


def once(*questions: str) -> Counter[str]:
    return Counter(["before", *questions])


def is_settled(store: Store, *questions: str) -> bool:
    """All of them are there once, and counted once."""
    return history(store) == once(*questions) and counted(store) == len(questions) + 1


def counted(store: Store) -> int:
    return int(store.query("select sum(calls) from daily_usage")[0][0])


def is_ready(service: Service) -> bool:
    return service.client.get("/readyz").status_code == 200


def kick(store: Store) -> None:
    """End all connections of the service."""
    postgres.query(
        store.url, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'ai-proxy'"
    )


def prompt(service: Service, question: str) -> int:
    """The status of the answer, which comes soon."""
    began = time.monotonic()
    status = service.ask(question).status_code
    assert time.monotonic() - began < PROMPT
    return status


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_fault_p1_after_a_restart_everything_works_within_five_seconds_and_each_row_is_there(
    service, store, server, sig
):
    questions = [f"restart: {number}" for number in range(60)]

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(service.ask, question) for question in questions]
        service.eventually(running[10].done)
        server.stop(sig)
        server.start()
        service.eventually(lambda: is_ready(service) and service.history(limit=1), 5)
        statuses = {call.result().status_code for call in running}

    assert statuses == {200}
    service.eventually(lambda: is_settled(store, *questions))


def test_fault_p2_calls_that_run_when_the_server_stops_are_answered_and_kept(start, store, server):
    service = start(AI_PROXY_RECORDER__WAIT=WAIT, AI_PROXY_MOCK__TOKEN_DELAY=0.05, **store.settings)
    service.ask("before").raise_for_status()
    running = [
        service.raw(http_request(json.dumps({"question": f"stream {number}"}).encode(), path=STREAMING), timeout=20)
        for number in range(5)
    ]
    beginnings = [read_until(connection, b"event: delta") for connection in running]

    server.stop()
    try:
        ends = [read_all_of_stream(connection) for connection in running]
        asked = prompt(service, "while it is down")
        stranger = service.client.post("/api/ask", json={"question": "may I?"}, headers=NOBODYS_KEY)
        ready = service.client.get("/readyz")
        listing = service.client.get("/api/history")
    finally:
        server.start()

    for beginning, end, connection in zip(beginnings, ends, running, strict=True):
        (answer,) = parse(beginning + end)
        assert events(answer.text())[-1][0] == "done"
        connection.close()
    assert asked == 200
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (503, "database_unavailable")
    assert int(stranger.headers["retry-after"]) > 0
    assert (ready.status_code, listing.status_code) == (503, 503)
    service.eventually(lambda: is_settled(store, "while it is down", *(f"stream {number}" for number in range(5))))
    service.eventually(lambda: is_ready(service))


def read_all_of_stream(connection) -> bytes:
    return read_until(connection, b"\r\n0\r\n\r\n")


@contextmanager
def crowd(server: Postgres, store: Store) -> Iterator[None]:
    """All the connections there may be are taken, and the service has none of them."""
    with ExitStack() as stack:
        first = stack.enter_context(postgres.connected(store.url))
        others = 1
        while others:
            first.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name='ai-proxy'"
            )
            while _join(stack, store):
                pass
            ours = "select count(*) from pg_stat_activity where application_name = 'ai-proxy'"
            others = first.execute(ours).fetchone()[0]
        yield


def _join(stack: ExitStack, store: Store) -> bool:
    try:
        stack.enter_context(postgres.connected(store.url))
    except psycopg.OperationalError as error:
        if "too many clients" not in str(error) and "remaining connection slots" not in str(error):
            raise
        return False
    return True


def test_fault_p3_no_key_is_wrong_because_the_server_has_too_many_clients(service, store, server):
    with service.client_with(service.new_key("new")) as newcomer:
        with crowd(server, store):
            asked = [prompt(service, f"crowd: {number}") for number in range(3)]
            refused = [
                newcomer.post("/api/ask", json={"question": "may I?"}),
                newcomer.post("/api/ask", json={"question": "may I?"}, headers=NOBODYS_KEY),
                service.client.get("/api/history"),
            ]
            alive = service.client.get("/livez").status_code

        assert asked == [200] * 3
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in refused] == [
            (503, "database_unavailable")
        ] * 3
        assert alive == 200
        service.eventually(lambda: is_settled(store, "crowd: 0", "crowd: 1", "crowd: 2"))
        assert newcomer.post("/api/ask", json={"question": "may I?"}).status_code == 200


def test_fault_p4_slow_queries_take_nothing_from_calls_and_readers_are_told_in_time(service, store):
    def read() -> tuple[int, float]:
        began = time.monotonic()
        status = service.client.get("/api/history").status_code
        return status, time.monotonic() - began

    with store.locked(), ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(read) for _ in range(12)]  # more than there are connections
        time.sleep(0.3)
        began = time.monotonic()
        alive = service.client.get("/livez").status_code
        took = time.monotonic() - began
        asked = [prompt(service, f"locked: {number}") for number in range(3)]
        reads = [reader.result() for reader in readers]

    assert (alive, asked) == (200, [200] * 3)
    assert took < 1
    assert {status for status, _ in reads} == {503}
    assert max(seconds for _, seconds in reads) < 10
    service.eventually(lambda: is_settled(store, "locked: 0", "locked: 1", "locked: 2"))
    assert read()[0] == 200


def test_fault_p5_while_the_server_is_read_only_calls_are_answered_and_no_row_is_lost(service, store):
    ((name,),) = store.query("select current_database()")

    store.query(f"alter database {name} set default_transaction_read_only = on")
    kick(store)  # as a server does that becomes a standby. From now on nobody ends a connection.
    try:
        asked = [prompt(service, f"standby: {number}") for number in range(3)]
        readable = service.history()
        ready = service.client.get("/readyz")
    finally:
        with postgres.connected(store.url) as connection:
            connection.execute("set default_transaction_read_only = off")
            connection.execute(f"alter database {name} reset default_transaction_read_only")

    assert asked == [200] * 3
    assert [item["question"] for item in readable] == ["before"]
    assert (ready.status_code, ready.json()["checks"]["history"]) == (503, "spooling")
    service.eventually(lambda: is_settled(store, "standby: 0", "standby: 1", "standby: 2"))
    service.eventually(lambda: is_ready(service))


WAITING = "select count(*) from pg_stat_activity where application_name = 'ai-proxy' and wait_event_type = 'Lock'"


def logged(server: Postgres, message: str) -> int:
    return (server.directory / "log").read_text().count(message)


def test_fault_p6_a_row_whose_transaction_is_the_victim_of_a_deadlock_is_written_once(service, store, server):
    service.ask("first turn", conversation_id=CONVERSATION).raise_for_status()
    before = logged(server, "deadlock detected")

    with postgres.connected(store.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("set deadlock_timeout = '1min'; begin; select * from conversations for update")
        call = pool.submit(service.ask, "second turn", conversation_id=CONVERSATION)
        service.eventually(lambda: store.query(WAITING) == [(1,)])
        other.execute("update daily_usage set calls = calls")  # which waits for the service, which waits for us
        answer = call.result()
        other.execute("rollback")

    assert logged(server, "deadlock detected") == before + 1
    assert answer.status_code == 200
    service.eventually(lambda: is_settled(store, "first turn", "second turn"))
    assert store.query("select exchanges from conversations") == [(2,)]


def test_fault_p6_a_row_whose_transaction_cannot_be_serialized_is_written_once(start, store, server):
    ((name,),) = store.query("select current_database()")
    store.query(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    service = start(AI_PROXY_RECORDER__WAIT=WAIT, **store.settings)
    service.ask("before").raise_for_status()
    before = logged(server, "could not serialize access")

    with postgres.connected(store.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("begin; update daily_usage set calls = calls")
        call = pool.submit(service.ask, "serialized")
        service.eventually(lambda: store.query(WAITING) == [(1,)])
        other.execute("commit")
        answer = call.result()

    assert logged(server, "could not serialize access") > before
    assert answer.status_code == 200
    service.eventually(lambda: is_settled(store, "serialized"))


def test_fault_p7_a_server_that_says_nothing_keeps_nobody_waiting(service, store, server):
    server.freeze()
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = [prompt(service, f"silence: {number}") for number in range(3)]
            listing = pool.submit(service.client.get, "/api/history")
            began = time.monotonic()
            ready = service.client.get("/readyz").status_code
            took = time.monotonic() - began
            alive = service.client.get("/livez").status_code
            metrics = service.client.get("/metrics").text
            server.thaw()
    finally:
        server.thaw()

    assert (asked, ready, alive) == ([200] * 3, 503, 200)
    assert 2 <= took < PROMPT + 2
    assert "aiproxy_records_spooled 3.0" in metrics
    assert listing.result().status_code in {200, 503}
    service.eventually(lambda: is_settled(store, "silence: 0", "silence: 1", "silence: 2"), 20)
    service.eventually(lambda: is_ready(service), 20)


def test_fault_p8_a_commit_that_is_not_heard_of_is_one_row_and_is_counted_once(start, store, server):
    with Wiretap(server.directory) as wire:
        service = start(
            AI_PROXY_RECORDER__WAIT=WAIT, **{**store.settings, "DATABASE_URL": wire.url(store.url) + "?sslmode=disable"}
        )
        service.ask("before").raise_for_status()
        for number in range(10):  # by and by the driver prepares its statements
            wire.lost = f"unheard of {number}".encode()
            answer = service.ask(f"unheard of {number}", conversation_id=CONVERSATION)
            assert answer.status_code == 200
            service.eventually(lambda: is_ready(service))

        service.eventually(lambda: is_settled(store, *(f"unheard of {number}" for number in range(10))))
        assert wire.cuts == 10
        assert store.query("select exchanges from conversations") == [(10,)]
        assert service.stop() == 0
