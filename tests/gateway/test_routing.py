"""Which route a model name stands for, and in which order its targets are asked."""

from collections import Counter
from random import Random

import pytest

from ai_proxy.core.catalog import ModelSettings
from ai_proxy.core.exceptions import BadRequest, ModelNotFound, ModelNotPriced
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import UpstreamOverloaded
from ai_proxy.gateway.routing import Names, Router


class Provider:
    is_mock = False
    dialects = frozenset({"chat"})

    def __init__(self, name: str, default_model: str = "") -> None:
        self.name = name
        self.default_model = default_model


def router(
    providers=("openai", "openrouter"), models=None, *, keys=None, limits=None, prices=None, priced_only=False, **names
):
    keys = keys or {}
    return Router(
        {name: [Provider(name, f"{name}-default") for _ in range(keys.get(name, 1))] for name in providers},
        {name: ModelSettings(**settings) for name, settings in (models or {}).items()},
        limits=limits or {},
        names=Names(**names),
        prices=prices,
        priced_only=priced_only,
    )


def labels(route, random=None, now=0.0, *, stream=False):
    return [target.label for target in route.order(random or Random(0), now, stream=stream)]


def goes_to(router, model):
    (target,) = router.route(model).targets
    return f"{target.provider.name}: {target.model}"


# Names


NAMES = {
    "known": {"local": frozenset({"llama", "gpt-oss", "acme/tiny"})}.get,
    "prefixes": {"openai": ["gpt-", "o3"], "cerebras": ["gpt-oss-"], "anthropic": ["claude-"]},
    "vendored": frozenset({"openrouter"}),
    "whole": frozenset({"groq/compound"}),
}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-4o", "openai: gpt-4o"),
        ("openrouter/openai/gpt-4o", "openrouter: openai/gpt-4o"),
        ("openrouter/auto", "openrouter: openrouter/auto"),
        ("openrouter/openrouter/auto", "openrouter: openrouter/auto"),
        ("groq/compound", "groq: groq/compound"),
        ("groq/groq/compound", "groq: groq/compound"),
        ("groq/llama-3", "groq: llama-3"),
        ("openai/gpt-4o/", "openai: gpt-4o/"),
        ("llama", "local: llama"),
        ("gpt-oss", "local: gpt-oss"),
        ("acme/tiny", "local: acme/tiny"),
        ("gpt-4o", "openai: gpt-4o"),
        ("gpt-oss-120b", "cerebras: gpt-oss-120b"),
        ("claude-haiku", "groq: claude-haiku"),  # anthropic is not set up
        ("mistralai/mistral", "openrouter: mistralai/mistral"),
        ("anything", "groq: anything"),
        (None, "groq: groq-default"),
        ("", "groq: groq-default"),
    ],
)
def test_a_name_leads_to_a_provider(model, expected):
    routes = router(("groq", "openai", "openrouter", "local", "cerebras"), **NAMES)

    assert goes_to(routes, model) == expected


def test_a_configured_name_comes_first():
    routes = router(models={"gpt-4o": {"targets": ["openrouter/a/b"], "aliases": ["openai/gpt-4o"]}}, **NAMES)

    assert goes_to(routes, "gpt-4o") == "openrouter: a/b"
    assert goes_to(routes, "openai/gpt-4o") == "openrouter: a/b"


def test_the_default_model_is_a_name_like_any_other():
    routes = router(models={"smart": {"targets": ["openrouter/a/b"]}}, default="smart")

    assert goes_to(routes, None) == "openrouter: a/b"


def test_without_any_default_model_one_must_be_named():
    routes = Router({"azure": [Provider("azure")]}, {}, limits={}, names=Names())

    with pytest.raises(BadRequest) as caught:
        routes.route(None)

    assert caught.value.param == "model"


def test_a_name_with_a_slash_goes_to_the_first_provider_when_there_is_no_openrouter():
    assert goes_to(router(("openai",)), "a/b") == "openai: a/b"


def test_the_list_of_a_provider_may_change_at_any_time():
    lists = {}
    routes = router(("openai", "local"), known=lists.get)
    before = goes_to(routes, "llama")

    lists["local"] = frozenset({"llama"})

    assert (before, goes_to(routes, "llama")) == ("openai: llama", "local: llama")


@pytest.mark.parametrize("model", ["nothing", "local/nothing", "local/", "a/b"])
def test_a_model_that_certainly_does_not_exist_is_not_asked_for(model):
    routes = router(("local",), known={"local": frozenset({"llama"})}.get, complete=frozenset({"local"}))

    with pytest.raises(ModelNotFound) as caught:
        routes.route(model)

    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    assert f"The model '{model}' does not exist" in caught.value.message


def test_a_provider_with_a_complete_list_is_passed_over_for_other_names():
    routes = router(("local", "openrouter"), known={"local": frozenset({"llama"})}.get, complete=frozenset({"local"}))

    assert goes_to(routes, "llama") == "local: llama"
    assert goes_to(routes, "a/b") == "openrouter: a/b"
    with pytest.raises(ModelNotFound):
        routes.route("b")


def test_the_rule_is_told():
    routes = router(models={"smart": {"targets": ["openai/gpt-4o"], "aliases": ["clever"]}}, **NAMES)

    rules = {model: routes.explain(model).rule for model in ("smart", "clever", "openai/x", "gpt-5", "a/b", "x", None)}

    assert rules == {
        "smart": "configured",
        "clever": "an alias of smart",
        "openai/x": "it names its provider",
        "gpt-5": "it begins with gpt-",
        "a/b": "names with a slash go to openrouter",
        "x": "what is left goes to the first provider",
        None: "the default model of openai",
    }


def test_routes_of_invented_names_do_not_fill_the_memory():
    routes = router()
    first = routes.route("model-0")
    for number in range(1, 5000):
        routes.route(f"model-{number}")

    assert len(routes._learned) == 2048
    assert routes.route("model-4999") is routes.route("model-4999")
    assert routes.route("model-0") is not first


def test_targets_share_their_health_across_routes_and_not_across_keys():
    models = {"a": {"targets": ["openai/gpt-4o"]}, "b": {"targets": ["openrouter/x", "openai/gpt-4o"]}}
    routes = router(models=models, keys={"openai": 2})

    a, b, plain = (routes.route(name).targets for name in ("a", "b", "openai/gpt-4o"))

    assert [target.label for target in a] == ["openai/gpt-4o", "openai/gpt-4o#2"]
    assert a[0].health is b[1].health is plain[0].health
    assert a[1].health is b[2].health is plain[1].health
    assert a[0].health is not a[1].health


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": {"targets": ["nobody/x"]}}, "models.a: no provider 'nobody' is set up"),
        (
            {"a": {"targets": ["openai/x"]}, "b": {"targets": ["openai/y"], "aliases": ["a"]}},
            "models: two have the name 'a'",
        ),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(models, message):
    with pytest.raises(ValueError, match=message):
        router(models=models)


# Bounds


def test_a_target_has_the_limits_of_its_provider_but_for_its_own():
    models = {"a": {"targets": [{"provider": "openai", "model": "x", "idle_timeout": 3}], "total_timeout": 20}}
    routes = router(models=models, limits={"openai": Bounds(1, 2, 30, 40, 5000)})

    (configured,) = routes.route("a").targets
    (plain,) = routes.route("openai/x").targets

    assert configured.limits == Bounds(connect=1, first_byte=2, idle=3, total=20, max_bytes=5000)
    assert plain.limits == Bounds(1, 2, 30, 40, 5000)
    assert (routes.route("a").total_timeout, routes.route("openai/x").total_timeout) == (20, 40)


def test_a_call_has_the_time_of_its_most_patient_target_unless_its_table_says_otherwise():
    targets = ["openai/x", {"provider": "openai", "model": "y", "total_timeout": 1800}]
    routes = router(models={"a": {"targets": targets}}, limits={"openai": Bounds(total=900)})

    route = routes.route("a")

    assert [target.limits.total for target in route.targets] == [900, 1800]
    assert route.total_timeout == 1800


# Strategies


THREE = ["openai/a", "openai/b", "openrouter/c/d"]


def test_in_order():
    route = router(models={"m": {"targets": THREE}}).route("m")

    assert [labels(route) for _ in range(3)] == [THREE] * 3


def test_the_keys_of_a_provider_take_turns():
    route = router(models={"m": {"targets": ["openai/a", "openrouter/c"]}}, keys={"openai": 2}).route("m")

    orders = [labels(route) for _ in range(4)]

    assert {order[0] for order in orders} == {"openai/a", "openai/a#2"}
    assert [order[0] for order in orders] == [order[0] for order in orders[2:] + orders[:2]]
    assert all(order[2] == "openrouter/c" for order in orders)


def test_weights_are_shares():
    targets = [
        {"provider": "openai", "model": "a", "weight": 7},
        {"provider": "openai", "model": "b", "weight": 2},
        {"provider": "openai", "model": "c", "weight": 1},
    ]
    route = router(models={"m": {"targets": targets, "strategy": "weighted"}}).route("m")
    random = Random(1)

    orders = [labels(route, random) for _ in range(10_000)]

    first = Counter(order[0] for order in orders)
    second = Counter(order[1] for order in orders if order[0] == "openai/a")
    assert first["openai/a"] == pytest.approx(7000, rel=0.05)
    assert first["openai/b"] == pytest.approx(2000, rel=0.1)
    assert second["openai/b"] / second["openai/c"] == pytest.approx(2, rel=0.1)
    assert all(len(set(order)) == 3 for order in orders)


def test_the_keys_of_a_provider_share_its_weight():
    models = {"m": {"targets": ["openai/a", "openrouter/c"], "strategy": "weighted"}}
    route = router(models=models, keys={"openai": 3}).route("m")
    random = Random(2)

    first = Counter(labels(route, random)[0] for _ in range(9000))

    assert first["openrouter/c"] == pytest.approx(4500, rel=0.05)


def test_the_cheapest_comes_first_and_the_unpriced_last():
    targets = ["openai/nobody-knows", "openai/gpt-4o-mini", {"provider": "openrouter", "model": "own", "price": PRICE}]

    route = router(models={"m": {"targets": targets, "strategy": "least-cost"}}).route("m")

    assert labels(route) == ["openai/gpt-4o-mini", "openrouter/own", "openai/nobody-knows"]


PRICE = {"input": 1, "output": 4}


def test_who_refuses_what_has_no_price_has_targets_passed_over():
    targets = ["openai/nobody-knows", "openai/gpt-4o-mini"]

    route = router(models={"m": {"targets": targets}}, priced_only=True).route("m")

    assert labels(route) == ["openai/gpt-4o-mini"]


@pytest.mark.parametrize("name", ["m", "openai/nobody-knows"])
def test_who_refuses_what_has_no_price_refuses_a_model_without_any(name):
    route = router(models={"m": {"targets": ["openai/nobody-knows"]}}, priced_only=True).route(name)

    with pytest.raises(ModelNotPriced, match=r"can give it a price in \[prices\] of ai-proxy\.toml") as refused:
        labels(route)

    assert refused.value.status == 403


def test_models_without_a_price_are_served_unless_they_are_refused():
    assert labels(router().route("openai/nobody-knows")) == ["openai/nobody-knows"]


def answer(target, *, seconds, at, stream=False):
    target.health.succeeded(target.health.begin(at - seconds, stream=stream), at)


def test_the_quicker_of_two_is_asked_first():
    route = router(models={"m": {"targets": ["openai/a", "openai/b"], "strategy": "least-latency"}}).route("m")
    slow, quick = route.targets
    answer(slow, seconds=2, at=10)
    answer(quick, seconds=1, at=10)

    assert labels(route, now=10) == ["openai/b", "openai/a"]


def test_streams_and_whole_answers_are_measured_apart():
    route = router(models={"m": {"targets": ["openai/a", "openai/b"], "strategy": "least-latency"}}).route("m")
    a, b = route.targets
    for target, whole, first in ((a, 9, 0.1), (b, 5, 0.2)):
        answer(target, seconds=whole, at=10)
        answer(target, seconds=first, at=10, stream=True)

    assert labels(route, now=10)[0] == "openai/b"
    assert labels(route, now=10, stream=True)[0] == "openai/a"


def test_calls_under_way_count_as_latency():
    route = router(models={"m": {"targets": ["openai/a", "openai/b"], "strategy": "least-latency"}}).route("m")
    busy, idle = route.targets
    answer(busy, seconds=1, at=10)
    answer(idle, seconds=1.5, at=10)
    busy.health.begin(10, stream=False)

    assert labels(route, now=10)[0] == "openai/b"


def test_an_unknown_target_is_tried_by_one_call_at_a_time():
    route = router(models={"m": {"targets": ["openai/a", "openai/b"], "strategy": "least-latency"}}).route("m")
    known, unknown = route.targets
    answer(known, seconds=1, at=10)
    before = labels(route, now=10)[0]

    unknown.health.begin(10, stream=False)

    assert (before, labels(route, now=10)[0]) == ("openai/b", "openai/a")


def test_of_three_the_slowest_is_never_first_and_the_quickest_not_always():
    route = router(models={"m": {"targets": THREE, "strategy": "least-latency"}}).route("m")
    for seconds, target in enumerate(route.targets, start=1):
        answer(target, seconds=seconds, at=10)
    random = Random(3)

    first = Counter(labels(route, random, now=10)[0] for _ in range(3000))

    assert set(first) == {"openai/a", "openai/b"}
    assert first["openai/a"] == pytest.approx(2000, rel=0.1)


def test_a_target_that_is_out_of_order_is_not_drawn():
    route = router(models={"m": {"targets": THREE, "strategy": "least-latency"}}).route("m")
    full = route.targets[0].health
    full.failed(full.begin(0, stream=False), UpstreamOverloaded("openai", "full", retry_after=60), 0)
    random = Random(4)

    first = {labels(route, random, now=1)[0] for _ in range(50)}

    assert "openai/a" not in first


@pytest.mark.parametrize(
    ("model", "certain"),
    [
        (None, True),
        ("fast", True),
        ("quick", True),
        ("openai/gpt-4o", True),
        ("gpt-4o", True),  # a prefix
        ("llama", True),  # in a list
        ("mistral", False),
        ("meta/llama", False),
    ],
)
def test_a_route_is_certain_unless_a_list_that_is_to_come_may_change_it(model, certain):
    models = {"fast": {"targets": ["openai/x"], "aliases": ["quick"]}}

    routes = router(("openai", "openrouter", "local"), models, **NAMES)

    assert routes.is_certain(model) is certain


def test_a_model_that_nobody_is_known_to_have_may_be_in_a_list_that_is_to_come():
    routes = router(("openai", "local"), known={"openai": frozenset({"gpt-4o"})}.get, complete=frozenset({"openai"}))

    assert not routes.is_certain("llama")
    assert not router(("openai", "local"), default="llama").is_certain(None)
