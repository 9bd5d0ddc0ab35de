"""The SDKs' endpoints under /v1: what goes to the provider, what comes back, and what is kept of it."""

import json
import sqlite3
from contextlib import closing
from typing import NamedTuple

import pytest

from tests.service import KEY, Service, events, frames, http_request, read_all
from tests.upstream import (
    DONE,
    Connection,
    Upstream,
    completion,
    delta,
    error,
    event,
    in_turn,
    status,
    stream,
    words,
)
from tests.wire import Answer, parse, refused

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
MESSAGES, COUNT_TOKENS, RESPONSES = "/v1/messages", "/v1/messages/count_tokens", "/v1/responses"
PING = [{"role": "user", "content": "ping"}]
ASKED = {
    CHAT: {"model": "small", "messages": PING},
    COMPLETIONS: {"model": "small", "prompt": "ping"},
    EMBEDDINGS: {"model": "small", "input": "ping"},
    "/v1/moderations": {"model": "small", "input": "ping"},
    MESSAGES: {"model": "small", "max_tokens": 99, "messages": PING},
    COUNT_TOKENS: {"model": "small", "messages": PING},
    RESPONSES: {"model": "small", "input": "ping"},
}
PROVIDER_KEY = "provider-canary-key-0123456789"


# Answers of a provider that speaks all formats, in its own way of writing JSON.
MESSAGE = (
    b'{"id": "msg_theirs",  "type":"message","role":"assistant","model":"small-2026","odd":1.50,\n'
    b'"content":[{"type":"text","text":"p\\u00f6ng"}],"stop_reason":"end_turn",'
    b'"usage":{"input_tokens":3,"output_tokens":4}}'
)
RESPONSE = (
    b'{"id": "resp_theirs",  "object":"response","status":"completed","odd":1.50,\n'
    b'"output":[{"id":"msg_theirs","type":"message","role":"assistant","status":"completed",'
    b'"content":[{"type":"output_text","text":"p\\u00f6ng","annotations":[]}]}],'
    b'"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}'
)
CHAT_ANSWER = (
    b'{"id": "chatcmpl-theirs",  "object":"chat.completion","created":1700000000,"odd":1.50,\n'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"p\\u00f6ng"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
)
TEXT_ANSWER = CHAT_ANSWER.replace(b'"message":{"role":"assistant","content":"p\\u00f6ng"}', b'"text":"p\\u00f6ng"')
VECTORS = (
    b'{"object":"list","data":[{"index":0,"embedding":[1E-3, -0.50]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
)
VERDICT = b'{"id":"modr-theirs","results":[{"flagged":false}]}'
COUNT = b'{"input_tokens" : 17}'
ANSWERS = {
    CHAT: CHAT_ANSWER,
    COMPLETIONS: TEXT_ANSWER,
    EMBEDDINGS: VECTORS,
    "/v1/moderations": VERDICT,
    MESSAGES: MESSAGE,
    COUNT_TOKENS: COUNT,
    RESPONSES: RESPONSE,
}
MESSAGE_EVENTS = [
    ("message_start", '{"type":"message_start",  "message":{"id":"msg_theirs","usage":{"input_tokens":3}},"odd":1.50}'),
    ("ping", '{"type": "ping"}'),
    ("content_block_start", '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'),
    ("content_block_delta", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"p\\u00f6"}}'),
    ("content_block_delta", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ng"}}'),
    ("content_block_stop", '{"type":"content_block_stop","index":0}'),
    ("unheard_of", '{"type":"unheard_of","x":1E+2}'),
    ("message_delta", '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}'),
    ("message_stop", '{"type":"message_stop"}'),
]
RESPONSE_EVENTS = [
    ("response.created", '{"type":"response.created",  "response":{"id":"resp_theirs","status":"in_progress"}}'),
    (
        "response.output_text.delta",
        '{"type":"response.output_text.delta","output_index":0,"delta":"p\\u00f6","odd":1.50}',
    ),
    ("response.unheard_of", '{"type":"response.unheard_of","x":1E+2}'),
    ("response.output_text.delta", '{"type":"response.output_text.delta","output_index":0,"delta":"ng"}'),
    (
        "response.completed",
        f'{{"type":"response.completed","response":{RESPONSE.decode().replace(chr(10), "")}}}',
    ),
]
CHAT_EVENTS = [
    ("", '{"id": "chatcmpl-theirs",  "choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"odd":1.50}'),
    ("", '{"id":"chatcmpl-theirs","choices":[{"index":0,"delta":{"content":"p\\u00f6"}}],"usage":null}'),
    ("", '{"id":"chatcmpl-theirs","choices":[{"index":0,"delta":{"content":"ng"}}],"x":1E+2}'),
    ("", '{"id":"chatcmpl-theirs","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'),
]
USAGE_EVENT = ("", '{"choices":[],"usage":{"prompt_tokens":3, "completion_tokens":4}}')
TEXT_EVENTS = [
    ("", '{"id":"cmpl-theirs",  "choices":[{"index":0,"text":"p\\u00f6"}],"odd":1.50}'),
    ("", '{"id":"cmpl-theirs","choices":[{"index":0,"text":"ng","finish_reason":"stop"}]}'),
]
STREAMS = {CHAT: CHAT_EVENTS, COMPLETIONS: TEXT_EVENTS, MESSAGES: MESSAGE_EVENTS, RESPONSES: RESPONSE_EVENTS}
EACH = pytest.mark.parametrize("path", ASKED)
EACH_STREAM = pytest.mark.parametrize("path", STREAMS)
NATIVE = pytest.mark.parametrize("path", [MESSAGES, RESPONSES])


@pytest.fixture(scope="module")
def native_pair(tmp_path_factory):
    with Upstream() as upstream:
        service = Service(tmp_path_factory.mktemp("native"), AI_PROXY_SERVER__MAX_BODY_BYTES=20_000)
        yield service.configure(**settings_for(upstream)).start(), upstream
        assert service.stop() == 0
        service.client.close()


@pytest.fixture
def native(native_pair):
    """A server whose provider speaks every format: (service, upstream)."""
    service, upstream = native_pair
    service.configure(**settings_for(upstream))
    upstream.handler = completion()
    upstream.connections.clear()
    return service, upstream


def settings_for(upstream: Upstream, **provider) -> dict:
    return {
        "default_model": "small",
        "providers": {
            "x": {
                "base_url": upstream.url,
                "api_keys": [PROVIDER_KEY],
                "dialects": ["chat", "completions", "embeddings", "moderations", "messages", "responses"],
                "models": ["small", "vendor/big"],
                **provider,
            }
        },
        "models": {"alias": {"targets": ["x/small"]}, "once": {"targets": ["x/small"], "retries": 0}},
    }


class Kept(NamedTuple):
    dialect: str
    stream: int
    status: str
    error: str | None
    question: str
    answer: str
    finish_reason: str | None
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    usage_estimated: int
    request: bytes
    response: bytes | None
    response_id: str | None


def kept(service) -> Kept:
    """The newest record, with its bodies, as the database has it."""
    address = f"file:{service.directory / 'data' / 'ai-proxy.db'}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=10)) as database:
        columns = ", ".join(Kept._fields)
        query = f"select {columns} from exchanges join bodies on exchange_id = id order by id desc limit 1"  # noqa: S608
        return Kept(*database.execute(query).fetchone())


def post(service, path: str, **fields):
    return service.client.post(path, json={**ASKED[path], **fields})


def post_raw(service, path: str, body: bytes, **headers):
    return service.client.post(path, content=body, headers={"content-type": "application/json", **headers})


def asked_of(upstream: Upstream) -> list[Connection]:
    """The calls that it got: the question for its models may come at any time."""
    return [connection for connection in upstream.connections if connection.head.startswith("POST ")]


def sse(found: list[tuple[str, str]]) -> bytes:
    """Events as a provider writes them."""
    return b"".join(f"event: {name}\ndata: {data}\n\n".removeprefix("event: \n").encode() for name, data in found)


def streaming(path: str):
    """A provider that streams a good answer in the format of this path."""
    parts = [sse([one]) for one in STREAMS[path]]
    return stream(*parts, *([sse([USAGE_EVENT]), DONE] if path in {CHAT, COMPLETIONS} else []))


def anthropic_error(response) -> tuple[int, str, str]:
    """Of an error in Anthropic's envelope: status, type and our code."""
    body, headers = response.json(), response.headers
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["error"]["message"]
    assert body["request_id"] == headers["request-id"] == headers["x-request-id"]
    assert headers["content-type"] == "application/json"
    status = response.status if isinstance(response, Answer) else response.status_code
    return status, body["error"]["type"], body["error"]["code"]


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


# Errors.

TOO_LARGE = json.dumps({**ASKED[MESSAGES], "x": "a" * 30_000}).encode()
WRONG = {
    "no JSON": ({"content": b"{oops"}, 400, "invalid_request", "invalid_request_error"),
    "no object": ({"content": b"[]"}, 400, "invalid_request", "invalid_request_error"),
    "a wrong model": ({"json": {"model": 5}}, 400, "invalid_request", "invalid_request_error"),
    "too large": ({"content": TOO_LARGE}, 413, "body_too_large", "request_too_large"),
    "no JSON by its name": (
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
        *(415, "unsupported_media_type", "invalid_request_error"),
    ),
    "a model that is not served": (
        {"json": {"model": "nobody", "messages": PING, "input": "ping", "prompt": "ping", "max_tokens": 9}},
        *(404, "model_not_found", "not_found_error"),
    ),
}


@pytest.mark.parametrize("path", [path for path in ASKED if not path.startswith(MESSAGES)])
@pytest.mark.parametrize(("request_", "status_", "code", "_"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_as_openai_does(native, path, request_, status_, code, _):
    service, upstream = native

    response = service.client.post(path, **{"headers": {"content-type": "application/json"}, **request_})

    assert refused(response)[:3] == (status_, code, "client")
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert asked_of(upstream) == []


@pytest.mark.parametrize("path", [MESSAGES, COUNT_TOKENS])
@pytest.mark.parametrize(("request_", "status_", "code", "kind"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_as_anthropic_does(native, path, request_, status_, code, kind):
    service, upstream = native

    response = service.client.post(path, **{"headers": {"content-type": "application/json"}, **request_})

    assert anthropic_error(response) == (status_, kind, code)
    assert asked_of(upstream) == []


@pytest.mark.parametrize("streams", [False, True])
@EACH_STREAM
def test_a_model_that_is_not_served_is_named(native, path, streams):
    service, _ = native

    response = post(service, path, model="no/body", stream=streams)

    assert response.status_code == 404
    assert response.json()["error"]["message"].startswith("The model 'no/body' does not exist")
    assert (kept(service).status, kept(service).error) == ("failed", "model_not_found")
    assert kept(service).model == "no/body"


@pytest.mark.parametrize("path", [MESSAGES, COUNT_TOKENS])
def test_other_ways_to_go_wrong_have_anthropics_form_as_well(native, path):
    service, _ = native

    wrong_method = service.client.get(path)
    unknown = service.client.post("/v1/messages/batches", json={})
    with service.client_with("nobody's key") as stranger:
        not_let_in = stranger.post(path, json=ASKED[path])

    assert anthropic_error(wrong_method) == (405, "invalid_request_error", "method_not_allowed")
    assert wrong_method.headers["allow"] == "POST"
    assert anthropic_error(unknown) == (404, "not_found_error", "not_found")
    assert anthropic_error(not_let_in) == (401, "authentication_error", "invalid_api_key")


@pytest.mark.parametrize("path", [path for path in ASKED if not path.startswith(MESSAGES)])
def test_other_ways_to_go_wrong_have_openais_form(native, path):
    service, _ = native

    wrong_method = service.client.put(path)
    with service.client_with("nobody's key") as stranger:
        not_let_in = stranger.post(path, json=ASKED[path])

    assert refused(wrong_method)[:2] == (405, "method_not_allowed")
    assert refused(not_let_in)[:2] == (401, "invalid_api_key")
    assert not_let_in.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("failure", "as_openai", "as_anthropic"),
    [
        (error(529), (503, "upstream_overloaded"), (529, "overloaded_error", "upstream_overloaded")),
        (error(503), (503, "upstream_overloaded"), (529, "overloaded_error", "upstream_overloaded")),
        (error(429), (429, "upstream_rate_limited"), (429, "rate_limit_error", "upstream_rate_limited")),
        (error(422), (422, "upstream_rejected"), (422, "invalid_request_error", "upstream_rejected")),
        (error(401), (502, "provider_auth"), (502, "api_error", "provider_auth")),
    ],
)
def test_a_providers_failure_is_told_in_the_callers_form(native, failure, as_openai, as_anthropic, streams):
    service, upstream = native
    upstream.handler = failure

    of_chat = post(service, CHAT, model="once", stream=streams)
    of_responses = post(service, RESPONSES, model="once", stream=streams)
    of_messages = post(service, MESSAGES, model="once", stream=streams)

    assert refused(of_chat)[:3] == refused(of_responses)[:3] == (*as_openai, "provider")
    assert anthropic_error(of_messages) == as_anthropic


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_how_long_to_wait_is_told_in_both_headers(native, path):
    service, upstream = native
    upstream.handler = error(429, headers="retry-after: 70\r\n")

    response = post(service, path, model="once")

    assert response.status_code == 429
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("70", "70000")


def test_a_chat_stream_that_fails_ends_with_an_error_and_done(native):
    service, upstream = native
    upstream.handler = stream(delta("po"), event({"error": {"message": "broken", "code": 502}}))

    response = post(service, CHAT, stream=True)

    first, (_, told), done = frames(response.text)
    assert json.loads(first[1])["choices"][0]["delta"]["content"] == "po"
    assert json.loads(told)["error"]["request_id"] == response.headers["x-request-id"]
    assert done == ("", "[DONE]")
    assert (kept(service).status, kept(service).answer) == ("failed", "po")


def test_a_message_stream_that_fails_ends_with_an_error(native):
    service, upstream = native
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    upstream.handler = stream(sse(MESSAGE_EVENTS[:4]), b"event: error\n" + event(told))

    response = post(service, MESSAGES, stream=True)

    *before, (name, last) = events(response.text)
    assert [one for one, _ in before] == [one for one, _ in MESSAGE_EVENTS[:4]]
    assert (name, last["error"]["type"]) == ("error", "overloaded_error")
    assert last["request_id"] == response.headers["request-id"]
    assert (kept(service).status, kept(service).error, kept(service).answer) == ("failed", "upstream_overloaded", "pö")


def test_a_response_stream_that_fails_ends_with_the_failed_response(native):
    service, upstream = native
    upstream.handler = stream(sse(RESPONSE_EVENTS[:2]))

    response = post(service, RESPONSES, stream=True)

    *before, (name, last) = events(response.text)
    assert [one for one, _ in before] == [one for one, _ in RESPONSE_EVENTS[:2]]
    assert (name, last["sequence_number"]) == ("response.failed", 2)
    assert (last["response"]["id"], last["response"]["status"]) == ("resp_theirs", "failed")
    assert kept(service).response_id is None
    assert json.loads(kept(service).response)["output"][0]["content"][0]["text"] == "pö"


def test_a_response_stream_that_began_with_nonsense_fails_in_order(native):
    service, upstream = native
    upstream.handler = stream(b'data: {"type":"response.created","response":[]}\n\n', sse(RESPONSE_EVENTS[1:2]))

    response = post(service, RESPONSES, stream=True)

    assert events(response.text)[-1][0] == "response.failed"


def test_nobody_is_sent_to_another_address(native):
    """A redirect would name this one as we see it: without TLS, though the client may have come by it."""
    service, upstream = native

    response = service.client.post(f"{CHAT}/", json=ASKED[CHAT])

    assert refused(response)[:2] == (404, "not_found")
    assert asked_of(upstream) == []


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


# What is kept.


@EACH
def test_both_bodies_of_a_call_are_kept_as_they_were(native, path):
    service, upstream = native
    upstream.handler = status(200, ANSWERS[path])
    body = json.dumps({**ASKED[path], "model": "alias", "odd": 1.5}, indent=1).encode()

    response = post_raw(service, path, body)

    row = kept(service)
    answer = "" if path in {EMBEDDINGS, "/v1/moderations", COUNT_TOKENS} else "pöng"
    tokens = {EMBEDDINGS: (3, 0), "/v1/moderations": (0, 0), COUNT_TOKENS: (0, 0)}.get(path, (3, 4))
    assert (row.request, row.response) == (body, response.content)
    assert (row.status, row.error, row.finish_reason, row.stream) == ("completed", None, "stop", 0)
    assert (row.provider, row.model, row.question, row.answer) == ("x", "small", "ping", answer)
    assert (row.input_tokens, row.output_tokens, row.usage_estimated) == (*tokens, 0)
    assert row.dialect == ("chat" if path == CHAT else path.split("/")[-1])
    assert row.response_id == ("resp_theirs" if path == RESPONSES else None)


@EACH_STREAM
def test_a_stream_is_kept_as_the_answer_that_it_makes_up(native, path):
    service, upstream = native
    upstream.handler = streaming(path)

    post(service, path, stream=True)

    row = kept(service)
    body = json.loads(row.response)
    assert (row.status, row.stream, row.answer, row.finish_reason) == ("completed", 1, "pöng", "stop")
    assert (row.input_tokens, row.output_tokens, row.usage_estimated) == (3, 4, 0)
    assert body["id"].endswith("theirs")
    assert "pöng" in json.dumps(body, ensure_ascii=False)


def test_a_call_that_was_refused_is_kept_with_its_request(native):
    service, upstream = native
    upstream.handler = error(422, "not like this")

    post(service, CHAT, odd=1)

    row = kept(service)
    assert (row.status, row.error, row.provider) == ("failed", "upstream_rejected", "x")
    assert json.loads(row.request)["odd"] == 1
    assert row.response is None


def test_calls_of_the_sdks_are_in_the_history(native):
    service, upstream = native
    upstream.handler = status(200, MESSAGE)

    response = post(service, MESSAGES)

    (item,) = service.history(limit=1)
    assert (item["question"], item["answer"], item["status"]) == ("ping", "pöng", "completed")
    assert response.status_code == 200


# Models.


def test_models_are_listed_in_a_shape_that_both_sdks_read(native):
    service, _ = native

    body = service.client.get("/v1/models").json()

    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["alias", "once", "small", "vendor/big"]
    assert [model["owned_by"] for model in body["data"]] == ["ai-proxy", "ai-proxy", "x", "x"]
    assert (body["has_more"], body["first_id"], body["last_id"]) == (False, "alias", "vendor/big")
    model = body["data"][0]
    assert (model["object"], model["type"], model["display_name"]) == ("model", "model", "alias")
    assert isinstance(model["created"], int)
    assert model["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("query", "page", "more"),
    [
        ({"limit": 2}, ["alias", "once"], True),
        ({"limit": 2, "after_id": "once"}, ["small", "vendor/big"], False),
        ({"limit": 1, "after_id": "once"}, ["small"], True),
        ({"after_id": "small"}, ["vendor/big"], False),
        ({"after_id": "vendor/big"}, [], False),
        ({"limit": 2, "before_id": "vendor/big"}, ["once", "small"], True),
        ({"limit": 2, "before_id": "small"}, ["alias", "once"], False),
        ({"before_id": "once"}, ["alias"], False),
        ({"limit": 1000}, ["alias", "once", "small", "vendor/big"], False),
    ],
)
def test_models_come_in_pages(native, query, page, more):
    service, _ = native

    body = service.client.get("/v1/models", params=query).json()

    assert [model["id"] for model in body["data"]] == page
    assert body["has_more"] is more
    assert (body["first_id"], body["last_id"]) == ((page[0], page[-1]) if page else (None, None))


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_page_has_a_sensible_size(native, limit):
    service, _ = native

    assert refused(service.client.get("/v1/models", params={"limit": limit}))[1:] == (
        "invalid_request",
        "client",
        "limit",
    )


@pytest.mark.parametrize("written", ["vendor/big", "vendor%2Fbig"])
def test_one_model_may_have_a_slash_in_its_name(native, written):
    service, _ = native

    response = service.client.get(f"/v1/models/{written}")

    assert (response.status_code, response.json()["id"], response.json()["owned_by"]) == (200, "vendor/big", "x")


def test_a_model_that_there_is_not_is_not_found(native):
    service, _ = native

    response = service.client.get("/v1/models/no/body")

    assert refused(response)[:2] == (404, "model_not_found")
    assert response.json()["error"]["message"].startswith("The model 'no/body' does not exist")


def test_models_are_told_to_nobody_without_a_key(native):
    service, _ = native

    with service.client_with("nobody's key") as stranger:
        answers = [stranger.get(path) for path in ("/v1/models", "/v1/models/small", "/v1/responses/x")]

    assert [refused(answer)[:2] for answer in answers] == [(401, "invalid_api_key")] * 3


def test_anybody_may_see_that_somebody_is_there(native):
    service, _ = native

    with service.client_with("nobody's key") as stranger:
        response = stranger.head("/")

    assert (response.status_code, response.content) == (200, b"")


# Responses that are stored.


def test_a_response_can_be_fetched_again_and_forgotten(scripted):
    service, _ = scripted
    given = post(service, RESPONSES)
    path = f"{RESPONSES}/{given.json()['id']}"

    fetched = service.client.get(path)
    forgotten = service.client.delete(path)
    gone = [service.client.get(path), service.client.delete(path)]

    assert fetched.content == given.content
    assert forgotten.json() == {"id": given.json()["id"], "object": "response", "deleted": True}
    assert [refused(one)[:3] for one in gone] == [(404, "response_not_found", "client")] * 2
    assert kept(service).response == given.content  # the history has it


@pytest.mark.parametrize("server", ["scripted", "native"])
def test_a_streamed_response_can_be_fetched_as_its_last_event_had_it(request, server):
    service, upstream = request.getfixturevalue(server)
    upstream.handler = words("po", "ng") if server == "scripted" else streaming(RESPONSES)

    (*_, (_, last)) = events(post(service, RESPONSES, stream=True).text)

    assert service.client.get(f"{RESPONSES}/{last['response']['id']}").json() == last["response"]


def test_a_response_that_is_not_to_be_stored_cannot_be_fetched(scripted):
    service, _ = scripted

    given = post(service, RESPONSES, store=False).json()
    fetched = service.client.get(f"{RESPONSES}/{given['id']}")
    continued = post(service, RESPONSES, previous_response_id=given["id"])

    assert refused(fetched)[:2] == (404, "response_not_found")
    assert refused(continued) == (400, "previous_response_not_found", "client", "previous_response_id")


def test_a_response_is_its_own_keys_alone(scripted):
    service, upstream = scripted
    given = post(service, RESPONSES).json()
    path = f"{RESPONSES}/{given['id']}"
    reference = {"type": "item_reference", "id": given["output"][0]["id"]}
    upstream.connections.clear()

    with service.client_with(service.new_key("another")) as other:
        fetched, forgotten = other.get(path), other.delete(path)
        continued = other.post(RESPONSES, json={**ASKED[RESPONSES], "previous_response_id": given["id"]})
        referred = other.post(RESPONSES, json={"model": "small", "input": [reference, *PING]})

    assert [refused(one)[:2] for one in (fetched, forgotten)] == [(404, "response_not_found")] * 2
    assert refused(continued)[:2] == (400, "previous_response_not_found")
    assert referred.status_code == 400
    assert asked_of(upstream) == []
    assert service.client.get(path).status_code == 200


def test_a_conversation_goes_from_response_to_response(scripted):
    service, upstream = scripted
    upstream.handler = in_turn(*(completion(text) for text in ("a1", "a2", "a3")))

    first = post(service, RESPONSES, input="q1", instructions="Be brief.").json()
    second = post(
        service, RESPONSES, input=[{"role": "user", "content": "q2"}], previous_response_id=first["id"]
    ).json()
    third = post(service, RESPONSES, input="q3", previous_response_id=second["id"]).json()

    sent = [(message["role"], message["content"]) for message in asked_of(upstream)[-1].json["messages"]]
    assert sent == [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2"), ("user", "q3")]
    assert (third["previous_response_id"], second["previous_response_id"]) == (second["id"], first["id"])
    assert (kept(service).question, kept(service).answer) == ("q3", "a3")
    assert json.loads(kept(service).request)["previous_response_id"] == second["id"]


def test_a_streamed_conversation_goes_on_too(scripted):
    service, upstream = scripted
    upstream.handler = in_turn(words("a", "1"), words("a", "2"))

    (*_, (_, last)) = events(post(service, RESPONSES, input="q1", stream=True).text)
    post(service, RESPONSES, input="q2", stream=True, previous_response_id=last["response"]["id"])

    sent = [message["content"] for message in asked_of(upstream)[-1].json["messages"]]
    assert sent == ["q1", "a1", "q2"]


def test_a_provider_of_responses_gets_the_whole_conversation(native):
    """It does not know our names of earlier responses, or not this one's key."""
    service, upstream = native
    upstream.handler = status(200, RESPONSE)

    post(service, RESPONSES, input="q1")
    post(service, RESPONSES, input="q2", previous_response_id="resp_theirs", odd=1.5)

    sent = asked_of(upstream)[-1].json
    assert "previous_response_id" not in sent
    assert sent["odd"] == 1.5
    assert [item.get("role") for item in sent["input"]] == ["user", "assistant", "user"]
    assert sent["input"][1] == json.loads(RESPONSE)["output"][0]


def test_an_item_can_be_referred_to(scripted):
    service, upstream = scripted
    given = post(service, RESPONSES).json()
    reference = {"type": "item_reference", "id": given["output"][0]["id"]}

    post(service, RESPONSES, input=[*PING, reference, {"role": "user", "content": "again"}])

    sent = [(message["role"], message["content"]) for message in asked_of(upstream)[-1].json["messages"]]
    assert sent == [("user", "ping"), ("assistant", "pong"), ("user", "again")]


def test_a_response_that_nobody_gave_cannot_be_gone_on_from(scripted):
    service, upstream = scripted

    response = post(service, RESPONSES, previous_response_id="resp_nobody", stream=True)

    assert refused(response) == (400, "previous_response_not_found", "client", "previous_response_id")
    assert asked_of(upstream) == []


@pytest.mark.parametrize("name", [5, True, [], {}])
@pytest.mark.parametrize("server", ["scripted", "native"])
def test_a_name_of_an_earlier_response_is_a_text(request, server, name):
    service, upstream = request.getfixturevalue(server)

    response = post(service, RESPONSES, previous_response_id=name)

    assert refused(response) == (400, "invalid_request", "client", "previous_response_id")
    assert asked_of(upstream) == []
