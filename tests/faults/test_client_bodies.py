"""Bodies that are not what they should be: always 400 or 415 in the envelope, never 500, and never in the history."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger import count, rows
from tests.outcome import EITHER_WAY, memory
from tests.wire import refused

MEGABYTE = 2**20
MALFORMED = {
    "nothing": b"",
    "blanks": b" \r\n",
    "words": b"hello",
    "a form": b"question=ping",
    "an open end": b'{"question": "ping"',
    "a trailing comma": b'{"question": "ping",}',
    "single quotes": b"{'question': 'ping'}",
    "a comment": b'{"question": "ping"} // hello',
    "two documents": b'{"question": "ping"}{"question": "pong"}',
    "a NUL behind": b'{"question": "ping"}\x00',
    "a line break in a string": b'{"question": "a\nb"}',
}
NOT_UTF8 = {
    "a stray byte": b'{"question": "\xff"}',
    "an overlong NUL": b'{"question": "\xc0\x80"}',
    "a character cut off": b'{"question": "\xe2\x82"}',
    "Latin-1": '{"question": "é"}'.encode("latin-1"),
    "a byte order mark": b'\xef\xbb\xbf{"question": "ping"}',
    "UTF-16": '{"question": "ping"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"question": "ping"}'.encode("utf-16-le"),
    "UTF-32": '{"question": "ping"}'.encode("utf-32"),
    "a surrogate as bytes": b'{"question": "\xed\xa0\x80"}',
    "a high surrogate alone": b'{"question": "\\ud800"}',
    "a low surrogate alone": b'{"question": "\\udc00"}',
    "a pair the wrong way round": b'{"question": "\\udc00\\ud800"}',
    "a surrogate in a name": b'{"question": "ping", "\\ud800": 1}',
    "a NUL as a byte": b'{"question": "a\x00b"}',
}
DEEP = {
    "arrays": b"[" * 100_000,
    "arrays that end": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000,
    "objects that end": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "both, in a field": b'{"question": ' + b'[{"a":' * 50_000 + b"1" + b"}]" * 50_000 + b"}",
}
NOT_NUMBERS = {
    "NaN": b'{"question": "ping", "temperature": NaN}',
    "Infinity": b'{"question": "ping", "temperature": Infinity}',
    "-Infinity": b'{"question": "ping", "temperature": -Infinity}',
    "1e400": b'{"question": "ping", "temperature": 1e400}',
    "-1e400": b'{"question": "ping", "temperature": -1e400}',
    "a hundred thousand digits": b'{"question": "ping", "max_tokens": %s}' % (b"9" * 100_000),
    "hexadecimal": b'{"question": "ping", "max_tokens": 0x10}',
    "a leading zero": b'{"question": "ping", "max_tokens": 010}',
}
NOT_OBJECTS = {"null": b"null", "an array": b"[]", "a string": b'"ping"', "a number": b"1", "true": b"true"}

WRONG_FIELDS = [
    ("question", {}),
    ("question", {"question": None}),
    ("question", {"question": 1}),
    ("question", {"question": ["ping"]}),
    ("question", {"question": {"text": "ping"}}),
    ("question", {"question": ""}),
    ("question", {"question": " \t\r\n"}),
    ("question", {"question": "\u00a0\u2003"}),
    ("question", {"question": "a\x00b"}),
    ("question", {"question": "a" * 100_001}),
    ("model", {"question": "ping", "model": 1}),
    ("model", {"question": "ping", "model": ""}),
    ("model", {"question": "ping", "model": "m" * 201}),
    ("model", {"question": "ping", "model": "\x00"}),
    ("system", {"question": "ping", "system": ["be short"]}),
    ("system", {"question": "ping", "system": "\x00"}),
    ("system", {"question": "ping", "system": "a" * 100_001}),
    ("temperature", {"question": "ping", "temperature": -1}),
    ("temperature", {"question": "ping", "temperature": 2.1}),
    ("temperature", {"question": "ping", "temperature": True}),
    ("temperature", {"question": "ping", "temperature": "1"}),
    ("temperature", {"question": "ping", "temperature": 10**400}),
    ("max_tokens", {"question": "ping", "max_tokens": 0}),
    ("max_tokens", {"question": "ping", "max_tokens": -1}),
    ("max_tokens", {"question": "ping", "max_tokens": 1.5}),
    ("max_tokens", {"question": "ping", "max_tokens": 5.0}),
    ("max_tokens", {"question": "ping", "max_tokens": "5"}),
    ("max_tokens", {"question": "ping", "max_tokens": True}),
    ("max_tokens", {"question": "ping", "max_tokens": 2**31}),
    ("max_tokens", {"question": "ping", "max_tokens": 2**64}),
    ("max_tokens", {"question": "ping", "max_tokens": 10**400}),
    ("conversation_id", {"question": "ping", "conversation_id": "mine"}),
    ("conversation_id", {"question": "ping", "conversation_id": ""}),
    ("conversation_id", {"question": "ping", "conversation_id": 7}),
    ("conversation_id", {"question": "ping", "conversation_id": "\x00"}),
    ("qestion", {"question": "ping", "qestion": "ping"}),
    ("stream", {"question": "ping", "stream": True}),
    ("api_base", {"question": "ping", "api_base": "http://169.254.169.254"}),
    ("user_config", {"question": "ping", "user_config": {"api_base": "http://169.254.169.254"}}),
    ("body", {"question": "ping", "body": 1}),
    ("query", {"question": "ping", "query": 1}),
]


@pytest.fixture
def post(mocked):
    """Sends a body to either endpoint; afterwards, nothing is recorded."""
    before = count(mocked)

    def post(path, content, **headers):
        return mocked.client.post(path, content=content, headers={"content-type": "application/json", **headers})

    yield post
    assert count(mocked) == before


@EITHER_WAY
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_c8_malformed_json_is_refused(post, path, body):
    response = post(path, body)

    assert refused(response) == (400, "invalid_request", "client", None)
    assert response.json()["error"]["message"] == "The body must be valid JSON in UTF-8."


@pytest.mark.parametrize("body", NOT_UTF8.values(), ids=NOT_UTF8)
def test_c9_text_that_is_not_utf8_is_refused(post, body):
    response = post("/api/ask", body)

    assert refused(response) == (400, "invalid_request", "client", None)


def test_c9_any_character_that_can_be_stored_comes_back_as_it_was(mocked):
    question = "".join(map(chr, range(1, 0x300))) + "\ud7ff\ue000\ufeff\ufffe\uffff\u2028😀\U0010ffff"

    answer = mocked.ask(question)

    assert answer.json()["answer"].endswith(question)
    assert rows(mocked)[-1].question == question


@EITHER_WAY
@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
def test_c10_deep_nesting_is_refused_at_once(post, path, body):
    began = time.monotonic()
    response = post(path, body)

    assert refused(response) == (400, "invalid_request", "client", None)
    assert time.monotonic() - began < 1


def test_c11_of_equal_names_the_last_counts_wherever_it_is_looked_at(scripted):
    service, upstream = scripted

    answer = service.client.post("/api/ask", content=b'{"question": "a", "question": "b", "model": "x", "model": "y"}')

    assert (answer.json()["model"], service.history(limit=1)[0]["question"]) == ("y", "b")
    assert upstream.connections[-1].json == {"model": "y", "messages": [{"role": "user", "content": "b"}]}


def test_c11_of_equal_names_the_last_is_the_one_that_is_checked(post):
    response = post("/api/ask", b'{"question": "good", "question": ""}')

    assert refused(response) == (400, "invalid_request", "client", "question")


@pytest.mark.parametrize("body", NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_c12_numbers_that_json_does_not_have_are_refused(post, body):
    response = post("/api/ask", body)

    assert refused(response) == (400, "invalid_request", "client", None)


@pytest.mark.parametrize("body", NOT_OBJECTS.values(), ids=NOT_OBJECTS)
def test_c13_a_body_that_is_no_object_is_refused(post, body):
    response = post("/api/ask", body)

    assert refused(response) == (400, "invalid_request", "client", None)
    assert response.json()["error"]["message"] == "The body must be a JSON object."


@EITHER_WAY
@pytest.mark.parametrize(("param", "body"), WRONG_FIELDS)
def test_c13_a_wrong_field_is_named(post, path, param, body):
    response = post(path, json.dumps(body))

    assert refused(response) == (400, "invalid_request", "client", param)
    assert response.json()["error"]["message"].startswith(f"{param}: ")


def test_c13_the_name_of_an_unknown_field_is_repeated_in_part_only(post):
    response = post("/api/ask", json.dumps({"question": "ping", "x" * 1_000_000: 1}))

    assert refused(response) == (400, "invalid_request", "client", "x" * 100)
    assert response.json()["error"]["message"].endswith("x: there is no such field")
    assert len(response.content) < 1000


def test_c13_a_question_of_the_greatest_length_is_answered(mocked):
    question = "é" * 100_000

    answer = mocked.ask(question)

    assert answer.json()["answer"].endswith(question)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonx",
        "application/json, text/plain",
        "json",
        "",
    ],
)
def test_c13_another_content_type_is_refused(post, content_type):
    response = post("/api/ask", b'{"question": "ping"}', **{"content-type": content_type})

    assert refused(response) == (415, "unsupported_media_type", "client", None)


def check(service, body: bytes, headers: dict[str, str]) -> None:
    began = time.monotonic()
    response = service.client.post("/api/ask", content=body, headers=headers)

    if response.status_code == 200:
        assert response.json()["answer"]
    else:
        assert refused(response)[:3] in {
            (400, "invalid_request", "client"),
            (415, "unsupported_media_type", "client"),
        }
    assert time.monotonic() - began < 2


ANY_CASE = settings(
    max_examples=150,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ["question", "model", "system", "temperature", "max_tokens", "conversation_id"]


@ANY_CASE
@given(body=st.binary(max_size=2000), content_type=st.sampled_from(["application/json", "text/plain", "a/b+json"]))
def test_c8_any_bytes_are_answered_or_refused(mocked, body, content_type):
    check(mocked, body, {"content-type": content_type})


@ANY_CASE
@given(body=JSON | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON))
def test_c13_any_json_is_answered_or_refused(mocked, body):
    check(mocked, json.dumps(body).encode(), {"content-type": "application/json"})


@ANY_CASE
@given(
    body=st.fixed_dictionaries(
        {"question": st.text(min_size=1)},
        optional={
            "model": st.text(max_size=20) | st.integers(),
            "system": st.text() | st.none(),
            "temperature": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
            "max_tokens": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
            "conversation_id": st.uuids().map(str) | st.text(),
        },
    )
)
def test_c12_any_values_are_answered_or_refused(mocked, body):
    check(mocked, json.dumps(body).encode(), {"content-type": "application/json"})


def test_c8_nothing_of_what_was_refused_stays_in_memory(post, mocked):
    post("/api/ask", b"[" * 5_000_000)
    before = memory(mocked, "VmRSS")

    for _ in range(20):
        post("/api/ask", b"[" * 5_000_000)

    assert memory(mocked, "VmRSS") - before < 20 * MEGABYTE
