"""The SDKs' endpoints under /v1: what is kept of a call."""

import json

from tests.service import http_request
from tests.upstream import error, silence, status, stream
from tests.v1 import (
    ANSWERS,
    ASKED,
    CHAT,
    COUNT_TOKENS,
    EACH,
    EACH_STREAM,
    EMBEDDINGS,
    MESSAGE,
    MESSAGES,
    RESPONSES,
    STREAMS,
    kept,
    post,
    post_raw,
    sse,
    streaming,
)
from tests.wire import read_until


@EACH
def test_both_bodies_of_a_call_are_kept_as_they_were(native, path):
    service, upstream = native
    upstream.handler = status(200, ANSWERS[path])
    body = json.dumps({**ASKED[path], "model": "alias", "odd": 1.5}, indent=1).encode()

    response = post_raw(service, path, body)

    row = kept(service)
    answer = "" if path in {EMBEDDINGS, "/v1/moderations", COUNT_TOKENS} else "pöng"
    tokens = {EMBEDDINGS: (3, 0), "/v1/moderations": (1, 0), COUNT_TOKENS: (0, 0)}.get(path, (3, 4))
    assert (row.request, row.response) == (body, response.content)
    assert (row.status, row.error, row.finish_reason, row.stream) == ("completed", None, "stop", 0)
    assert (row.provider, row.model, row.question, row.answer) == ("x", "small", "ping", answer)
    assert (row.input_tokens, row.output_tokens, row.usage_estimated) == (
        *tokens,
        path == "/v1/moderations",
    )  # nobody counts those
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


@EACH_STREAM
def test_a_stream_that_its_client_left_is_kept_as_far_as_it_came(native, path):
    service, upstream = native
    parts = [sse([one]) for one in STREAMS[path]]
    said = next(place for place, part in enumerate(parts) if b"p\\u00f6" in part) + 1
    upstream.handler = stream(*parts[:said], silence)
    body = json.dumps({**ASKED[path], "stream": True}).encode()

    with service.raw(http_request(body, path=path)) as connection:
        read_until(connection, b"p\\u00f6")
    row = service.eventually(lambda: (row := kept(service)).request == body and row)

    assert (row.status, row.error, row.answer, row.finish_reason) == ("cancelled", "client_gone", "pö", None)
    assert "pö" in json.dumps(json.loads(row.response), ensure_ascii=False)
    assert row.response_id is None
