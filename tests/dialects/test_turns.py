"""What was said before, in any dialect, as messages."""

import json

import pytest

from ai_proxy.core.types import Turn
from ai_proxy.dialects.turns import messages_of

ANSWER = {"role": "assistant", "content": "a"}
BEFORE = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "q"}]


def said(dialect: str, request: object, *, answer: str = "a") -> list[dict]:
    return messages_of(Turn("q", answer, dialect, json.dumps(request).encode()))


def test_a_question_is_one_of_the_user():
    assert messages_of(Turn("q", "a")) == [{"role": "user", "content": "q"}, ANSWER]


@pytest.mark.parametrize(
    ("dialect", "request_"),
    [
        ("chat", {"messages": BEFORE, "temperature": 1}),
        ("chat", {"input": "q", "instructions": "Be short."}),
        ("responses", {"input": "q", "instructions": "Be short."}),
        ("messages", {"messages": BEFORE[1:], "system": "Be short.", "max_tokens": 9}),
    ],
)
def test_a_call_has_all_that_its_request_had(dialect, request_):
    assert said(dialect, request_) == [*BEFORE, ANSWER]


@pytest.mark.parametrize(
    ("dialect", "request_"),
    [
        ("completions", {"prompt": "q"}),
        ("embeddings", {"input": "q", "messages": [1]}),
        ("count_tokens", {"messages": BEFORE[1:], "system": "Be short."}),
        ("chat", "no object"),
        ("chat", {"messages": []}),
        ("responses", {"input": [{"type": "computer_call"}]}),
    ],
)
def test_what_chat_cannot_say_is_its_question(dialect, request_):
    assert said(dialect, request_) == [{"role": "user", "content": "q"}, ANSWER]


def test_an_answer_without_words_is_none():
    assert said("chat", {"messages": BEFORE}, answer="") == BEFORE
