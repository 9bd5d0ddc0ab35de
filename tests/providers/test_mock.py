"""The provider that needs no network, through the API and by itself."""

import json

import pytest

from ai_proxy.core.groups import MockSettings
from ai_proxy.core.types import Bounds, Usage
from ai_proxy.core.upstream_errors import BadUpstreamResponse, StreamTruncated, UpstreamRateLimited, UpstreamRejected
from ai_proxy.dialects import call
from ai_proxy.providers.mock import Mock
from tests.outcome import (
    ASK,
    EITHER_WAY,
    STREAMING,
    broken_off,
    failed,
    failure,
    post,
    recorded,
    refusal,
    seen,
    streamed,
)

GREETING = "This is a mock answer, no model was asked. You said: "


def test_answers_with_the_question(mocked):
    answer = post(mocked, ASK, "What is the capital of France?").json()

    assert answer["answer"] == GREETING + "What is the capital of France?"
    assert (answer["mock"], answer["provider"], answer["model"]) == (True, "mock", "mock")
    assert answer["finish_reason"] == "stop"


def test_the_same_question_has_the_same_answer(mocked):
    first, second = (post(mocked, ASK, "How are you?").json() for _ in range(2))

    assert (first["answer"], first["usage"]) == (second["answer"], second["usage"])


@pytest.mark.parametrize("question", ["ping", "  two  spaces ", "a\nb\tc", "Grüße 世界 😀", "x" * 10_000])
def test_a_stream_says_the_same_word_by_word(mocked, question):
    whole = post(mocked, ASK, question).json()

    text, done = streamed(post(mocked, STREAMING, question))

    assert text == whole["answer"] == GREETING + question
    assert done["usage"] == whole["usage"]
    assert done["finish_reason"] == "stop"


@EITHER_WAY
def test_counts_its_words_and_the_characters_of_the_question(mocked, path):
    post(mocked, path, "one two", system="Be short.")

    status, error, answer, usage = recorded(mocked)
    assert (status, error) == ("completed", None)
    assert usage == (-(-len("one two" + "Be short.") // 4), len(answer.split(" ")), False)


@EITHER_WAY
@pytest.mark.parametrize(("most", "answer"), [(1, "This "), (3, "This is a ")])
def test_stops_at_the_most_tokens(mocked, path, most, answer):
    response = post(mocked, path, max_tokens=most)

    reason = response.json()["finish_reason"] if path == ASK else streamed(response)[1]["finish_reason"]
    assert reason == "length"
    assert recorded(mocked)[2] == answer
    assert recorded(mocked)[3][1] == most


def test_an_unknown_model_answers_all_the_same(mocked):
    answer = post(mocked, ASK, model="mock/anything").json()

    assert (answer["model"], answer["mock"]) == ("mock/anything", True)


PASSING = {"retry_after": 1, "should_retry": True}


@EITHER_WAY
@pytest.mark.parametrize(
    ("model", "status", "code", "facts"),
    [
        ("mock/error-400", 400, "upstream_rejected", {"upstream_status": 400}),
        ("mock/error-401", 502, "provider_auth", {"upstream_status": 401, "should_retry": False}),
        ("mock/error-402", 502, "provider_quota", {"upstream_status": 402, "should_retry": False}),
        ("mock/error-404", 404, "upstream_rejected", {"upstream_status": 404}),
        ("mock/error-429", 429, "upstream_rate_limited", {"upstream_status": 429, **PASSING}),
        ("mock/error-500", 502, "bad_upstream_response", {"upstream_status": 500, **PASSING}),
        ("mock/error-502", 502, "bad_upstream_response", {"upstream_status": 502, **PASSING}),
        ("mock/error-503", 503, "upstream_overloaded", {"upstream_status": 503, **PASSING}),
        ("mock/timeout", 504, "upstream_timeout_first_byte", PASSING),
    ],
)
def test_fails_when_the_model_says_so(mocked, path, model, status, code, facts):
    response = post(mocked, path, model=model)

    assert seen(response) == refusal(status, code, provider="mock", **facts)
    assert recorded(mocked) == failed(code)


@EITHER_WAY
@pytest.mark.parametrize("name", ["", "x", "200", "399", "600", "-500", "4290", "٤٢٩", "429 ", "4" * 5000])
def test_a_failure_that_there_is_not_says_so(mocked, path, name):
    model = f"mock/error-{name}"[:200]

    response = post(mocked, path, model=model)

    assert seen(response) == refusal(404, "upstream_rejected", provider="mock", upstream_status=404)
    assert "mock/error-429" in response.json()["error"]["message"]


def test_a_cut_answer_is_a_bad_answer(mocked):
    response = post(mocked, ASK, model="mock/cut")

    assert seen(response) == refusal(502, "bad_upstream_response", provider="mock", **PASSING)
    assert recorded(mocked) == failed("bad_upstream_response")


def test_a_cut_stream_ends_in_an_error_event_after_half_of_its_words(mocked):
    response = post(mocked, STREAMING, model="mock/cut")

    text, error = broken_off(response)
    assert error == failure("upstream_stream_truncated", provider="mock", retry_after=1)
    assert text == "This is a mock answer, no "
    assert recorded(mocked) == failed("upstream_stream_truncated", text, (1, 7, True))


MOCK = Mock("mock", MockSettings(latency=0, token_delay=0))
PING = {"messages": [{"role": "user", "content": "ping"}]}


def parsed(dialect="chat", **body):
    return call.parse(dialect, json.dumps(body).encode())


async def completed(made, model="mock"):
    return await MOCK.complete(made, model, Bounds())


async def chunks_of(made, model="mock"):
    return [chunk async for chunk in MOCK.stream(made, model, Bounds())]


@pytest.mark.anyio
async def test_what_is_read_of_an_answer_is_what_it_says():
    completion = await completed(parsed(**PING))

    assert (completion.text, completion.finish_reason) == (GREETING + "ping", "stop")
    assert completion.usage == Usage(1, 12)
    assert json.loads(completion.body)["model"] == "mock"


@pytest.mark.anyio
async def test_a_stream_ends_with_a_reason_and_then_the_usage():
    *_, finish, usage = await chunks_of(parsed(**PING))

    assert (finish.finish_reason, finish.content) == ("stop", True)
    assert (usage.usage_only, usage.usage) == (True, Usage(1, 12))


@pytest.mark.anyio
async def test_the_chunk_with_the_role_bears_no_content():
    first, second, *_ = await chunks_of(parsed(**PING))

    assert (first.content, second.content, second.text) == (False, True, "This ")


@pytest.mark.anyio
async def test_the_same_request_has_the_same_bytes():
    assert (await completed(parsed(**PING))).body == (await completed(parsed(**PING))).body


@pytest.mark.anyio
async def test_a_cut_stream_of_a_tool_call_breaks_off_in_its_arguments():
    parameters = {"properties": {"a": {"minLength": 200}}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}

    stream = MOCK.stream(parsed(**PING, tools=[tool], tool_choice="required"), "mock/cut", Bounds())
    role, start, *_ = [await anext(stream) for _ in range(10)]

    assert (role.content, start.content) == (False, True)
    with pytest.raises(StreamTruncated):
        await anext(stream)


@pytest.mark.anyio
async def test_names_of_models_that_fail_may_come_without_the_prefix():
    with pytest.raises(UpstreamRateLimited):
        await completed(parsed(**PING), "error-429")
    with pytest.raises(BadUpstreamResponse):
        await completed(parsed(**PING), "cut")


@pytest.mark.anyio
async def test_text_completions_are_answered_whole_and_in_pieces():
    made = parsed("completions", prompt="ping")

    whole, pieces = await completed(made), await chunks_of(made)

    assert whole.text == "".join(chunk.text for chunk in pieces) == GREETING + "ping"
    assert whole.usage == pieces[-1].usage == Usage(1, 12)
    assert pieces[-2].finish_reason == "stop"


@pytest.mark.anyio
async def test_embeddings_and_moderations_are_answered():
    embedding = await completed(parsed("embeddings", input="a cat"))
    moderation = await completed(parsed("moderations", input="a cat"))

    assert len(json.loads(embedding.body)["data"][0]["embedding"]) == 256
    assert embedding.usage == Usage(2, 0)
    assert json.loads(moderation.body)["results"][0]["flagged"] is False


@pytest.mark.anyio
@pytest.mark.parametrize(
    "made",
    [
        parsed(**PING, n=0),
        parsed(
            **PING,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}],
            tool_choice="required",
        ),
        parsed("completions", prompt=3),
        parsed("embeddings", input=""),
        parsed("moderations", input=3),
    ],
)
async def test_a_request_that_cannot_be_answered_is_refused(made):
    with pytest.raises(UpstreamRejected) as refused:
        await completed(made)

    assert (refused.value.status, refused.value.provider) == (400, "mock")


@pytest.mark.anyio
async def test_a_stream_that_cannot_be_answered_is_refused_before_it_begins():
    with pytest.raises(UpstreamRejected):
        await chunks_of(parsed(**PING, stop=3))


@pytest.mark.anyio
async def test_lists_its_one_model_and_no_way_to_fail():
    assert await MOCK.models(Bounds()) == [MOCK.default_model]
