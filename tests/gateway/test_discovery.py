"""The lists of models that providers have."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ai_proxy.core.catalog import ModelSettings
from ai_proxy.core.exceptions import ModelNotFound, PoolFull
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import UpstreamTimeout
from ai_proxy.gateway.discovery import Discovery, listing
from ai_proxy.gateway.routing import Names, Router

FAILURE = UpstreamTimeout("a", "did not answer", phase="total")


class Provider:
    """Has these lists in turn, the last one for ever. An error in place of a list is raised, None never answers."""

    is_mock = False
    default_model = ""
    dialects = frozenset({"chat"})

    def __init__(self, *lists) -> None:
        self.lists = list(lists)
        self.asked = 0
        self.limits: Bounds | None = None
        self.left = False

    async def models(self, limits):
        self.asked += 1
        self.limits = limits
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(found, Exception):
            raise found
        if found is None:
            try:
                await asyncio.Event().wait()
            finally:
                self.left = True
        return found


def discovery_of(providers, given, **options) -> Discovery:
    """Of providers with one key each."""
    return Discovery({name: [provider] for name, provider in providers.items()}, given, **options)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def router_of(discovery: Discovery, providers, models=None, **names) -> Router:
    return Router(
        {name: [provider] for name, provider in providers.items()},
        {name: ModelSettings(**settings) for name, settings in (models or {}).items()},
        limits={},
        names=Names(known=discovery.known, **names),
    )


def listed(lists, models=None) -> dict[str, str]:
    """What is listed, when providers have these lists."""
    providers = {name: Provider([]) for name in lists}
    discovery = discovery_of(providers, lists)
    return listing(router_of(discovery, providers, models), discovery)


# Lists.


@pytest.mark.anyio
async def test_nothing_is_known_until_a_provider_has_told():
    discovery = discovery_of({"a": Provider(["x"])}, {})

    before = discovery.known("a"), discovery.all()
    async with discovery:
        await until(lambda: discovery.known("a"))

    assert before == (None, [])
    assert discovery.known("a") == {"x"}


@pytest.mark.anyio
async def test_models_are_sorted_and_bounded():
    provider = Provider([f"{number:05}" for number in reversed(range(10_001))])

    async with discovery_of({"a": provider}, {}) as discovery:
        await until(lambda: discovery.known("a"))

    models = [model for _, model in discovery.all()]
    assert len(models) == 10_000
    assert models[:2] == ["00000", "00001"]


@pytest.mark.anyio
async def test_a_list_is_asked_for_again_after_a_while():
    provider = Provider(["x"], ["y"])

    async with discovery_of({"a": provider}, {}, interval=0.01) as discovery:
        await until(lambda: discovery.known("a") == {"y"})

    assert provider.asked >= 2


@pytest.mark.anyio
async def test_it_is_not_asked_for_before():
    provider = Provider(["x"], ["y"])

    async with discovery_of({"a": provider}, {}, interval=600) as discovery:
        await until(lambda: discovery.known("a"))
        await asyncio.sleep(0.05)

    assert (provider.asked, discovery.known("a")) == (1, {"x"})


@pytest.mark.anyio
@pytest.mark.parametrize("failure", [FAILURE, PoolFull("no place")])
async def test_the_last_good_list_stays_when_a_provider_fails(failure):
    provider = Provider(["x"], failure, failure)

    with capture_logs() as logs:
        async with discovery_of({"a": provider}, {}, interval=0.01) as discovery:
            await until(lambda: provider.asked >= 3)

    assert discovery.known("a") == {"x"}
    assert {(line["log_level"], line["provider"], line["error"]) for line in logs} == {("warning", "a", failure.code)}


@pytest.mark.anyio
async def test_a_provider_that_failed_is_asked_again():
    provider = Provider(FAILURE, ["x"])

    async with discovery_of({"a": provider}, {}, interval=0.01) as discovery:
        await until(lambda: discovery.known("a"))

    assert discovery.known("a") == {"x"}


@pytest.mark.anyio
async def test_a_provider_that_is_slow_holds_up_no_other():
    slow, quick = Provider(None), Provider(["x"])

    async with discovery_of({"slow": slow, "quick": quick}, {}) as discovery:
        await until(lambda: discovery.known("quick"))
        known = discovery.known("slow")

    assert known is None
    assert slow.left


@pytest.mark.anyio
async def test_each_question_has_a_deadline():
    provider = Provider(["x"])

    async with discovery_of({"a": provider}, {}) as discovery:
        await until(lambda: discovery.known("a"))

    assert provider.limits.total <= 20


@pytest.mark.anyio
async def test_a_list_that_the_operator_wrote_is_not_asked_for():
    written, live = Provider(["live"]), Provider(["x"])

    async with discovery_of({"a": written, "b": live}, {"a": ["z", "y"]}) as discovery:
        await until(lambda: discovery.known("b"))

    assert written.asked == 0
    assert discovery.all() == [("a", "z"), ("a", "y"), ("b", "x")]  # in the operator's order


@pytest.mark.anyio
async def test_an_empty_list_is_known_to_be_empty():
    provider = Provider([])

    async with discovery_of({"a": provider}, {}) as discovery:
        await until(lambda: discovery.known("a") is not None)

    assert discovery.known("a") == frozenset()


@pytest.mark.anyio
async def test_where_nobody_is_asked_nothing_runs():
    async with discovery_of({"a": Provider(["x"])}, {"a": ["y"]}):
        running = [task.get_name() for task in asyncio.all_tasks()]

    assert "discovery" not in running


# Keys.


@pytest.mark.anyio
@pytest.mark.parametrize("failure", [FAILURE, RuntimeError("a bug")])
async def test_a_key_that_is_dead_leaves_the_question_to_the_next_one(failure):
    dead, good, spare = Provider(failure), Provider(["x"]), Provider(["y"])

    async with Discovery({"a": [dead, good, spare]}, {}) as discovery:
        await until(lambda: discovery.known("a"))

    assert discovery.known("a") == {"x"}
    assert (dead.asked, good.asked, spare.asked) == (1, 1, 0)


@pytest.mark.anyio
async def test_one_line_is_logged_when_all_keys_are_dead():
    keys = [Provider(FAILURE), Provider(PoolFull("no place"))]

    with capture_logs() as logs:
        async with Discovery({"a": keys}, {}):
            await until(lambda: logs)

    assert [(line["log_level"], line["provider"], line["error"]) for line in logs] == [("warning", "a", "pool_full")]


# The first round.


@pytest.mark.anyio
async def test_who_waits_goes_on_when_each_provider_was_asked():
    failing, good = Provider(FAILURE), Provider(["x"])

    async with discovery_of({"a": failing, "b": good}, {}) as discovery:
        before = discovery.is_settled
        async with asyncio.timeout(2):
            await discovery.settled()

    assert (before, discovery.is_settled, discovery.known("b")) == (False, True, {"x"})


@pytest.mark.anyio
async def test_all_who_wait_for_a_slow_provider_do_so_together_and_not_for_long():
    loop = asyncio.get_running_loop()

    async with discovery_of({"a": Provider(None), "b": Provider(["x"])}, {}, patience=0.2) as discovery:
        began = loop.time()
        first = asyncio.create_task(discovery.settled())
        await asyncio.sleep(0.1)
        await asyncio.gather(first, discovery.settled())
        took = loop.time() - began

    assert 0.15 < took < 0.29
    assert discovery.is_settled


@pytest.mark.anyio
async def test_nobody_waits_when_it_is_over():
    async with discovery_of({"a": Provider(None), "b": Provider(["x"])}, {}, patience=60) as discovery:
        waiting = asyncio.create_task(discovery.settled())
        await asyncio.sleep(0.01)

    async with asyncio.timeout(1):
        await waiting


@pytest.mark.parametrize(
    ("providers", "given"), [({"a": Provider(["x"])}, {}), ({"a": Provider([]), "b": Provider([])}, {"a": [], "b": []})]
)
def test_where_lists_decide_nothing_nobody_waits(providers, given):
    assert discovery_of(providers, given).is_settled


def test_lists_that_were_there_before_are_not_waited_for():
    providers = {"a": Provider([]), "b": Provider([])}
    full, partial = (discovery_of(providers, {}) for _ in range(2))

    full.take_over(discovery_of(providers, {"a": ["x"], "b": ["y"]}))
    partial.take_over(discovery_of(providers, {"a": ["x"]}))

    assert (full.is_settled, partial.is_settled) == (True, False)


# Names.


def test_the_configured_names_come_first_with_their_aliases():
    models = {"fast": {"targets": ["a/x"], "aliases": ["quick"]}}

    assert list(listed({"a": ["w", "x"]}, models).items()) == [
        ("fast", "ai-proxy"),
        ("quick", "ai-proxy"),
        ("w", "a"),
        ("x", "a"),
    ]


def test_a_bare_name_is_the_first_providers_and_every_model_has_a_whole_one():
    assert listed({"a": ["x", "y"], "b": ["y", "z"]}) == {
        "x": "a",
        "y": "a",
        "z": "b",
        "a/x": "a",
        "a/y": "a",
        "b/y": "b",
        "b/z": "b",
    }


def test_the_only_provider_needs_no_prefix():
    assert listed({"a": ["vendor/x", "y"]}) == {"vendor/x": "a", "y": "a"}
    assert listed({"a": ["x"], "b": []}) == {"x": "a"}


def test_a_configured_name_hides_the_providers_model_of_that_name():
    models = {"x": {"targets": ["b/y"]}}

    assert listed({"a": ["x"], "b": ["y"]}, models) == {"x": "ai-proxy", "y": "b", "a/x": "a", "b/y": "b"}


def _unambiguous(lists: dict[str, list[str]]) -> bool:
    """No provider has both `x` and a model that is called as if it were its own `x`."""
    return not any(f"{name}/{model}" in models for name, models in lists.items() for model in models)


MODELS = st.lists(st.sampled_from(["x", "y", "a/x", "b/x", "vendor/x", "a"]), unique=True)
LISTS = st.dictionaries(st.sampled_from("abc"), MODELS, min_size=1).filter(_unambiguous)


@given(LISTS)
def test_every_name_that_is_listed_leads_to_its_owner(lists):
    names, targets = _listed_and_asked(lists)

    assert [target and target.provider.name for target in targets] == list(names.values())
    assert all(target.model in lists[target.provider.name] for target in targets)


@given(LISTS)
def test_every_model_can_be_asked_by_some_name(lists):
    _, targets = _listed_and_asked(lists)

    asked = {(target.provider.name, target.model) for target in targets if target}
    assert asked == {(name, model) for name, models in lists.items() for model in models}


def _listed_and_asked(lists):
    """The names that are listed, and where each of them leads."""
    providers = {name: Provider([]) for name in lists}
    for name, provider in providers.items():
        provider.name = name
    discovery = discovery_of(providers, lists)
    router = router_of(discovery, providers, complete=frozenset(lists))
    names = listing(router, discovery)
    return names, [_target(router, name) for name in names]


def _target(router: Router, name: str):
    try:
        return router.route(name).targets[0]
    except ModelNotFound:
        return None
