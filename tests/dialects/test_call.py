"""Calls as they come in: what is read from a body, and what is sent on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.core.exceptions import BadRequest, PreviousResponseNotFound
from ai_proxy.core.types import Turn
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import parse

MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
DIALECTS = ["chat", "completions", "embeddings", "moderations", "responses", "messages", "count_tokens"]


def refusal_of(dialect: str, body: bytes | dict | list) -> BadRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(BadRequest) as caught:
        parse(dialect, data)
    return caught.value


def question_of(dialect: str, **body) -> str:
    return parse(dialect, json.dumps(body).encode()).question


# What is sent on.


def test_all_but_the_model_goes_on_as_it_came():
    body = (
        b'{"model":"alias","messages":[{"role":"user","content":"\\u00e9"}],"x_new":{"big":1e2,"same":[1.50]},"seed":1}'
    )

    sent = parse("chat", body).payload("real")

    assert sent == body.replace(b"alias", b"real")


def test_changes_replace_fields_and_take_some_away():
    call = parse("chat", json.dumps({"messages": MESSAGES, "max_tokens": 5, "n": None}).encode())

    sent = json.loads(call.payload("real", {"max_tokens": None, "max_completion_tokens": 5}))

    assert sent == {"model": "real", "messages": MESSAGES, "n": None, "max_completion_tokens": 5}


def test_of_equal_names_the_last_one_counts_for_us_and_for_the_provider():
    call = parse("chat", b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}')

    assert call.model == "b"
    assert call.payload("b").count(b"model") == 1


def test_earlier_exchanges_come_before_the_question_and_after_the_instructions():
    call = calls.of("chat", {"messages": MESSAGES, "temperature": 0.5}, question="Why?")

    longer = call.after([Turn("1?", "1!"), Turn("2?", "2!")])

    assert [message["content"] for message in longer.body["messages"]] == ["Be short.", "1?", "1!", "2?", "2!", "Why?"]
    assert [message["role"] for message in longer.body["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
    assert longer.body["temperature"] == 0.5
    assert call.body["messages"] == MESSAGES


# The question.


def test_the_question_is_the_last_text_of_the_user():
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "this?"},
    ]

    assert question_of("chat", messages=MESSAGES) == "Why?"
    assert question_of("chat", messages=[{"role": "user", "content": parts}, {"role": "tool", "content": "!"}]) == (
        "What is\nthis?"
    )
    assert question_of("messages", messages=[{"role": "user", "content": "Hi"}]) == "Hi"
    assert question_of("responses", input="Hi") == "Hi"
    assert question_of("responses", input=[{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]) == "Hi"
    assert question_of("completions", prompt=["Once", "Twice"]) == "Twice"
    assert question_of("embeddings", input=[[1, 2], [3]]) == ""
    assert question_of("moderations", input="Hi") == "Hi"


def test_texts_are_counted_and_images_are_not():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    call = calls.of(
        "chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "abc"}, image]}]}, question=""
    )

    assert call.characters() == len("abc")


# Refusals.


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"x"', b"\xff", b'{"a": NaN}', b"[" * 100_000, b'{"a":"\\ud800"}']
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_no_json_object_is_refused(dialect, body):
    assert refusal_of(dialect, body).status == 400


@pytest.mark.parametrize(
    ("dialect", "body", "param"),
    [
        ("chat", {}, "messages"),
        ("chat", {"messages": []}, "messages"),
        ("chat", {"messages": "hi"}, "messages"),
        ("chat", {"messages": ["hi"]}, "messages.0"),
        ("messages", {"messages": [{"role": "user", "content": "x"}, {"content": "y"}]}, "messages.1"),
        ("chat", {"messages": MESSAGES, "model": ""}, "model"),
        ("chat", {"messages": MESSAGES, "model": "x" * 201}, "model"),
        ("chat", {"messages": MESSAGES, "model": "x\ny"}, "model"),
        ("chat", {"messages": MESSAGES, "model": 5}, "model"),
        ("chat", {"messages": MESSAGES, "stream": "yes"}, "stream"),
        ("chat", {"messages": MESSAGES, "stream_options": []}, "stream_options"),
        ("completions", {}, "prompt"),
        ("embeddings", {"input": []}, "input"),
        ("moderations", {"input": None}, "input"),
    ],
)
def test_a_refusal_names_the_field(dialect, body, param):
    assert refusal_of(dialect, body).param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "text"]), inner),
    max_leaves=8,
)


@given(dialect=st.sampled_from(DIALECTS), body=st.dictionaries(st.sampled_from(["messages", "input", "prompt"]), JSON))
def test_any_body_is_read_or_refused(dialect, body):
    try:
        call = parse(dialect, json.dumps(body).encode())
    except BadRequest:
        return
    assert isinstance(call.question, str)
    assert call.characters() >= 0


# A request in the form of responses that came to chat completions.


def test_a_request_in_the_form_of_responses_becomes_a_chat_request():
    body = {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "input": "Hi",
        "instructions": "Short.",
    }

    call = parse("chat", json.dumps(body).encode())

    assert call.dialect == "chat"
    assert call.stream
    assert call.question == "Hi"
    assert json.loads(call.payload("m")) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Short."}, {"role": "user", "content": "Hi"}],
    }


def test_such_a_request_cannot_go_on_from_a_response():
    with pytest.raises(PreviousResponseNotFound, match="send what was said before as input"):
        parse("chat", json.dumps({"input": "Hi", "previous_response_id": "resp_1"}).encode())
