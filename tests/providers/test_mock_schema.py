"""JSON by schema, held against an independent validator."""

import contextlib
import time

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_check import Effort
from ai_proxy.providers.mock_facts import Facts
from ai_proxy.providers.mock_schema import instance

QUESTION = "How many of the 12 cats in San Francisco, CA weigh 4.5 kg? Say 'purr'."


def made(schema, question=QUESTION, turn=0, *, sparing=False):
    """A value that the validator takes."""
    value = instance(schema, Facts(question, turn=turn), Effort(), turn=turn, sparing=sparing)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    validator.validate(value)
    return value


def thing(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
NODE = thing(
    value=TEXT,
    next={"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
    children={"type": "array", "items": {"$ref": "#/$defs/Node"}},
)
SCHEMAS = [
    {},
    True,
    TEXT,
    {"type": "null"},
    {"type": "boolean"},
    thing(a=WHOLE, b=NUMBER, c=TEXT, d={"type": "boolean"}, e={"type": "null"}),
    {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
    thing(ui={"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
    thing(sub={"type": "array", "items": {"$ref": "#"}}),
    {"$ref": "#/definitions/a~1b%25", "definitions": {"a/b%": WHOLE}},
    {"oneOf": [NUMBER, WHOLE]},
    {"oneOf": [thing(kind={"const": "a"}, x=WHOLE), thing(kind={"const": "b"}, y=TEXT)]},
    {"anyOf": [False, {"type": "integer", "minimum": 5, "maximum": 3}, thing(a=TEXT)]},
    {"allOf": [{"properties": {"a": {"minimum": 50}}, "required": ["a"]}, {"properties": {"a": {"type": "integer"}}}]},
    {"allOf": [thing(a=WHOLE), {"properties": {"a": {"maximum": 9}, "b": TEXT}}]},
    {"allOf": [{"type": "number"}, {"type": "integer"}, {"multipleOf": 4}, {"multipleOf": 6}]},
    {"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["c", "d", "b"]}, {"not": {"const": "b"}}]},
    {"not": TEXT, "type": ["string", "boolean"]},
    {
        "if": {"properties": {"a": {"const": 1}}},
        "then": {"required": ["b"]},
        **thing(a={"type": "integer", "maximum": 1}),
        "additionalProperties": TEXT,
    },
    {"type": "string", "minLength": 300},
    {"type": "string", "maxLength": 2},
    {"type": "string", "maxLength": 0},
    {"type": "string", "pattern": r"^\d{3}-[A-Z]{2,4}(foo|bar)?[^a-z]\s\S\W$"},
    {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
    {"type": "string", "pattern": r"^(ab|c)\1.(?>x)[\w-]+?$", "minLength": 30},
    {"type": ["null", "integer"], "minimum": 100, "multipleOf": 7},
    {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": 7.1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "integer", "exclusiveMinimum": -9, "exclusiveMaximum": -7},
    {"type": "integer", "minimum": 2**62},
    {"enum": [None, 3, "x", {"a": [1]}]},
    {"const": {"a": [True, 1.5]}},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "items": thing(a=TEXT, b=WHOLE), "minItems": 5, "uniqueItems": True},
    {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 4, "uniqueItems": True},
    {"type": "array", "items": {"type": "string", "pattern": "^[A-Z]{3}$"}, "minItems": 4, "uniqueItems": True},
    {"type": "array", "prefixItems": [WHOLE, TEXT], "items": False, "minItems": 2},
    {"type": "array", "maxItems": 0},
    {"type": "array", "items": False},
    {"type": "object", "additionalProperties": WHOLE},
    {"type": "object", "minProperties": 3, "properties": {"a": TEXT}},
    {"type": "object", "maxProperties": 2, "properties": {"a": TEXT, "b": TEXT, "c": TEXT}, "required": ["c"]},
    {"type": "object", "required": ["a", "b"]},
    {"type": "object", "properties": {"a": False, "b": TEXT}},
    *({"type": "string", "format": name} for name in ("date", "date-time", "time", "email", "uuid", "ipv4", "ipv6")),
    {"type": "string", "format": "of-tomorrow"},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_value_fits_the_schema(schema):
    for turn in range(3):
        made(schema, turn=turn)
    made(schema, question="")
    made(schema, sparing=True)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_same_schema_and_question_make_the_same_value(schema):
    assert made(schema) == made(schema)


def test_fields_are_filled_with_what_the_question_offers_in_order():
    schema = thing(name=TEXT, place=TEXT, count=WHOLE, weight=NUMBER, more=TEXT)

    assert made(schema) == {"name": "purr", "place": "San Francisco, CA", "count": 12, "weight": 4.5, "more": "cats"}


def test_what_the_question_offers_must_fit_its_field():
    assert made(thing(count={"type": "integer", "maximum": 10}, name={"type": "string", "enum": ["dogs", "cats"]})) == {
        "count": 1,
        "name": "cats",
    }


def test_defaults_and_examples_are_taken_when_the_question_offers_nothing():
    schema = thing(a={"type": "integer", "default": 7}, b={"type": "string", "examples": ["seven"]})

    assert made(schema, question="so?") == {"a": 7, "b": "seven"}


def test_fields_that_must_be_there_choose_first():
    schema = {"properties": {"more": TEXT, "name": TEXT, "place": TEXT}, "required": ["name", "place"]}

    assert made(schema) == {"more": "cats", "name": "purr", "place": "San Francisco, CA"}


def test_a_default_that_does_not_fit_is_not_taken():
    assert made({"type": "integer", "default": None}, question="") == 1


def test_a_nullable_field_is_filled():
    assert made(thing(a={"anyOf": [{"type": "null"}, TEXT]}, b={"type": ["null", "string"]})) == {
        "a": "purr",
        "b": "San Francisco, CA",
    }


def test_a_schema_that_contains_itself_is_followed_once():
    value = made({"$ref": "#/$defs/Node", "$defs": {"Node": NODE}})

    assert value["next"]["next"] is None
    assert value["children"][0]["children"] == []


REFUSED = [
    False,
    None,
    "text",
    [],
    {"$ref": "#"},
    {"$ref": "#/nowhere"},
    {"$ref": "https://example.com/schema"},
    {"$ref": 3},
    {"type": 3},
    {"type": "text"},
    {"enum": []},
    {"enum": 3},
    {"properties": {"a": 3}},
    {"type": "integer", "minimum": 5, "maximum": 3},
    {"type": "string", "pattern": "("},
    {"type": "string", "pattern": "^(?=.*[A-Z]).{8}$"},
    {"type": "string", "minLength": 10**12},
    {"type": "array", "minItems": 10**9},
    {"type": "array", "items": {"type": "null"}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "items": WHOLE, "minItems": 5000, "uniqueItems": True},
    {"type": "object", "minProperties": 10**9},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
    {"allOf": [{"const": 1}, {"const": 2}]},
    {"allOf": [TEXT, WHOLE]},
    {"anyOf": [{"anyOf": [False] * 300}] * 300},
    {"type": "string", "pattern": "(a{1000}){1000}{50}"},
    {"minimum": 1e308, "exclusiveMinimum": 1e308},
    {
        "$ref": "#/$defs/0",
        "$defs": {str(n): thing(a={"$ref": f"#/$defs/{n + 1}"}, b={"$ref": f"#/$defs/{n + 1}"}) for n in range(50)}
        | {"50": {}},
    },
]


@pytest.mark.parametrize("schema", REFUSED)
def test_a_schema_that_no_value_fits_is_refused_soon(schema):
    start = time.monotonic()

    with pytest.raises(ProviderFault) as refused:
        instance(schema, Facts(QUESTION), Effort())

    assert refused.value.status == 400
    assert time.monotonic() - start < 5


def test_a_schema_that_is_nested_too_deeply_is_refused():
    schema = TEXT
    for _ in range(900):
        schema = {"properties": {"a": schema}}

    with pytest.raises(ProviderFault):
        instance(schema, Facts(QUESTION), Effort())


def test_an_expression_is_never_run_on_the_question():
    start = time.monotonic()

    instance({"type": "string", "pattern": "^(a+)+$"}, Facts("a" * 60 + "!"), Effort())

    assert time.monotonic() - start < 5


def bounds(low, high, numbers):
    return st.tuples(numbers, numbers).map(lambda pair: {low: min(pair), high: max(pair)})


leaves = st.one_of(
    st.sampled_from([TEXT, WHOLE, NUMBER, {"type": "boolean"}, {"type": "null"}, {}, True]),
    bounds("minimum", "maximum", st.integers(-(2**40), 2**40)).map(lambda rest: {"type": "integer", **rest}),
    bounds("minimum", "maximum", st.floats(-1e6, 1e6)).map(lambda rest: {"type": "number", **rest}),
    bounds("minLength", "maxLength", st.integers(0, 40)).map(lambda rest: {"type": "string", **rest}),
    st.lists(st.one_of(st.integers(), st.text(), st.none(), st.booleans()), min_size=1).map(
        lambda all_: {"enum": all_}
    ),
    st.sampled_from(["date", "uuid", "ipv4", "email"]).map(lambda name: {"type": "string", "format": name}),
    st.from_regex(r"\A(\[[a-z]-?\]|\\d|[A-Z]|\(x\|y\))(\{[1-3]\}|\+|\?)?\Z").map(
        lambda pattern: {"type": "string", "pattern": f"^{pattern}$"}
    ),
)


def composed(inner):
    names = st.text(min_size=1, max_size=4)
    properties = st.dictionaries(names, inner, max_size=4)
    return st.one_of(
        properties.map(lambda all_: {"type": "object", "properties": all_}),
        properties.map(lambda all_: thing(**all_)),
        st.tuples(inner, bounds("minItems", "maxItems", st.integers(0, 4))).map(
            lambda pair: {"type": "array", "items": pair[0], **pair[1]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda all_: {"anyOf": all_}),
        inner.map(lambda one: {"allOf": [one]}),
        inner.map(lambda one: {"type": "object", "additionalProperties": one, "minProperties": 1}),
    )


@given(st.recursive(leaves, composed, max_leaves=12), st.text(), st.integers(0, 3), st.booleans())
@settings(max_examples=150)
def test_any_schema_that_can_be_met_is_met(schema, question, turn, sparing):
    made(schema, question, turn, sparing=sparing)


KEYWORDS = """
a type properties required additionalProperties minProperties items prefixItems minItems uniqueItems enum const minimum
multipleOf minLength pattern format default examples anyOf oneOf allOf not if then else $ref
"""
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYWORDS.split()), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(json_values)
@settings(max_examples=150)
def test_any_nonsense_ends_in_a_value_or_a_refusal(schema):
    with contextlib.suppress(ProviderFault):
        instance(schema, Facts(QUESTION), Effort())
