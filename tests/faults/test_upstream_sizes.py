"""U26, U27, U28: more than a provider may send. The limit is a million bytes here."""

import gzip
from pathlib import Path

import pytest

from tests.outcome import (
    EVERY_WAY,
    STREAMED,
    WHOLE,
    broken_off,
    failed,
    failure,
    memory,
    post,
    recorded,
    refusal,
    said,
    sampled,
    seen,
    tried,
)
from tests.upstream import STREAM_HEAD, Connection, Handler, completion, status

MEGABYTE = 2**20
BAD = "bad_upstream_response"


@pytest.fixture(autouse=True)
def new_peak(gateway):
    """What the server needed for earlier tests does not count."""
    Path(f"/proc/{gateway.process.pid}/clear_refs").write_text("5")


def flood(head: bytes, block: bytes, *, sent: list[int], first: bytes = b"") -> Handler:
    """A hundred megabytes of the same block, as fast as they are taken. `sent` gets the number of bytes that were."""

    async def handle(connection: Connection) -> None:
        sent.append(0)
        await connection.send(head + first)
        while sent[-1] < 100 * MEGABYTE:
            await connection.send(block)
            sent[-1] += len(block)

    return handle


def chunked(block: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(block), block)


# U26: an answer.


@sampled(EVERY_WAY, pytest.mark.parametrize(("status_line", "upstream_status"), [("200 OK", None), ("501 X", 501)]))
@pytest.mark.parametrize(
    "framing", ["content-length: 1000000000000", "transfer-encoding: chunked", "connection: close"]
)
def test_u26_a_huge_answer_is_cut_at_the_limit_and_costs_no_memory(
    scripted, way, status_line, upstream_status, framing
):
    service, upstream = scripted
    sent = []
    head = f"HTTP/1.1 {status_line}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n".encode()
    block = b" " * MEGABYTE
    upstream.handler = flood(head, chunked(block) if "chunked" in framing else block, sent=sent)
    before = memory(service, "VmRSS")

    response = post(service, way)

    assert seen(response) == refusal(502, BAD, way=way, upstream_status=upstream_status)
    assert sent[0] < 20 * MEGABYTE
    assert memory(service, "VmHWM") - before < 16 * MEGABYTE
    assert recorded(service) == failed(BAD)
    assert tried(service) == [("openai", BAD, upstream_status)]


@WHOLE
def test_u26_an_answer_just_below_the_limit_is_taken(scripted, way):
    service, upstream = scripted
    upstream.handler = completion("x" * 999_000)

    response = post(service, way)

    assert len(said(response)) == 999_000


@WHOLE
def test_u26_another_provider_takes_over_from_one_that_sends_too_much(gateway, routed, way):
    upstreams = routed("a", "b")
    upstreams["a"].handler = completion("x" * 1_000_000)

    response = post(gateway, way)

    assert said(response) == "from b"
    assert tried(gateway) == [("a", BAD, None), ("b", "completed", None)]


# U27: a stream.


ONE = b'data: {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": null}]}\n\n'
TINY = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        "block",
        [
            pytest.param(b" " * 2**16, id="one endless line"),
            pytest.param(b"data: \n" * 2**13, id="one event of endless lines"),
            pytest.param(b": ping\n\n" * 2**13, id="endless comments"),
        ],
    ),
)
def test_u27_a_stream_is_cut_at_the_limit_and_costs_no_memory(scripted, way, block):
    service, upstream = scripted
    sent = []
    upstream.handler = flood(STREAM_HEAD, chunked(block), sent=sent, first=chunked(ONE))
    before = memory(service, "VmRSS")

    response = post(service, way)

    assert broken_off(response) == ("one", failure(BAD, way=way))
    assert sent[0] < 10 * MEGABYTE
    assert memory(service, "VmHWM") - before < 16 * MEGABYTE
    assert recorded(service) == failed(BAD, "one", (1, 1, True))
    assert tried(service) == [("openai", BAD, None)]


@STREAMED
def test_u27_a_flood_of_tiny_events_is_passed_on_up_to_the_limit(scripted, way):
    service, upstream = scripted
    patient = {"base_url": upstream.url, "api_keys": "env:UPSTREAM_KEY", "models": ["small"], "total_timeout": 60}
    service.configure(providers={"openai": patient})
    upstream.handler = flood(STREAM_HEAD, chunked(TINY * 1000), sent=[])
    before = memory(service, "VmRSS")

    response = post(service, way)

    text, error = broken_off(response)
    assert error == failure(BAD, way=way)
    assert 15_000 < len(text) <= 1_000_000 // len(TINY)
    assert set(text) == {"x"}
    assert recorded(service)[2] == text
    assert memory(service, "VmHWM") - before < 32 * MEGABYTE


# U28: compressed, which we never ask for.


@sampled(WHOLE, pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "GZIP", "identity, gzip"]))
def test_u28_a_compressed_answer_is_not_unpacked(scripted, way, coding):
    service, upstream = scripted
    upstream.handler = status(200, BOMB, headers=f"content-encoding: {coding}\r\n")
    before = memory(service, "VmRSS")

    response = post(service, way)

    assert upstream.connections[0].header("accept-encoding") == "identity"
    assert seen(response) == refusal(502, BAD, way=way)
    assert memory(service, "VmHWM") - before < 10 * MEGABYTE
    assert tried(service) == [("openai", BAD, None)]


BOMB = gzip.compress(b": ping\n\n" * MEGABYTE, 1)


@STREAMED
def test_u28_a_compressed_stream_is_not_unpacked(scripted, way):
    service, upstream = scripted
    upstream.handler = status(200, BOMB, headers="content-encoding: gzip\r\n", content_type="text/event-stream")

    response = post(service, way)

    assert seen(response) == refusal(502, BAD, way=way)
    assert tried(service) == [("openai", BAD, None)]
