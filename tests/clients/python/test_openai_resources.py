"""openai-python: models, embeddings, completions, moderations."""

import pytest


def test_models_are_listed_and_each_can_be_retrieved(client):
    models = client.models.list().data

    assert models
    assert all(client.models.retrieve(model.id).id == model.id for model in models)
    assert {model.object for model in models} == {"model"}


async def test_the_asynchronous_client_iterates_over_models(asynchronous):
    assert [model.id async for model in asynchronous.models.list()]


def test_texts_are_embedded_in_their_order(lenient):
    answer = lenient.embeddings.create(model="mock", input=["one", "two", "one"])

    first, second, third = (item.embedding for item in answer.data)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert first == third != second
    assert len(first) == len(second) > 0
    assert answer.usage.total_tokens > 0


def test_both_encodings_of_an_embedding_mean_the_same(client, lenient):
    packed = lenient.embeddings.create(model="mock", input="one", encoding_format="base64").data[0].embedding
    plain = client.embeddings.create(model="mock", input="one", encoding_format="float").data[0].embedding
    unsaid = lenient.embeddings.create(model="mock", input="one").data[0].embedding

    assert isinstance(packed, str)
    assert unsaid == pytest.approx(plain, rel=1e-5)


def test_the_dimensions_of_an_embedding_can_be_chosen(lenient):
    answer = lenient.embeddings.create(model="mock", input="one", dimensions=8)

    assert len(answer.data[0].embedding) == 8


async def test_the_asynchronous_client_embeds(asynchronous):
    answer = await asynchronous.embeddings.create(model="mock", input=[[1, 2, 3]], encoding_format="float")

    assert answer.data[0].embedding


def test_a_prompt_is_completed(client):
    completion = client.completions.create(model="mock", prompt="ping")

    assert completion.choices[0].text
    assert completion.usage.total_tokens > 0


def test_a_completion_is_streamed(lenient):
    chunks = list(lenient.completions.create(model="mock", prompt="ping", suffix="pong", stream=True))

    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


def test_a_text_is_moderated(client):
    answer = client.moderations.create(model="mock", input="a kind word")

    assert len(answer.results) == 1
    assert answer.results[0].flagged is False
