"""The SDKs' endpoints under /v1: what goes to the provider, and what comes back."""

import json

import pytest

from tests.service import KEY, events, frames, http_request, read_all
from tests.upstream import DONE, delta, error, event, in_turn, status, stream, words
from tests.v1 import (
    ANSWERS,
    ASKED,
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EACH,
    EACH_STREAM,
    EMBEDDINGS,
    MESSAGE,
    MESSAGES,
    NATIVE,
    PING,
    PROVIDER_KEY,
    RESPONSES,
    STREAMS,
    USAGE_EVENT,
    anthropic_error,
    asked_of,
    kept,
    post,
    post_raw,
    sse,
    streaming,
)
from tests.wire import parse, refused

# What goes to the provider.

VALUES = (
    b'"x":1.0E+2,"big":123456789012345678901234567890,"text":"\\u00e9\\/","list":[ 1.50 , {"a":  null} ],"zero":-0.0'
)


@EACH
def test_a_request_goes_on_byte_by_byte_but_for_the_model(native, path):
    service, upstream = native
    upstream.handler = status(200, ANSWERS[path])
    rest = json.dumps(ASKED[path], separators=(",", ":"))[len('{"model":"small",') :].encode()

    post_raw(service, path, b'{"model":"alias",' + VALUES + b"," + rest)

    (sent,) = asked_of(upstream)
    assert sent.body == b'{"model":"small",' + VALUES + b"," + rest
    assert sent.head.startswith(f"POST {path} HTTP/1.1\r\n")


@EACH_STREAM
def test_so_does_one_for_a_stream_but_for_the_usage(native, path):
    service, upstream = native
    upstream.handler = streaming(path)
    rest = json.dumps({**ASKED[path], "stream": True}, separators=(",", ":"))[len('{"model":"small",') :].encode()
    asked = b',"stream_options":{"include_usage":true}}' if path in {CHAT, COMPLETIONS} else b"}"

    post_raw(service, path, b'{"model":"alias",' + VALUES + b"," + rest)

    assert asked_of(upstream)[0].body == b'{"model":"small",' + VALUES + b"," + rest[:-1] + asked


def test_a_body_that_is_spread_out_keeps_its_values(native):
    service, upstream = native

    post_raw(
        service, CHAT, b' {\r\n "messages" : [ {"role":"user","content":"ping"} ] ,\n"model": "alias", "t": 1.50 }\n'
    )

    assert asked_of(upstream)[0].body == (b'{"messages":[ {"role":"user","content":"ping"} ],"model":"small","t":1.50}')


def test_without_a_model_the_default_one_is_asked(native):
    service, upstream = native

    response = service.client.post(CHAT, json={"messages": PING})

    assert asked_of(upstream)[0].json["model"] == response.headers["x-ai-proxy-model"] == "small"


def test_the_provider_gets_its_own_key_and_none_of_ours(native):
    service, upstream = native

    service.client.post(CHAT, json=ASKED[CHAT], headers={"x-api-key": KEY, "cookie": "secret", "x-other": "1"})

    (sent,) = asked_of(upstream)
    assert sent.header("authorization") == f"Bearer {PROVIDER_KEY}"
    assert KEY not in sent.head
    assert [sent.header(name) for name in ("x-api-key", "cookie", "x-other")] == [None] * 3


@pytest.mark.parametrize("streams", [False, True])
def test_headers_that_say_how_to_read_the_body_go_on(native, streams):
    service, upstream = native
    upstream.handler = streaming(MESSAGES) if streams else status(200, MESSAGE)
    headers = [("anthropic-version", "2023-06-01"), ("anthropic-beta", "one,two"), ("anthropic-beta", "three")]

    service.client.post(MESSAGES, json={**ASKED[MESSAGES], "stream": streams}, headers=headers)

    (sent,) = asked_of(upstream)
    assert sent.header("anthropic-version") == "2023-06-01"
    assert sent.header("anthropic-beta").replace(" ", "") == "one,two,three"


def test_a_body_in_the_form_of_cursors_is_answered_as_chat(native):
    service, upstream = native
    upstream.handler = words("po", "ng")
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    body = {"model": "small", "stream": True, "input": PING, "tools": [tool], "user": "u", "store": False}

    response = service.client.post(CHAT, json=body)

    sent = asked_of(upstream)[0].json
    assert (sent["messages"], sent["stream"]) == (PING, True)
    assert sent["tools"][0]["function"]["name"] == "look"
    assert "input" not in sent
    *chunks, done = frames(response.text)
    assert "".join(json.loads(data)["choices"][0]["delta"].get("content", "") for _, data in chunks) == "pong"
    assert done == ("", "[DONE]")
    assert (kept(service).dialect, kept(service).question, kept(service).answer) == ("chat", "ping", "pong")


# What comes back.


@EACH
def test_an_answer_comes_back_byte_by_byte(native, path):
    service, upstream = native
    upstream.handler = status(200, ANSWERS[path])

    response = post(service, path)

    assert (response.status_code, response.content) == (200, ANSWERS[path])
    assert response.headers["content-type"] == "application/json"


@EACH_STREAM
def test_events_come_back_byte_by_byte_and_under_their_names(native, path):
    service, upstream = native
    upstream.handler = streaming(path)

    response = post(service, path, stream=True)

    done = [("", "[DONE]")] if path in {CHAT, COMPLETIONS} else []
    assert response.headers["content-type"].startswith("text/event-stream")
    assert frames(response.text) == STREAMS[path] + done


def test_events_that_are_written_in_other_ways_mean_the_same(native):
    """Without a space, with CRLF, with comments and ids, in several lines."""
    service, upstream = native
    parts = [
        b": hello\r\n\r\n",
        b'id: 7\r\ndata:{"choices":[{"index":0,\r\ndata: "delta":{"content":"pong"}}]}\r\n\r\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n',
    ]
    upstream.handler = stream(*parts, DONE)

    response = post(service, CHAT, stream=True)

    assert response.text == (
        'data: {"choices":[{"index":0,\ndata: "delta":{"content":"pong"}}]}\n\n'
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        "data: [DONE]\n\n"
    )
    assert kept(service).answer == "pong"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (None, False),
        ({"include_usage": False}, False),
        ({"include_usage": None}, False),
        ({"include_usage": True}, True),
        ({"include_usage": True, "odd": 1.5}, True),
    ],
)
def test_usage_is_asked_for_always_and_told_to_those_who_asked(native, path, options, told):
    service, upstream = native
    upstream.handler = streaming(path)

    response = post(service, path, stream=True, stream_options=options)

    found = frames(response.text)
    assert asked_of(upstream)[0].json["stream_options"] == {**(options or {}), "include_usage": True}
    assert found == [*STREAMS[path], *([USAGE_EVENT] if told else []), ("", "[DONE]")]
    assert (kept(service).input_tokens, kept(service).output_tokens) == (3, 4)


def test_usage_that_comes_with_the_finish_is_told_to_everybody(native):
    service, upstream = native
    last = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}})
    upstream.handler = stream(delta("pong"), last, DONE)

    response = post(service, CHAT, stream=True)

    assert json.loads(frames(response.text)[-2][1])["usage"] == {"prompt_tokens": 3}


def http_chunks(body: bytes) -> list[bytes]:
    """The pieces of a chunked body, the empty one at its end not among them."""
    pieces = []
    while body:
        size, _, body = body.partition(b"\r\n")
        pieces.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    assert pieces.pop() == b""
    return pieces


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_the_end_of_a_stream_is_sent_in_one_piece(native, path):
    """Clients leave at `[DONE]`, and a connection on which more is to come cannot be used again."""
    service, upstream = native
    parts = [sse([one]) for one in (*STREAMS[path], USAGE_EVENT)]
    upstream.handler = stream(*parts[:-2], 0.05, parts[-2], 0.05, parts[-1], 0.05, DONE)
    body = json.dumps({**ASKED[path], "stream": True, "stream_options": {"include_usage": True}}).encode()

    with service.raw(http_request(body, path=path, headers="connection: close\r\n")) as connection:
        (answer,) = parse(read_all(connection))

    assert http_chunks(answer.body)[-1] == sse([STREAMS[path][-1], USAGE_EVENT]) + DONE


def choice(index: int, finish_reason: str | None = None, **delta) -> bytes:
    return event({"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]})


def test_of_several_answers_none_waits_for_the_end_of_another(native):
    service, upstream = native
    late = choice(1, content="late")
    upstream.handler = stream(choice(0, content="a"), choice(0, "length"), 0.05, late, 0.05, choice(1, "stop"), DONE)
    body = json.dumps({**ASKED[CHAT], "stream": True, "n": 2}).encode()

    with service.raw(http_request(body, path=CHAT, headers="connection: close\r\n")) as connection:
        (answer,) = parse(read_all(connection))

    pieces = http_chunks(answer.body)
    assert b"".join(pieces).count(b"data: ") == 5
    assert late not in pieces[-1]


def test_of_several_answers_the_first_one_is_recorded(native):
    service, upstream = native
    upstream.handler = stream(
        choice(1, content="b"), choice(0, content="a"), choice(0, "length"), choice(1, "stop"), DONE
    )

    post(service, CHAT, stream=True, n=2)

    row = kept(service)
    assert (row.answer, row.finish_reason) == ("a", "length")
    assert [one["message"]["content"] for one in json.loads(row.response)["choices"]] == ["a", "b"]


@NATIVE
def test_the_end_of_a_stream_with_named_events_is_sent_in_one_piece(native, path):
    service, upstream = native
    parts = [sse([one]) for one in STREAMS[path]]
    upstream.handler = stream(*parts[:-2], 0.05, parts[-2], 0.05, parts[-1], 0.05)
    body = json.dumps({**ASKED[path], "stream": True}).encode()

    with service.raw(http_request(body, path=path, headers="connection: close\r\n")) as connection:
        (answer,) = parse(read_all(connection))

    last = sse(STREAMS[path][-2:] if path == MESSAGES else STREAMS[path][-1:])  # the finish, and what follows it
    assert http_chunks(answer.body)[-1] == last


# Headers.


@EACH
def test_an_answer_tells_how_it_came_about(native, path):
    service, upstream = native
    upstream.handler = status(200, ANSWERS[path])

    headers = post(service, path, model="alias").headers

    assert headers["request-id"] == headers["x-request-id"]
    assert (headers["x-ai-proxy-provider"], headers["x-ai-proxy-model"]) == ("x", "small")
    assert headers["x-ai-proxy-attempts"] == "1"
    assert 0 <= float(headers["x-ai-proxy-overhead-ms"]) < 5000


@EACH_STREAM
def test_a_stream_does_too(native, path):
    service, upstream = native
    upstream.handler = in_turn(error(500), streaming(path))

    headers = post(service, path, stream=True, model="alias").headers

    assert headers["request-id"] == headers["x-request-id"]
    assert (headers["x-ai-proxy-provider"], headers["x-ai-proxy-model"]) == ("x", "small")
    assert headers["x-ai-proxy-attempts"] == "2"
    assert 0 <= float(headers["x-ai-proxy-overhead-ms"]) < 5000
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")


def test_a_request_keeps_the_id_that_it_came_with(native):
    service, _ = native

    headers = service.client.post(CHAT, json=ASKED[CHAT], headers={"x-request-id": "mine-1"}).headers

    assert (headers["x-request-id"], headers["request-id"]) == ("mine-1", "mine-1")


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_either_sdks_way_to_send_a_key_is_taken(native, path, header):
    service, upstream = native
    upstream.handler = status(200, ANSWERS[path])
    key = f"Bearer {KEY}" if header == "authorization" else KEY

    with service.client_with("") as client:
        del client.headers["authorization"]
        response = client.post(path, json=ASKED[path], headers={header: key})

    assert response.status_code == 200


# Requests that go on by way of chat.


@NATIVE
def test_a_provider_of_chat_alone_answers_in_the_callers_format(scripted, path):
    service, upstream = scripted

    response = post(service, path)

    assert asked_of(upstream)[0].head.startswith("POST /v1/chat/completions ")
    assert asked_of(upstream)[0].json["messages"] == PING
    body = response.json()
    identifier = body["id"]
    assert "pong" in json.dumps(body)
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (3, 4)
    assert identifier.startswith({MESSAGES: "msg_", RESPONSES: "resp_"}[path])
    assert kept(service).response == response.content


@NATIVE
def test_a_provider_of_chat_alone_streams_in_the_callers_format(scripted, path):
    service, upstream = scripted
    upstream.handler = words("po", "ng")

    response = post(service, path, stream=True)

    found = events(response.text)
    assert asked_of(upstream)[0].json["stream_options"] == {"include_usage": True}
    assert all(name == data["type"] for name, data in found)
    assert found[-1][0] == {MESSAGES: "message_stop", RESPONSES: "response.completed"}[path]
    usage_ = found[-2][1]["usage"] if path == MESSAGES else found[-1][1]["response"]["usage"]
    assert (usage_["input_tokens"], usage_["output_tokens"]) == (3, 4)
    assert (kept(service).answer, kept(service).input_tokens, kept(service).output_tokens) == ("pong", 3, 4)


def test_what_such_a_provider_cannot_be_asked_is_refused(scripted):
    service, upstream = scripted
    file = {"type": "hologram"}

    of_messages = post(service, MESSAGES, messages=[{"role": "user", "content": [file]}])
    of_responses = post(service, RESPONSES, input=[file])

    assert anthropic_error(of_messages) == (400, "invalid_request_error", "invalid_request")
    assert refused(of_responses)[:3] == (400, "invalid_request", "client")
    assert refused(of_responses)[3].startswith("input")
    assert asked_of(upstream) == []


def test_tokens_are_estimated_where_the_provider_cannot_count(scripted):
    service, upstream = scripted

    response = post(service, COUNT_TOKENS, messages=[{"role": "user", "content": "a" * 400}], stream=True)

    assert 100 <= response.json()["input_tokens"] <= 110
    assert asked_of(upstream) == []


def test_what_the_provider_does_not_offer_is_not_found(scripted):
    service, upstream = scripted

    response = post(service, "/v1/moderations")

    assert refused(response)[:3] == (404, "upstream_rejected", "provider")
    assert asked_of(upstream) == []


@pytest.mark.parametrize("path", [EMBEDDINGS, "/v1/moderations", COUNT_TOKENS])
def test_what_has_no_streams_is_answered_whole(native, path):
    service, upstream = native
    upstream.handler = status(200, ANSWERS[path])

    response = post(service, path, stream=True)

    assert (response.status_code, response.content) == (200, ANSWERS[path])


# The mock speaks the older formats itself.


@EACH
def test_the_mock_answers_everything(mocked, path):
    response = post(mocked, path, model="mock")

    row = kept(mocked)
    assert response.status_code == 200
    assert (row.status, row.provider, row.question) == ("completed", "mock", "ping")
    assert row.response == response.content


@EACH_STREAM
def test_the_mock_streams_everything(mocked, path):
    response = post(mocked, path, model="mock", stream=True)

    row = kept(mocked)
    assert response.status_code == 200
    assert (row.status, row.stream, row.finish_reason) == ("completed", 1, "stop")
    assert "ping" in row.answer
    assert "ping" in row.response.decode()
