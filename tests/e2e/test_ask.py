"""POST /api/ask, as a client sees it."""

import re
from datetime import UTC, datetime, timedelta

from tests.upstream import completion


def test_answers_in_the_promised_shape(mocked):
    response = mocked.ask("What is the capital of France?")

    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {
        "id",
        "answer",
        "model",
        "provider",
        "mock",
        "finish_reason",
        "usage",
        "cost_usd",
        "duration_ms",
        "created_at",
        "conversation_id",
    }
    assert "mock" in answer["answer"]
    assert "What is the capital of France?" in answer["answer"]
    assert answer["mock"] is True
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", answer["id"])
    assert datetime.now(UTC) - datetime.fromisoformat(answer["created_at"]) < timedelta(seconds=10)
    assert answer["usage"]["estimated"] is False


def test_sends_the_question_as_a_chat_completion(scripted):
    service, upstream = scripted
    upstream.handler = completion("Paris")

    answer = service.ask("Capital of France?", system="Be short.", temperature=0.5, max_tokens=5, model="big").json()

    sent = upstream.connections[-1]
    assert answer["answer"] == "Paris"
    assert answer["usage"] == {"input_tokens": 3, "output_tokens": 4, "estimated": False}
    assert (answer["model"], answer["provider"], answer["mock"]) == ("big", "openai", False)
    assert sent.header("authorization") == "Bearer sk-upstream-canary-key"
    assert sent.json == {
        "model": "big",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Capital of France?"},
        ],
        "temperature": 0.5,
        "max_tokens": 5,
    }


def test_any_name_of_a_model_can_be_told_in_a_header(mocked):
    answers = [mocked.ask("ping", model=name) for name in ("Ā", "a\r\nset-cookie: x", "модель/1", "plain-1.5:free")]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.headers["x-ai-proxy-model"] for answer in answers] == [
        "%C4%80",
        "a%0D%0Aset-cookie: x",
        "%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C/1",
        "plain-1.5:free",
    ]
    assert not any("set-cookie" in answer.headers for answer in answers)
