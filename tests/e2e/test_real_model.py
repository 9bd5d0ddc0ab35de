"""A real language model, asked in each of the formats: they pass through or are translated, whole and streamed."""

import json
import re

import httpx2
import openai
import pytest

from tests.real_model import BOTH, CHAT, FORMATS, MARKS, MESSAGES, PATIENCE, RESPONSES, STREAMED, asking, recorded
from tests.service import events, frames

pytestmark = MARKS


def test_a_question_is_answered_streamed_and_remembered(before_model):
    asked = before_model.ask("The capital of France is", max_tokens=8, temperature=0)
    streamed = before_model.client.post(
        "/api/streaming", json={"question": "Count: one, two,", "max_tokens": 8, "temperature": 0}
    )
    history = before_model.history(limit=2)

    assert asked.status_code == 200, asked.text
    answer = asked.json()
    assert answer["answer"].strip()
    assert answer["usage"]["output_tokens"] == 8
    assert answer["usage"]["estimated"] is False
    assert answer["finish_reason"] == "length"
    told = events(streamed.text)
    assert [name for name, _ in told][:: len(told) - 1] == ["start", "done"]
    text = "".join(data["text"] for name, data in told if name == "delta")
    assert text.strip()
    assert told[-1][1]["usage"]["output_tokens"] == 8
    assert [(item["answer"], item["status"]) for item in history] == [
        (text, "completed"),
        (answer["answer"], "completed"),
    ]


@BOTH
def test_chat_completions(before_model, sdk, model):
    asked = asking(CHAT, model)

    whole = sdk.chat.completions.create(**asked)
    kept_whole = recorded(before_model)
    chunks = list(sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.prompt_tokens > 0
    assert kept_whole == (whole.choices[0].message.content, whole.usage.prompt_tokens, 6)
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert recorded(before_model) == ("".join(texts), whole.usage.prompt_tokens, 6)
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


@BOTH
def test_responses(before_model, sdk, model):
    asked = asking(RESPONSES, model)

    whole = sdk.responses.create(**asked)
    kept_whole = recorded(before_model)
    told = list(sdk.responses.create(**asked, stream=True))

    assert whole.usage.input_tokens > 0
    assert kept_whole == (whole.output_text, whole.usage.input_tokens, 6)
    text = "".join(event.delta for event in told if event.type == "response.output_text.delta")
    last = told[-1].response
    assert (last.output_text, last.usage.input_tokens) == (text, whole.usage.input_tokens)
    assert recorded(before_model) == (text, whole.usage.input_tokens, 6)
    assert [event.type.removeprefix("response.") for event in told if not event.type.endswith(".delta")] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        # llama.cpp calls a response complete that its limit has cut off.
        "completed" if model == "native/gemma" else "incomplete",
    ]
    assert [sdk.responses.retrieve(one.id).output_text for one in (whole, last)] == [whole.output_text, text]


def test_translated_events_have_the_places_that_its_server_leaves_out(sdk):
    """Clients that put a response together from its events need them; hence the preset `llamacpp` translates."""
    schema = {"type": "object", "properties": {"sure": {"enum": ["yes", "no"]}}, "required": ["sure"]}
    form = {"format": {"type": "json_schema", "name": "sure", "schema": schema}}

    with sdk.responses.stream(**asking(RESPONSES, "plain/gemma", "Are you sure?", limit=60), text=form) as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    own = list(sdk.responses.create(**asking(RESPONSES, "native/gemma"), stream=True))

    assert numbers == list(range(len(numbers)))
    assert json.loads(final.output_text)["sure"] in {"yes", "no"}
    assert {event.sequence_number for event in own} == {None}
    assert {event.output_index for event in own if hasattr(event, "output_index")} == {None}


@BOTH
def test_messages(before_model, model):
    asked = asking(MESSAGES, model)

    whole = before_model.client.post(MESSAGES, json=asked).raise_for_status().json()
    kept_whole = recorded(before_model)
    told = events(before_model.client.post(MESSAGES, json={**asked, "stream": True}).raise_for_status().text)

    prompt = _prompt(whole["usage"])
    assert prompt > 0
    assert (whole["type"], whole["role"], whole["stop_reason"]) == ("message", "assistant", "max_tokens")
    assert kept_whole == (whole["content"][0]["text"], prompt, 6)
    assert [name for name, _ in told] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * (len(told) - 5),
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(name == data["type"] for name, data in told)
    text = "".join(data["delta"]["text"] for name, data in told if name == "content_block_delta")
    assert recorded(before_model) == (text, prompt, 6)
    start, end = told[0][1]["message"]["usage"], told[-2][1]["usage"]
    assert (max(_prompt(start), _prompt(end)), end["output_tokens"]) == (prompt, 6)
    assert told[-2][1]["delta"]["stop_reason"] == "max_tokens"


def _prompt(usage):
    """What was read from the cache is counted apart."""
    return usage.get("input_tokens", 0) + usage.get("cache_read_input_tokens", 0)


def test_the_tokens_of_a_message_are_counted_by_the_model_itself(before_model):
    asked = asking(MESSAGES, "native/gemma")
    message = {name: asked[name] for name in ("model", "messages")}

    counted = before_model.client.post(f"{MESSAGES}/count_tokens", json=message).raise_for_status().json()
    before_model.client.post(MESSAGES, json=asked).raise_for_status()

    assert counted["input_tokens"] == recorded(before_model)[1]


@STREAMED
@FORMATS
def test_what_passes_through_is_untouched(before_model, model_address, path, stream):
    asked = asking(path, "native/gemma", stream=stream, cache_prompt=False)
    if path == CHAT and stream:
        asked["stream_options"] = {"include_usage": True}

    own = httpx2.post(model_address + path, json={**asked, "model": "gemma"}, timeout=PATIENCE)
    passed = before_model.client.post(path, json=asked)

    assert (own.status_code, passed.status_code) == (200, 200)
    if stream:
        assert frames(_steady(passed.text)) == frames(_steady(own.text))
    else:
        assert _steady(passed.text) == _steady(own.text)


def _steady(text):
    """Without names, times and durations, which are new each time."""
    return re.sub(r"(?<=[-_])[A-Za-z0-9]{32}|\d+(\.\d+)?(e-?\d+)?", "0", text)


def test_text_completions(before_model, sdk):
    asked = {"model": "native/gemma", "prompt": "One, two,", "max_tokens": 4, "temperature": 0}

    whole = sdk.completions.create(**asked)
    kept_whole = recorded(before_model)
    chunks = list(sdk.completions.create(**asked, stream=True))

    assert kept_whole == (whole.choices[0].text, whole.usage.prompt_tokens, 4)
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert recorded(before_model) == (text, whole.usage.prompt_tokens, 4)
    with pytest.raises(openai.NotFoundError, match="plain: does not offer completions"):
        sdk.completions.create(**{**asked, "model": "plain/gemma"})


def test_embeddings_are_refused_as_its_server_refuses_them(sdk):
    """It must be started for them, and then does nothing else."""
    with pytest.raises(openai.InternalServerError) as refused:
        sdk.embeddings.create(model="native/gemma", input="ping")

    assert refused.value.status_code == 502
    assert refused.value.body["upstream_status"] == 501


def test_the_models_of_its_server_are_found(sdk, model_address):
    (own,) = httpx2.get(f"{model_address}/v1/models").json()["data"]

    names = {model.id for model in sdk.models.list()}

    assert {own["id"], f"native/{own['id']}", f"plain/{own['id']}", "spare-native", "spare-plain"} <= names


def test_the_address_alone_turns_its_server_on(start, model_address):
    service = start(LLAMACPP_BASE_URL=model_address)

    message = service.client.post(MESSAGES, json=asking(MESSAGES, "llamacpp/gemma")).raise_for_status().json()
    response = service.client.post(RESPONSES, json=asking(RESPONSES, "llamacpp/gemma")).raise_for_status().json()

    assert message["id"].startswith("chatcmpl-")  # its own
    assert response["id"].startswith("resp_01")  # ours: a UUID of this time
    assert (message["usage"]["output_tokens"], response["usage"]["output_tokens"]) == (6, 6)
