"""openai-python: errors by class, code and parameter; which of them it tries again, and how often."""

import openai
import pytest

ROUTE = "/v1/chat/completions"


def ask(client, model="mock", **fields):
    fields = {"messages": [{"role": "user", "content": "ping"}], **fields}
    return client.chat.completions.create(model=model, **fields)


def test_a_wrong_key_is_an_authentication_error(client):
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(client.with_options(api_key="aip_wrong"))

    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id


def test_a_request_without_messages_names_the_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body={"model": "mock"}, cast_to=object)

    assert caught.value.param == "messages"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no/such-model")

    assert caught.value.code == "model_not_found"
    assert caught.value.message.count("The model 'no/such-model' does not exist") == 1


def test_a_path_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.list()

    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, openai.BadRequestError), (404, openai.NotFoundError), (422, openai.UnprocessableEntityError)],
)
def test_what_the_provider_finds_wrong_with_a_request_is_the_callers_to_mend(client, answered, status, error):
    answered.watch(ROUTE, status)

    with pytest.raises(error) as caught:
        ask(client, f"mock/error-{status}")

    assert caught.value.type == "invalid_request_error"
    assert answered.times(ROUTE, status) == 1


def test_the_gateways_own_key_refused_is_not_the_callers_fault_and_not_tried_again(client, answered):
    answered.watch(ROUTE, 502)

    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "mock/error-401")

    assert (caught.value.status_code, caught.value.code) == (502, "provider_auth")
    assert answered.times(ROUTE, 502) == 1


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (429, openai.RateLimitError, "upstream_rate_limited"),
        (503, openai.InternalServerError, "upstream_overloaded"),
    ],
)
def test_a_refusal_that_passes_is_tried_again_as_often_as_the_client_wants(client, answered, status, error, code):
    answered.watch(ROUTE, status)

    with pytest.raises(error) as caught:
        ask(client.with_options(max_retries=1), f"mock/error-{status}")

    assert caught.value.code == code
    assert caught.value.request_id
    assert answered.times(ROUTE, status) == 2


def test_a_refusal_is_not_tried_again_by_a_client_that_does_not_want_it(client, answered):
    answered.watch(ROUTE, 429)

    with pytest.raises(openai.RateLimitError) as caught:
        ask(client.with_options(max_retries=0), "mock/error-429")

    assert caught.value.response.headers["retry-after"] == "1"
    assert answered.times(ROUTE, 429) == 1


def test_a_refused_stream_is_an_error_before_it_begins(client):
    with pytest.raises(openai.RateLimitError):
        ask(client.with_options(max_retries=0), "mock/error-429", stream=True)


def test_a_provider_that_is_too_slow_is_a_server_error(client):
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client.with_options(max_retries=0), "mock/timeout")

    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout_first_byte")


def test_a_stream_that_breaks_off_raises_after_what_came(client):
    pieces = []
    stream = ask(client, "mock/cut", stream=True)

    with pytest.raises(openai.APIError) as caught:
        pieces.extend(chunk.choices[0].delta.content or "" for chunk in stream)

    assert "".join(pieces)
    assert caught.value.code == "upstream_stream_truncated"


async def test_the_asynchronous_client_sees_the_same_errors(asynchronous):
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(asynchronous.with_options(max_retries=0), "mock/error-429")
    with pytest.raises(openai.APIError):
        _ = [chunk async for chunk in await ask(asynchronous, "mock/cut", stream=True)]

    assert caught.value.code == "upstream_rate_limited"
