"""U29, U33, U34: answers that are odd, but answers."""

import asyncio
import json

import pytest

from tests.outcome import (
    CHAT,
    EVERY_WAY,
    STREAMED,
    WHOLE,
    Way,
    broken_off,
    failure,
    post,
    recorded,
    refusal,
    response_kept,
    said,
    sampled,
    seen,
    tried,
)
from tests.upstream import DONE, completion, delta, error, event, finish, raw, status, stream, usage, words

STREAMED_CHAT = Way(CHAT, stream=True)
GOOD = json.dumps({"choices": [{"message": {"content": "pong"}, "finish_reason": "stop"}]}).encode()


def sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def chunk(**fields) -> bytes:
    return event({"id": "1", "object": "chat.completion.chunk", "model": "m", **fields})


def call(index: int, **fields) -> bytes:
    """A piece of a tool call."""
    delta = {"tool_calls": [{"index": index, **fields}]}
    return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}])


# U29: headers of an answer are the provider's business with us.

ODD = (
    "set-cookie: session=1\r\nserver: evil\r\nx-request-id: theirs\r\naccess-control-allow-origin: *\r\n"
    "strict-transport-security: max-age=1\r\nx-ratelimit-remaining: 0\r\nlocation: /x\r\nx-ai-proxy-provider: evil\r\n"
)
OURS = {"date", "content-length", "content-type", "x-request-id", "request-id", "cache-control", "x-accel-buffering"}
OF_THE_CALL = {f"x-ai-proxy-{name}" for name in ("provider", "model", "attempts", "overhead-ms")}
OF_AN_ERROR = {"retry-after", "retry-after-ms", "x-should-retry"}


@EVERY_WAY
def test_u29_headers_of_the_provider_are_not_passed_on(scripted, way):
    service, upstream = scripted
    upstream.handler = status(200, GOOD, headers=ODD)
    if way.stream:
        upstream.handler = status(200, delta("pong") + finish(), headers=ODD, content_type="text/event-stream")

    response = post(service, way)

    assert said(response) == "pong"
    assert set(response.headers) - {"transfer-encoding", "connection"} <= OURS | OF_THE_CALL
    assert response.headers["x-request-id"] != "theirs"
    assert response.headers["x-ai-proxy-provider"] == "openai"


@EVERY_WAY
def test_u29_headers_of_a_refusal_are_not_passed_on(scripted, way):
    service, upstream = scripted
    upstream.handler = error(501, headers=ODD)

    response = post(service, way)

    assert response.status_code == 502
    assert set(response.headers) <= OURS | OF_AN_ERROR
    assert response.headers["x-request-id"] != "theirs"


@WHOLE
def test_u29_a_second_answer_to_one_request_is_not_given_to_the_next_caller(scripted, way):
    service, upstream = scripted
    body = json.dumps({"choices": [{"message": {"content": "not for you"}}]}).encode()
    upstream.handler = raw(sized(GOOD) + sized(body), then_close=False)
    first = post(service, way)
    upstream.handler = completion("for you")

    second = post(service, way)

    assert (said(first), said(second)) == ("pong", "for you")


# U33: fields that are not as they should be.


@sampled(
    STREAMED,
    pytest.mark.parametrize(
        "handler",
        [
            pytest.param(
                stream(
                    b'data: {"id": 5, "model": "another", "choices": [{"index": 0, "delta": {"content": "po"}}]}\n\n',
                    b'data: {"choices": [{"delta": {"content": "ng", "x": 1}, "logprobs": null}]}\n\n',
                    finish(),
                ),
                id="odd fields",
            ),
            pytest.param(
                stream(b'data: {"choices": []}\n\n', b"data: {}\n\n", delta("pong"), finish()), id="no choices"
            ),
            pytest.param(
                stream(b'data: {"choices": [{"delta": {"content": "pong"}, "finish_reason": ""}]}\n\n', finish()),
                id="an empty finish reason",
            ),
            pytest.param(words("po", "ng"), id="no role"),
        ],
    ),
)
def test_u33_odd_chunks_are_still_an_answer(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way)

    assert said(response) == "pong"
    assert recorded(service)[:3] == ("completed", None, "pong")


@STREAMED
def test_u33_an_empty_finish_reason_does_not_finish_an_answer(scripted, way):
    service, upstream = scripted
    upstream.handler = stream(b'data: {"choices": [{"delta": {"content": "po"}, "finish_reason": ""}]}\n\n')

    response = post(service, way)

    assert broken_off(response) == ("po", failure("upstream_stream_truncated", way=way))


def test_u33_the_model_of_our_own_answer_is_the_one_that_was_asked_for(scripted):
    service, upstream = scripted
    upstream.handler = completion("pong", model="another", id=7)

    answer = post(service, "/api/ask", model="y").json()

    assert answer["model"] == "y"


ROLE = chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}])
FINISH = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
GOLDEN = {
    "interleaved calls": ROLE
    + call(0, id="a", type="function", function={"name": "f", "arguments": ""})
    + call(1, id="b", type="function", function={"name": "g", "arguments": '{"y"'})
    + call(0, function={"arguments": '{"x": '})
    + call(1, function={"arguments": ": 2}"})
    + call(0, function={"arguments": "1}"})
    + FINISH,
    "empty ids and names in every piece": call(
        0, id="a", type="function", function={"name": "f", "arguments": '{"x": '}
    )
    + call(1, id="b", type="function", function={"name": "g", "arguments": '{"y": 2}'})
    + call(0, id="", type="function", function={"name": "", "arguments": "1}"})
    + FINISH,
    "gaps between the indexes": ROLE
    + call(3, id="a", type="function", function={"name": "f", "arguments": '{"x": 1}'})
    + call(7, id="b", type="function", function={"name": "g", "arguments": '{"y": 2}'})
    + FINISH,
    "other ids and models in every chunk": ROLE.replace(b'"1"', b'"2"').replace(b'"m"', b'"another"')
    + call(0, id="a", type="function", function={"name": "f", "arguments": '{"x": 1}'})
    + call(1, id="b", type="function", function={"name": "g", "arguments": '{"y": 2}'}).replace(b'"1"', b'"3"')
    + FINISH,
}
GOLDEN_STREAMS = pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)


@GOLDEN_STREAMS
def test_u33_odd_streams_are_passed_on_to_the_byte_and_put_together_in_the_record(scripted, golden):
    service, upstream = scripted
    upstream.handler = stream(golden, usage(), DONE)

    response = post(service, STREAMED_CHAT, stream_options={"include_usage": True})

    assert response.content == golden + usage() + DONE
    assert recorded(service) == ("completed", None, "", (3, 4, False))
    (choice,) = response_kept(service)["choices"]
    calls = [(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in _calls(choice)]
    assert calls == [("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}')]
    assert choice["finish_reason"] == "tool_calls"


def _calls(choice: dict) -> list[dict]:
    return choice["message"]["tool_calls"]


TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in "fg"]


@GOLDEN_STREAMS
def test_u33_odd_streams_are_put_together_for_other_formats(scripted, golden):
    service, upstream = scripted
    upstream.handler = stream(golden, usage(), DONE)

    response = post(service, Way("/v1/messages", stream=True), tools=TOOLS)

    assert said(response) == ""
    blocks = response_kept(service)["content"]
    calls = [(block["type"], block["name"], block["input"]) for block in blocks]
    assert calls == [("tool_use", "f", {"x": 1}), ("tool_use", "g", {"y": 2})]


# U34: more, or less, than an answer.


@sampled(
    WHOLE,
    pytest.mark.parametrize(
        "interim",
        [b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"],
        ids=["103", "100"],
    ),
)
def test_u34_an_interim_answer_is_skipped(scripted, way, interim):
    service, upstream = scripted
    upstream.handler = raw(interim + sized(GOOD))

    response = post(service, way)

    assert said(response) == "pong"


@WHOLE
def test_u34_trailers_are_skipped(scripted, way):
    service, upstream = scripted
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    upstream.handler = raw(head + b"%x\r\n%s\r\n0\r\nx-trailer: 1\r\n\r\n" % (len(GOOD), GOOD))

    response = post(service, way)

    assert said(response) == "pong"


@sampled(
    EVERY_WAY,
    pytest.mark.parametrize(
        ("answer", "upstream_status"),
        [
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
            (b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 101),
        ],
        ids=["204", "101"],
    ),
)
def test_u34_no_content_is_no_answer(scripted, way, answer, upstream_status):
    service, upstream = scripted

    async def handle(connection):
        await connection.send(answer)
        await asyncio.sleep(0)
        connection.writer.close()

    upstream.handler = handle

    response = post(service, way)

    assert seen(response) == refusal(502, "bad_upstream_response", way=way, upstream_status=upstream_status)
    assert tried(service) == [("openai", "bad_upstream_response", upstream_status)]
