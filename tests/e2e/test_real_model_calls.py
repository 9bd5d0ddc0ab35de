"""A real language model, and calls that take a turn: conversations, a provider that is away, clients that leave."""

import json

import httpx2
import pytest

from tests.real_model import BOTH, CHAT, EITHER, FORMATS, MARKS, MESSAGES, RESPONSES, STREAMED, asking, recorded

pytestmark = MARKS

LONG = 3000  # tokens: more than a minute, at 45 a second


def test_a_conversation_goes_on(before_model):
    conversation = "0b1a5f0e-8f0a-4a53-8d65-6a6d1f3f4d11"

    first = before_model.ask("My name is Ada.", conversation_id=conversation, max_tokens=8).json()
    second = before_model.ask("What is my name?", conversation_id=conversation, max_tokens=8).json()

    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] + first["usage"]["output_tokens"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("native", "native"), ("plain", "plain"), ("native", "plain")],
    ids=[*EITHER, "from one to the other"],
)
def test_a_response_goes_on_from_another(before_model, sdk, first, second):
    one = sdk.responses.create(**asking(RESPONSES, f"{first}/gemma", "My name is Ada."))
    follow_up = asking(RESPONSES, f"{second}/gemma", "What is my name?", previous_response_id=one.id)

    other = sdk.responses.create(**follow_up)
    *_, last = sdk.responses.create(**follow_up, stream=True)

    assert [item["question"] for item in before_model.history(limit=2)] == ["What is my name?"] * 2
    told = [("user", "My name is Ada."), ("assistant", one.output_text), ("user", "What is my name?")]
    messages = [{"role": role, "content": content} for role, content in told]
    same = sdk.chat.completions.create(model="native/gemma", messages=messages, max_tokens=1)
    assert [other.usage.input_tokens, last.response.usage.input_tokens] == [same.usage.prompt_tokens] * 2


@STREAMED
@FORMATS
@pytest.mark.parametrize("spare", ["native", "plain"], ids=EITHER)
def test_a_provider_that_is_away_is_replaced(before_model, model_settings, path, stream, spare):
    before_model.configure(**model_settings)  # nothing is known of anyone's health

    asked = asking(path, f"spare-{spare}", stream=stream)
    response = before_model.client.post(path, json=asked).raise_for_status()

    told = {name: response.headers[f"x-ai-proxy-{name}"] for name in ("provider", "model", "attempts")}
    assert told == {"provider": spare, "model": "gemma", "attempts": "2"}
    assert recorded(before_model)[2] == 6


@BOTH
@FORMATS
def test_a_stream_that_is_left_frees_the_model(before_model, path, model):
    asked = asking(path, model, "Hi", limit=LONG, stream=True)

    with before_model.client.stream("POST", path, json=asked) as response:
        lines = response.iter_lines()
        seen = _said(path, [next(lines) for _ in range(30)])

    _assert_free(before_model, path, model)
    item = _left(before_model)
    assert seen
    assert item["answer"].startswith(seen)
    assert item["usage"]["input_tokens"] > 0
    assert item["usage"]["output_tokens"] > 0
    assert item["usage"]["estimated"] is True


@BOTH
@FORMATS
def test_a_call_that_is_left_frees_the_model(before_model, path, model):
    with pytest.raises(httpx2.ReadTimeout):
        before_model.client.post(path, json=asking(path, model, "Hi", limit=LONG), timeout=1)

    _assert_free(before_model, path, model)
    assert _left(before_model)["answer"] == ""


def _said(path, lines):
    """The text in these lines of a stream."""
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    if path == CHAT:
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    deltas = [event["delta"] for event in events if "delta" in event]
    return "".join(deltas if path == RESPONSES else [delta["text"] for delta in deltas])


def _assert_free(service, path, model):
    """Only one is answered at a time. (To ask its server for its state would keep that from seeing who left.)"""
    answer = service.client.post(path, json=asking(path, model, "Hi", limit=1), timeout=30)
    assert answer.status_code == 200


def _left(service):
    """The call before the newest."""
    item = service.history(limit=2)[1]
    assert (item["question"], item["status"], item["error"]) == ("Hi", "cancelled", "client_gone")
    return item


@BOTH
@FORMATS
def test_what_is_too_long_is_refused_in_the_callers_format(before_model, path, model):
    """It would be a stream, but there is nothing of it yet."""
    response = before_model.client.post(path, json=asking(path, model, "x " * 30_000, stream=True))

    body = response.json()
    error = body["error"]
    assert response.status_code == 400
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")
    assert body.get("type") == ("error" if path == MESSAGES else None)
    assert before_model.history(limit=1)[0]["error"] == error["code"]


def test_a_question_that_is_too_long_is_refused(before_model):
    response = before_model.ask("x " * 30_000, max_tokens=1)

    assert response.status_code == 400
    assert response.json()["error"]["source"] == "provider"
