"""The process: how it stops, how it dies, and what it does without a STDOUT."""

import json
import os
import signal
import socket
import time

import pytest

from tests.ledger import rows
from tests.outcome import STREAMING
from tests.service import AI_PROXY, events, http_request, read_all
from tests.upstream import Upstream, delta, silence, stream
from tests.wire import AUTHORIZED, HOST, PING, PING_LENGTH, POST, head, parse, read_until, refused, unread

SHUTDOWN = (503, "server_shutdown", "gateway", None)


@pytest.fixture
def slow():
    """A provider that begins every answer and ends none."""
    with Upstream() as upstream:

        async def handle(connection):
            await (stream(delta("Hello"), silence) if connection.json.get("stream") else silence)(connection)

        upstream.handler = handle
        yield upstream


def before(provider: Upstream, **settings) -> dict:
    """The settings of a server in front of a scripted provider."""
    return {"OPENAI_API_KEY": "sk-key", "OPENAI_BASE_URL": provider.url, "AI_PROXY_DEFAULT_MODEL": "small", **settings}


def streaming(service, question: str = "ping") -> socket.socket:
    return service.raw(http_request(json.dumps({"question": question}).encode(), path=STREAMING), timeout=20)


def last_event(received: bytes) -> tuple[str, dict]:
    (answer,) = parse(received)
    return events(answer.text())[-1]


def test_x1_calls_that_run_at_sigterm_are_completed(start):
    service = start(AI_PROXY_MOCK__TOKEN_DELAY=0.1)
    connections = [streaming(service) for _ in range(20)]
    beginnings = [read_until(connection, b"event: delta") for connection in connections]

    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(ConnectionRefusedError):
        service.raw()
    ends = [read_all(connection) for connection in connections]

    assert service.process.wait(10) == 0
    for beginning, end, connection in zip(beginnings, ends, connections, strict=True):
        assert last_event(beginning + end)[0] == "done"
        connection.close()
    assert [(row.status, row.error) for row in rows(service)] == [("completed", None)] * 20


def test_x1_calls_that_run_for_too_long_are_told_so(start, slow):
    service = start(**before(slow, AI_PROXY_SERVER__SHUTDOWN_TIMEOUT=1))
    streams = [streaming(service) for _ in range(10)]
    beginnings = [read_until(connection, b"Hello") for connection in streams]
    asking = service.raw(http_request(PING))
    half_asked = service.raw(head(POST, HOST, AUTHORIZED, PING_LENGTH, body=PING[:5]))
    service.eventually(lambda: len(slow.connections) == 11)

    exit_code = service.stop()

    for beginning, connection in zip(beginnings, streams, strict=True):
        name, data = last_event(beginning + read_all(connection))
        assert (name, data["error"]["code"], data["error"]["source"]) == ("error", "server_shutdown", "gateway")
    for connection in (asking, half_asked):
        (answer,) = parse(read_all(connection))
        assert refused(answer) == SHUTDOWN
        assert answer.headers["retry-after"] == "5"
    found = [(row.answer, row.status, row.error) for row in rows(service)]
    assert sorted(found) == [("", "cancelled", "server_shutdown")] + [("Hello", "cancelled", "server_shutdown")] * 10
    assert exit_code == 0
    assert [line for line in service.log() if "exception" in line] == []
    for connection in (*streams, asking, half_asked):
        connection.close()


def test_x2_a_second_signal_ends_calls_at_once_even_of_clients_that_do_not_read(start, slow):
    service = start(**before(slow))
    reading = [streaming(service, "reading") for _ in range(5)]
    beginnings = [read_until(connection, b"Hello") for connection in reading]
    slow.handler = stream(*[delta("x" * 50_000)] * 200, silence)
    not_reading = unread(service, http_request(b'{"question": "not reading"}', path=STREAMING))
    service.eventually(lambda: len(slow.connections) == 6)
    time.sleep(0.3)

    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert service.process.poll() is None
    began = time.monotonic()
    exit_code = service.stop()

    assert time.monotonic() - began < 3
    assert exit_code == 0
    for beginning, connection in zip(beginnings, reading, strict=True):
        name, data = last_event(beginning + read_all(connection))
        assert (name, data["error"]["code"]) == ("error", "server_shutdown")
        connection.close()
    assert {(row.status, row.error) for row in rows(service)} == {("cancelled", "server_shutdown")}
    assert sorted(row.question for row in rows(service)) == ["not reading"] + ["reading"] * 5
    assert [line for line in service.log() if "exception" in line] == []
    not_reading.close()


def in_a_shell(redirection: str) -> list[str]:
    return ["sh", "-c", f"exec {AI_PROXY} serve {redirection}"]


@pytest.mark.parametrize(
    "redirection",
    [
        pytest.param(">&-", id="closed"),
        pytest.param("> /dev/full", id="full"),
        pytest.param("> pipe", id="a pipe that nobody reads"),
        pytest.param("> pipe", id="a pipe whose reader has gone"),
    ],
)
def test_x12_the_service_goes_on_without_its_stdout(start, tmp_path, redirection, request):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    service = start(tmp_path, command=in_a_shell(redirection), AI_PROXY_MOCK__TOKEN_DELAY=0)
    if "gone" in request.node.callspec.id:
        os.close(reader)
    for _ in range(150):
        service.client.get("/" + "a" * 1000)  # its line in the log is as long: more than a pipe holds
    answers = [service.ask() for _ in range(10)]
    dropped = service.client.get("/metrics").text.split("aiproxy_log_lines_dropped_total ")[-1].split()[0]
    began = time.monotonic()
    exit_code = service.stop()

    assert {answer.status_code for answer in answers} == {200}
    assert len(rows(service)) == 10
    assert exit_code == 0
    assert time.monotonic() - began < 4
    assert (float(dropped) > 0) == ("full" in redirection or "gone" in request.node.callspec.id)
