"""Answers in the wire formats, read to their end: the text in them, and what they say of an error."""

import json

from tests.service import events, frames

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
STREAMING = "/api/streaming"

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def broken_streaming(response) -> tuple[str, dict]:
    (first, _), *middle, (last, data) = events(response.text)
    assert (first, last) == ("start", "error")
    assert {name for name, _ in middle} == {"delta"}
    return "".join(delta["text"] for _, delta in middle), of_openai(response, data)


def broken_chat(response) -> tuple[str, dict]:
    *chunks, (_, error), done = frames(response.text)
    assert done == ("", "[DONE]")
    choices = _choices(chunks)
    assert [choice["finish_reason"] for choice in choices if choice.get("finish_reason")] == []
    return _text(choices), of_openai(response, json.loads(error))


def broken_messages(response) -> tuple[str, dict]:
    (first, _), *middle, (last, data) = events(response.text)
    assert (first, last) == ("message_start", "error")
    assert {"message_delta", "message_stop"}.isdisjoint(name for name, _ in middle)
    assert data["error"]["type"] in ANTHROPIC_TYPES.values()
    return _of_blocks(middle), of_anthropic(response, data)


def broken_responses(response) -> tuple[str, dict]:
    *before, (last, data) = events(response.text)
    assert last == data["type"] == "response.failed"
    assert data["response"]["status"] == "failed"
    assert data["response"]["error"]["message"]
    assert {"response.completed", "response.incomplete"}.isdisjoint(name for name, _ in before)
    return _of_items(before), {"code": data["response"]["error"]["type"]}


def streamed_text(response) -> str:
    """Of one of the SDKs' formats."""
    path = path_of(response)
    if path == CHAT:
        *chunks, done = frames(response.text)
        assert done == ("", "[DONE]")
        choices = _choices(chunks)
        assert choices[-1]["finish_reason"]
        return _text(choices)
    found = events(response.text)
    assert found[-1][0] in {MESSAGES: ["message_stop"], RESPONSES: ["response.completed", "response.incomplete"]}[path]
    return _of_blocks(found) if path == MESSAGES else _of_items(found)


def path_of(response) -> str:
    return response.request.url.path


def of_openai(response, body: dict) -> dict:
    error = body["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    return {name: error[name] for name in ("code", "source", "provider", "upstream_status", "retry_after")}


def of_anthropic(response, body: dict) -> dict:
    """Anthropic's form has less room."""
    error = body["error"]
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["x-request-id"] == response.headers["request-id"]
    assert error["message"]
    return {name: error[name] for name in ("code", "source")}


def _choices(chunks: list[tuple[str, str]]) -> list[dict]:
    return [choice for _, data in chunks for choice in json.loads(data).get("choices", ())]


def _text(choices: list[dict]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def _of_blocks(found: list[tuple[str, dict]]) -> str:
    return "".join(data["delta"].get("text", "") for name, data in found if name == "content_block_delta")


def _of_items(found: list[tuple[str, dict]]) -> str:
    return "".join(data["delta"] for name, data in found if name == "response.output_text.delta")
