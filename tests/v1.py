"""Calls in the SDKs' formats: what is asked, what a provider of all of them answers, and what is kept of it."""

import sqlite3
from contextlib import closing
from typing import NamedTuple

import pytest

from tests.upstream import DONE, Connection, Upstream, stream

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


def settings_for(upstream: Upstream) -> dict:
    """One provider that speaks every format; its model has another name, and one under which it is asked once."""
    return {
        "default_model": "small",
        "providers": {
            "x": {
                "base_url": upstream.url,
                "api_keys": [PROVIDER_KEY],
                "dialects": ["chat", "completions", "embeddings", "moderations", "messages", "responses"],
                "models": ["small", "vendor/big"],
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
    return response.status_code, body["error"]["type"], body["error"]["code"]
