"""Clients that leave before their answer is complete."""

import socket
import sqlite3
import time
from contextlib import closing

import pytest

from tests.ledger import count, rows
from tests.outcome import ASK, EITHER_WAY, NO_TOKENS, STREAMING, recorded
from tests.service import http_request, read_all
from tests.upstream import DONE, delta, finish, silence, stream, usage
from tests.wire import AUTHORIZED, CHUNKED_PING, HOST, PING, PING_LENGTH, POST, head, read_until, reset

EITHER_LEAVE = pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])


def seconds_until_hung_up(service, upstream) -> float:
    began = time.monotonic()
    service.eventually(lambda: upstream.connections[-1].closed_after is not None)
    return time.monotonic() - began


@EITHER_LEAVE
@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(head(POST, HOST, AUTHORIZED, PING_LENGTH, body=PING[:-1]), id="a byte is missing"),
        pytest.param(head(POST, HOST, AUTHORIZED, PING_LENGTH), id="no body"),
        pytest.param(
            head(POST, HOST, AUTHORIZED, "transfer-encoding: chunked", body=CHUNKED_PING[:-2]), id="no end of chunks"
        ),
        pytest.param(POST.encode() + b"\r\nhost: te", id="half the headers"),
    ],
)
def test_c19_a_client_that_leaves_before_its_question_is_complete_asks_nothing(hasty, beginning, leave):
    service, upstream = hasty
    before = count(service)
    connection = service.raw(beginning)
    time.sleep(0.1)

    leave(connection)
    time.sleep(0.1)

    assert service.ask("next").status_code == 200
    assert [request.json["messages"][0]["content"] for request in upstream.connections] == ["next"]
    assert count(service) == before + 1


@EITHER_LEAVE
@EITHER_WAY
def test_c20_a_client_that_leaves_before_the_first_byte_ends_the_call(hasty, path, leave):
    service, upstream = hasty
    upstream.handler = silence
    connection = service.raw(http_request(PING, path=path))
    service.eventually(lambda: upstream.connections)

    leave(connection)

    assert seconds_until_hung_up(service, upstream) < 1
    service.eventually(lambda: recorded(service) == ("cancelled", "client_gone", "", NO_TOKENS))


@EITHER_LEAVE
def test_c21_and_c23_a_client_that_leaves_a_stream_ends_the_call(hasty, leave):
    service, upstream = hasty
    upstream.handler = stream(delta("Hello, "), delta("world"), silence)
    connection = service.raw(http_request(PING, path=STREAMING))
    read_until(connection, b"world")

    leave(connection)

    assert seconds_until_hung_up(service, upstream) < 1
    service.eventually(lambda: recorded(service) == ("cancelled", "client_gone", "Hello, world", (1, 3, True)))


@pytest.mark.parametrize("counted", [(3, 4), (3, 0)])
def test_c21_what_the_provider_counted_is_recorded_and_not_an_estimate(hasty, counted):
    service, upstream = hasty
    upstream.handler = stream(delta("Hello"), usage(*counted), delta("!"), silence)
    connection = service.raw(http_request(PING, path=STREAMING))
    read_until(connection, b"!")

    connection.close()

    service.eventually(lambda: recorded(service) == ("cancelled", "client_gone", "Hello!", (*counted, False)))


def test_c21_the_log_and_the_metrics_tell_who_ended_it(hasty):
    service, upstream = hasty
    upstream.handler = stream(delta("Hello"), silence)
    connection = service.raw(http_request(PING, path=STREAMING))
    read_until(connection, b"Hello")
    before = len(service.request_log(STREAMING))

    connection.close()
    service.eventually(lambda: len(service.request_log(STREAMING)) > before)

    line = service.request_log(STREAMING)[-1]
    assert (line["level"], line["status"], line["error"]) == ("warning", 499, "client_gone")
    assert 'aiproxy_streams_aborted_total{by="client"}' in service.client.get("/metrics").text


def test_c21_a_call_that_had_ended_when_its_client_left_is_recorded_as_completed(start):
    """It is the record that the client did not wait for, because the database was busy."""
    service = start(AI_PROXY_MOCK__TOKEN_DELAY=0)

    with closing(sqlite3.connect(service.directory / "data" / "ai-proxy.db", isolation_level=None)) as database:
        database.execute("begin exclusive")
        connections = [service.raw(http_request(PING, path=path)) for path in (ASK, STREAMING)]
        time.sleep(0.5)
        for connection in connections:
            connection.close()
        time.sleep(2)  # with the time before, more than the writer waits for a lock: it must try again
        database.execute("rollback")

    found = service.eventually(lambda: len(rows(service)) == 2 and rows(service))
    assert [(row.status, row.error) for row in found] == [("completed", None)] * 2


def test_c22_a_client_that_closes_its_half_is_gone(hasty):
    """Our rule: a FIN after the request may mean "I have said all" or "I have left", and nothing tells one from the
    other. Who leaves must not cost a whole answer (C20), and no HTTP client that we know of closes its half first.
    """
    service, upstream = hasty
    upstream.handler = stream(delta("Hello"), 0.3, finish(), usage(), DONE)
    connection = service.raw(http_request(PING, path=STREAMING))
    received = read_until(connection, b"Hello")

    connection.shutdown(socket.SHUT_WR)
    received += read_all(connection)

    assert b"event: done" not in received
    service.eventually(lambda: recorded(service)[:3] == ("cancelled", "client_gone", "Hello"))
    connection.close()


def test_x13_clients_that_leave_at_any_moment_leave_nothing_behind(hasty, start):
    """Two connections to the provider, and a hundred clients that leave: nothing that they held may be lost."""
    _, upstream = hasty
    upstream.handler = stream(0.005, delta("Hello"), 0.005, delta(", world"), 0.005, finish(), usage(), DONE)
    service = start(
        OPENAI_API_KEY="sk-key",
        OPENAI_BASE_URL=upstream.url,
        AI_PROXY_DEFAULT_MODEL="small",
        AI_PROXY_UPSTREAM__MAX_CONNECTIONS=2,
    )

    for number in range(100):
        connection = service.raw(http_request(PING, path=STREAMING))
        time.sleep(number % 20 / 1000)
        (reset if number % 2 else socket.socket.close)(connection)

    def is_idle():
        numbers = dict(line.split() for line in service.client.get("/metrics").text.splitlines() if line[0] != "#")
        return (numbers["aiproxy_inflight_requests"], numbers["aiproxy_records_waiting"]) == ("1.0", "0.0")

    service.eventually(is_idle)
    assert [service.client.post(STREAMING, json={"question": "ping"}).status_code for _ in range(5)] == [200] * 5
    statuses = {(row.status, row.error) for row in rows(service)}
    assert statuses <= {("completed", None), ("cancelled", "client_gone")}
    assert ("cancelled", "client_gone") in statuses
    assert [line for line in service.log() if line["level"] == "error" or "exception" in line] == []


def test_c20_a_client_that_leaves_with_several_requests_under_way_frees_the_one_that_runs(hasty):
    service, upstream = hasty
    upstream.handler = silence
    connection = service.raw(2 * http_request(b'{"question": "ping"}'))
    first = service.eventually(lambda: upstream.connections)[0]

    connection.close()

    service.eventually(lambda: first.closed_after is not None, seconds=1)
    service.eventually(lambda: service.history()[0]["error"] == "client_gone")
    assert len(upstream.connections) == 1
