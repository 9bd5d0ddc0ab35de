"""The most that a call may cost, and the limit of tokens by which that is so."""

import base64
import json
from typing import get_args

import pytest

from ai_proxy.core.exceptions import BadRequest, ModelNotFound
from ai_proxy.core.types import Bounds
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Dialect, parse
from ai_proxy.gateway.health import Account, Health
from ai_proxy.gateway.limits.worst import (
    LIMITS,
    PART_TOKENS,
    TOOLS_TOKENS,
    bounded,
    dearest,
    input_bound,
    stated_output,
)
from ai_proxy.gateway.pricing import PriceTag
from ai_proxy.gateway.routing import Route, Target
from tests.gateway.limits.calls import Provider, rates

MESSAGE = {"messages": [{"role": "user", "content": "ping"}]}
BODIES = {
    "chat": MESSAGE,
    "messages": MESSAGE,
    "completions": {"prompt": "ping"},
    "responses": {"input": "ping"},
    "embeddings": {"input": "ping"},
    "moderations": {"input": "ping"},
    "count_tokens": MESSAGE,
}


def call(dialect="chat", **fields):
    return parse(dialect, json.dumps({"model": "small", **BODIES[dialect], **fields}).encode())


def target(price) -> Target:
    return Target(
        provider=Provider(),
        model="m",
        limits=Bounds(),
        health=Health("x", Account()),
        label="x",
        tag=PriceTag(lambda _: price),
    )


def route(*prices, **fields) -> Route:
    groups = tuple((target(price),) for price in prices)
    return Route(**{"name": "small", "groups": groups, "lookup": nothing_found, **fields})


def nothing_found(name):
    raise ModelNotFound(name)


def test_of_every_format_it_is_known_what_limits_its_answers():
    assert set(LIMITS) == set(get_args(Dialect))


@pytest.mark.parametrize(
    ("dialect", "fields", "expected"),
    [
        ("chat", {}, None),
        ("chat", {"max_tokens": 5}, 5),
        ("chat", {"max_completion_tokens": 7}, 7),
        ("chat", {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ("chat", {"max_tokens": 5, "n": 3}, 15),
        ("chat", {"max_tokens": 5.5}, 6),
        ("chat", {"max_tokens": 0}, None),
        ("chat", {"max_tokens": -1}, None),
        ("chat", {"max_tokens": "many"}, None),
        ("chat", {"max_tokens": True}, None),
        ("chat", {"max_tokens": None}, None),
        ("chat", {"max_tokens": 10**30}, None),
        ("completions", {"max_tokens": 5, "n": 2, "best_of": 4}, 20),
        ("completions", {"max_tokens": 5, "prompt": ["a", "b", "c"]}, 15),
        ("completions", {"max_tokens": 5, "prompt": ["a", "b", "c"], "n": 2}, 30),
        ("completions", {"max_tokens": 5, "prompt": [[1, 2], [3]]}, 10),
        ("completions", {"max_tokens": 5, "prompt": [1, 2, 3]}, 5),
        ("responses", {"max_output_tokens": 9}, 9),
        ("responses", {"max_tokens": 9}, None),
        ("messages", {"max_tokens": 8}, 8),
        ("embeddings", {"max_tokens": 8}, 0),
        ("moderations", {}, 0),
        ("count_tokens", {"max_tokens": 8}, 0),
    ],
)
def test_how_many_tokens_a_call_lets_be_written(dialect, fields, expected):
    assert stated_output(call(dialect, **fields)) == expected


@pytest.mark.parametrize(
    ("dialect", "name", "limit"),
    [
        ("chat", "max_completion_tokens", 500),
        ("responses", "max_output_tokens", 500),
        ("messages", "max_tokens", 500),
        ("completions", "max_tokens", 16),
    ],
)
def test_a_call_that_says_no_limit_gets_one_in_what_is_sent(dialect, name, limit):
    made, written = bounded(call(dialect, temperature=0), 500)

    sent = json.loads(made.payload("tiny"))
    assert (sent[name], made.body[name], written) == (limit, limit, limit)
    assert sent["temperature"] == 0


def test_our_own_wording_has_the_name_that_every_server_knows():
    made, _ = bounded(calls.of("chat", dict(MESSAGE), question="ping"), 500)

    assert made.is_ours
    assert made.body["max_tokens"] == 500
    assert "max_completion_tokens" not in made.body


def test_several_answers_have_the_limit_each():
    _, written = bounded(call(n=4), 500)

    assert written == 2000


@pytest.mark.parametrize("said", [-1, 0, "many", None, 10**30])
def test_what_is_no_limit_is_replaced_by_one(said):
    made, written = bounded(call(max_tokens=said), 500)

    sent = json.loads(made.payload("tiny"))
    assert ("max_tokens" in sent, sent["max_completion_tokens"], written) == (False, 500, 500)


def test_a_limit_that_is_none_does_not_stand_beside_one_that_is():
    made, written = bounded(call(max_tokens=-1, max_completion_tokens=20), 500)

    sent = json.loads(made.payload("tiny"))
    assert ("max_tokens" in sent, sent["max_completion_tokens"], written) == (False, 20, 20)


@pytest.mark.parametrize("name", ["n", "best_of"])
@pytest.mark.parametrize("said", ["100", 10**30, -1, [5]])
def test_a_number_of_answers_that_some_server_might_take_for_one_is_not_sent(name, said):
    made, written = bounded(call(**{"max_tokens": 5, name: said}), 500)

    assert (name in json.loads(made.payload("tiny")), written) == (False, 5)


def test_all_else_is_sent_byte_by_byte_as_it_came():
    body = b'{"model": "small", "messages": [ {"role":"user","content":"\\u0041"} ], "temperature": 1.0, "x": 1e2}'

    sent = bounded(parse("chat", body), 500)[0].payload("small")

    for piece in (b'[ {"role":"user","content":"\\u0041"} ]', b'"temperature":1.0', b'"x":1e2'):
        assert piece in sent


@pytest.mark.parametrize("dialect", ["embeddings", "moderations", "count_tokens"])
def test_what_writes_nothing_stays_as_it_is(dialect):
    asked = call(dialect)

    assert bounded(asked, 500) == (asked, 0)


def test_a_call_with_a_limit_stays_as_it_is():
    asked = call(max_tokens=5)

    assert bounded(asked, 500)[0] is asked


@pytest.mark.parametrize("text", ["ping " * 100, "привет " * 100, "🦄" * 100, '"\\\n' * 100, "\u0000" * 50])
def test_no_text_has_more_tokens_than_what_is_reckoned_with(text):
    """A token is a byte at least: tokenizers work on the UTF-8 of a text."""
    assert input_bound(call(messages=[{"role": "user", "content": text}])) >= len(text.encode())


@pytest.mark.parametrize(
    ("dialect", "part"),
    [
        ("chat", {"type": "image_url", "image_url": {"url": "https://x/y.png"}}),
        ("chat", {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"x").decode(), "format": "wav"}}),
        ("chat", {"type": "file", "file": {"file_id": "file-1"}}),
        ("messages", {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
        ("messages", {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}}),
    ],
)
def test_what_is_no_text_counts_by_the_part_however_it_is_spelled(dialect, part):
    one = call(dialect, messages=[{"role": "user", "content": [part]}])
    spelled = parse(dialect, msg(one).replace(b'"type"', b'"t\\u0079pe"').replace(b"image", b"im\\u0061ge"))

    assert input_bound(one) > PART_TOKENS
    assert input_bound(spelled) > PART_TOKENS


def msg(asked) -> bytes:
    return json.dumps(asked.body).encode()


def test_text_that_looks_like_a_part_is_text():
    asked = call(messages=[{"role": "user", "content": '{"type":"image_url"}'}])

    assert input_bound(asked) < PART_TOKENS


def test_items_of_responses_count():
    image = {"type": "input_image", "image_url": "https://x/y.png"}
    text = {"type": "input_text", "text": "what is it?"}

    assert input_bound(call("responses", input=[{"role": "user", "content": [text, image, image]}])) > 2 * PART_TOKENS


def test_tools_bring_a_text_of_their_own():
    tool = {"type": "function", "function": {"name": "x"}}

    assert input_bound(call(tools=[tool])) > TOOLS_TOKENS


def test_the_dearest_of_all_targets_counts():
    asked, cheap, dear = call(max_tokens=1_000_000), rates(output=1_000), rates(output=5_000)

    assert dearest(route(cheap, dear, cheap), asked, 1_000_000) == 5_000
    assert dearest(route(cheap, hedge=True), asked, 1_000_000) == 2_000
    assert dearest(route(cheap, None), asked, 1_000_000) == 1_000


def test_the_models_that_take_over_count_too():
    asked, cheap, dear = call(), rates(request=1), rates(request=9)
    long = route(dear)

    taken_over = route(cheap, on_context_length="long", lookup=lambda _: long)

    assert dearest(taken_over, asked, 1) == 9
    assert dearest(route(cheap, on_content_filter="gone"), asked, 1) == 1


def test_models_that_take_over_from_those_that_take_over_count_too():
    cheap, dear, dearest_of_all = rates(request=1), rates(request=9), rates(request=90)
    routes = {}
    routes["first"] = route(cheap, on_context_length="second", lookup=routes.__getitem__)
    routes["second"] = route(dear, on_content_filter="third", lookup=routes.__getitem__)
    routes["third"] = route(dearest_of_all, on_context_length="first", lookup=routes.__getitem__)

    assert dearest(routes["first"], call(), 1) == 90


def test_models_that_the_call_itself_names_to_fall_back_on_count_too():
    known = {"fake/dear": route(rates(request=9))}

    def lookup(name):
        return known.get(name) or nothing_found(name)

    free = route(rates(), lookup=lookup)

    assert dearest(free, call(models=["dear", "gone", 5]), 1) == 9
    assert dearest(free, call(models="dear"), 1) == 0
    with pytest.raises(BadRequest, match="at most 20"):
        dearest(free, call(models=["dear"] * 21), 1)


def test_what_is_added_to_a_free_model_is_not_free():
    assert dearest(route(rates()), call(plugins=[{"id": "web"}]), 1) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"web_search_options": {}},
        {"tools": [{"type": "file_search", "vector_store_ids": ["x"]}]},
        {"tools": [{"type": "mcp", "server_url": "https://x"}]},
        {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
        {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
    ],
)
def test_tools_of_the_provider_bring_texts(fields):
    assert input_bound(call(**fields)) > PART_TOKENS


def test_free_is_not_unknown():
    assert dearest(route(rates()), call(), 10) == 0
    assert dearest(route(None), call(), 10) is None
    assert dearest(route(rates(), None), call(), 10) is None
