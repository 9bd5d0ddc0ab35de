"""The mock's text completions, embeddings and moderations, in the shapes that OpenAI's own client demands."""

import base64
import math
import struct

import pytest
from openai.types import Completion, CreateEmbeddingResponse, ModerationCreateResponse

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_completions import text_answer_to, text_chunks, text_completion
from ai_proxy.providers.mock_embeddings import embeddings
from ai_proxy.providers.mock_moderations import moderations

GREETING = "This is a mock answer, no model was asked. You said: "


def answered(prompt, **options):
    return text_answer_to({"prompt": prompt, **options}, model="m", created=1, read_tokens=5)


def texts(prompt, **options):
    body = text_completion(answered(prompt, **options))
    assert Completion.model_validate(body).to_dict(exclude_unset=True) == body
    return [choice["text"] for choice in body["choices"]]


def embedded(given, **options):
    body = embeddings({"input": given, **options}, model="m", read_tokens=5)
    assert CreateEmbeddingResponse.model_validate(body)
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    return [item["embedding"] for item in body["data"]]


def moderated(given):
    body = moderations({"input": given}, model="m")
    known = ModerationCreateResponse.model_validate(body)
    assert known.to_dict(exclude_unset=True) == body
    return body["results"]


def test_a_prompt_is_answered():
    assert texts("ping") == [GREETING + "ping"]


def test_each_prompt_has_its_answers():
    found = texts(["one", "two"], n=2)

    assert (found[0], found[2]) == (GREETING + "one", GREETING + "two")
    assert len(found) == 4


@pytest.mark.parametrize(("prompt", "said"), [([1, 2], ["2 tokens"]), ([[1], [2, 3]], ["1 token", "2 tokens"])])
def test_token_numbers_are_counted(prompt, said):
    assert texts(prompt) == [GREETING + text for text in said]


def test_the_prompt_is_repeated_on_demand():
    assert texts("ping", echo=True, max_tokens=2) == ["ping This is "]


def test_a_suffix_is_taken():
    assert texts("ping", suffix="pong") == [GREETING + "ping"]


def test_a_completion_ends_where_it_is_told_to():
    assert texts("ping", stop=["mock"]) == ["This is a "]
    assert text_completion(answered("ping", max_tokens=1))["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("options", [{}, {"n": 2}, {"echo": True}, {"max_tokens": 3}])
def test_a_stream_adds_up_to_the_whole_completion(options):
    found = list(text_chunks(answered(["one", "two"], **options)))

    for chunk in found:  # but for the choices: the client's type has no null reason, OpenAI's own streams do
        assert Completion.model_validate({**chunk, "choices": []})
    said = {}
    for part in (part for chunk in found for part in chunk["choices"]):
        said[part["index"]] = said.get(part["index"], "") + part["text"]
    assert [said[index] for index in sorted(said)] == texts(["one", "two"], **options)
    assert (found[-1]["choices"], found[-1]["usage"]["prompt_tokens"]) == ([], 5)


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        (3, {}),
        (None, {}),
        (["a", 1], {}),
        ("a", {"n": 0}),
        (["a"] * 3, {"n": 50}),
        ("a" * 2**20, {"echo": True, "n": 128}),
    ],
)
def test_a_bad_prompt_is_refused(prompt, options):
    with pytest.raises(ProviderFault) as refused:
        answered(prompt, **options)

    assert refused.value.status == 400


def test_a_text_has_a_vector_of_length_one():
    (found,) = embedded("The cat sat.")

    assert len(found) == 256
    assert math.hypot(*found) == pytest.approx(1, abs=1e-6)


def test_the_same_text_has_the_same_vector_and_another_has_another():
    one, two, again, other_order = embedded(["a cat", "a dog", "a cat", "cat a"])

    assert one == again
    assert one not in (two, other_order)


def test_texts_that_share_words_are_nearer():
    cat, kitten, tax = embedded(["the cat sat on the mat", "the cat lay on the mat", "income tax returns"])

    assert dot(cat, kitten) > dot(cat, tax) + 0.3


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_have_the_dimensions_asked_for():
    assert [len(found) for found in embedded(["a", "b"], dimensions=8)] == [8, 8]
    assert embedded("a", dimensions=1) in ([[1.0]], [[-1.0]])


def test_base64_holds_the_same_numbers():
    packed = embeddings({"input": "a cat", "encoding_format": "base64"}, model="m", read_tokens=5)["data"][0]

    assert list(struct.unpack("<256f", base64.b64decode(packed["embedding"]))) == embedded("a cat")[0]


def test_token_numbers_have_vectors():
    (one,), (first, second) = embedded([1, 2, 3]), embedded([[1, 2, 3], [4]])

    assert one == first != second
    assert embeddings({"input": [[1, 2], [3]]}, model="m", read_tokens=0)["usage"]["total_tokens"] == 3


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("", {}),
        ([], {}),
        ([""], {}),
        ([[]], {}),
        (3, {}),
        ([1, "a"], {}),
        ([["a"]], {}),
        ("a", {"dimensions": 0}),
        ("a", {"dimensions": 4097}),
        ("a", {"encoding_format": "int8"}),
        (["a"] * 2049, {}),
        (["a"] * 300, {"dimensions": 4096}),
    ],
)
def test_an_embedding_of_nothing_or_of_too_much_is_refused(given, options):
    with pytest.raises(ProviderFault) as refused:
        embedded(given, **options)

    assert refused.value.status == 400


@pytest.mark.parametrize(("given", "count"), [("kind", 1), (["one", "two"], 2)])
def test_nothing_is_flagged(given, count):
    found = moderated(given)

    assert len(found) == count
    for result in found:
        assert not result["flagged"]
        assert not any(result["categories"].values())
        assert set(result["category_scores"].values()) == {0.0}


def test_a_mixed_input_has_one_result():
    (result,) = moderated([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x"}}])

    assert result["category_applied_input_types"]["violence"] == ["text", "image"]
    assert result["category_applied_input_types"]["hate"] == ["text"]


@pytest.mark.parametrize("given", [[], 3, None, [3], [{"type": 3}], ["a"] * 2049])
def test_a_bad_input_is_not_moderated(given):
    with pytest.raises(ProviderFault) as refused:
        moderated(given)

    assert refused.value.status == 400
