"""How a call survives the failures of targets."""

import asyncio
from collections import Counter
from contextlib import aclosing, suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ai_proxy.core.catalog import ModelSettings
from ai_proxy.core.exceptions import BadRequest, GatewayError, PoolFull
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import (
    BadUpstreamResponse,
    ContentFiltered,
    ContextLengthExceeded,
    ProviderAuth,
    ProviderQuota,
    StreamTruncated,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from ai_proxy.dialects.chat import Chunk, Completion
from ai_proxy.gateway.attempts import Attempts
from ai_proxy.gateway.course import NotOffered, Own, Runtime
from ai_proxy.gateway.routing import Names, Router

pytestmark = pytest.mark.anyio

EMPTY, HELLO, END = (
    Chunk(b"{}"),
    Chunk(b"hello", "hello", content=True),
    Chunk(b"end", finish_reason="stop", content=True),
)


class Provider:
    is_mock = False
    default_model = ""
    dialects = frozenset({"chat"})

    def __init__(self, name: str) -> None:
        self.name = name


class Time:
    """A clock that goes only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class World:
    """Providers a, b, c, … whose models do what they are told to, one thing a try and the last one for ever.

    A thing is an error to raise, a number of seconds that go by before the next thing, or None: a good answer. In a
    stream it may be a chunk.
    """

    def __init__(
        self, models: dict, *, keys: int = 1, limits: Bounds | None = None, seed: int = 1, names: Names | None = None
    ) -> None:
        providers = sorted({target.partition("/")[0] for model in models.values() for target in model["targets"]})
        self.time = Time()
        self.runtime = Runtime(self.time.clock, self.time.sleep, Random(seed))
        self.router = Router(
            {name: [Provider(name) for _ in range(keys)] for name in providers},
            {name: ModelSettings(**model) for name, model in models.items()},
            limits=dict.fromkeys(providers, limits or Bounds()),
            names=names or Names(),
        )
        self.attempts = Attempts(self.runtime)
        self.does: dict[str, list] = {}
        self.answers: dict[str, Completion | Exception] = {}
        self.asked: list[str] = []
        self.limits: list[Bounds] = []
        self.closed: list[str] = []
        self.log: list = []
        self.answered_by: list[str] = []

    @property
    def noted(self) -> list[str]:
        return [f"{attempt.provider}/{attempt.model}: {attempt.outcome}" for attempt in self.log]

    def _begin(self, target, limits):
        self.asked.append(target.label)
        self.limits.append(limits)
        script = self.does.get(target.label, [[None]])
        things = script.pop(0) if len(script) > 1 else script[0]
        return things if isinstance(things, list) else [things]

    async def ask(self, target, limits):
        for thing in self._begin(target, limits):
            if isinstance(thing, BaseException):
                raise thing
            if thing is not None:
                self.time.now += thing
        answer = self.answers.get(target.label)
        if isinstance(answer, BaseException):
            raise answer
        return answer or Completion(target.label.encode(), "", "stop", None)

    async def open(self, target, limits):
        try:
            for thing in self._begin(target, limits):
                if isinstance(thing, BaseException):
                    raise thing
                if isinstance(thing, Chunk):
                    yield thing
                elif thing is None:
                    yield EMPTY
                    yield HELLO
                    yield END
                else:
                    self.time.now += thing
        finally:
            self.closed.append(target.label)

    async def complete(self, model: str = "m") -> str:
        _, completion = await self.attempts.complete(self.router.route(model), self.ask, self.log)
        return completion.body.decode()

    def stream(self, model: str = "m"):
        def answered_by(target):
            self.answered_by.append(target.label)

        return aclosing(self.attempts.stream(self.router.route(model), self.open, self.log, answered_by))

    async def streamed(self, model: str = "m") -> list[Chunk]:
        async with self.stream(model) as chunks:
            return [chunk async for chunk in chunks]

    def learn(self, label: str, *, seconds: float, times: int = 64, stream: bool = False) -> None:
        """Let a target have answered before."""
        for route in self.router.configured.values():
            for target in route.targets:
                if target.label == label:
                    for _ in range(times):
                        this = target.health.begin(self.time.now - seconds, stream=stream)
                        target.health.succeeded(this, self.time.now)
                    return


def world(*targets: str, hedge: bool = False, keys: int = 1, limits: Bounds | None = None, **options) -> World:
    return World({"m": {"targets": targets, "hedge": hedge, **options}}, keys=keys, limits=limits)


async def whole(scene: World) -> str:
    return await scene.complete()


async def streamed(scene: World) -> str:
    async with scene.stream() as chunks:
        async for _ in chunks:
            pass
    return scene.answered_by[-1]


WAYS = pytest.mark.parametrize("way", [whole, streamed])


def broken(status: int | None = 500) -> UpstreamError:
    return BadUpstreamResponse("a", "broke", upstream_status=status)


def limited(wait: float | None = None) -> UpstreamError:
    return UpstreamRateLimited("a", "slow down", upstream_status=429, retry_after=wait)


def overloaded(wait: float | None = None, status: int = 503) -> UpstreamError:
    return UpstreamOverloaded("a", "full", upstream_status=status, retry_after=wait)


def rejected(status: int = 400) -> UpstreamError:
    return UpstreamRejected("a", "no", upstream_status=status)


TOO_LONG = ContextLengthExceeded("a", "too long", upstream_status=400)
FILTERED = ContentFiltered("a", "no such talk", upstream_status=400)
BAD_KEY = ProviderAuth("a", "bad key", upstream_status=401)
NO_QUOTA = ProviderQuota("a", "no money", upstream_status=429)
UNREACHABLE = UpstreamUnreachable("a", "refused the connection", connected=False)
CLOSED = UpstreamUnreachable("a", "closed the connection early")
TIMEOUT = UpstreamTimeout("a", "slow", phase="first_byte")
TRUNCATED = StreamTruncated("a", "broke off")


# One target


async def test_a_good_target_is_asked_once_with_its_own_limits():
    scene = world("a/x", limits=Bounds(total=50))

    assert await scene.complete() == "a/x"
    assert scene.noted == ["a/x: completed"]
    assert scene.limits == [Bounds(total=50)]
    assert scene.time.slept == []


@pytest.mark.parametrize(
    "error", [broken(500), broken(502), overloaded(), overloaded(status=529), limited(), UNREACHABLE], ids=repr
)
async def test_after_a_refusal_the_same_target_is_asked_again(error):
    scene = world("a/x")
    scene.does["a/x"] = [error, None]

    assert await scene.complete() == "a/x"
    assert scene.noted == [f"a/x: {error.code}", "a/x: completed"]
    assert scene.log[0].status == error.upstream_status


@pytest.mark.parametrize("error", [TIMEOUT, CLOSED, TRUNCATED, broken(None), broken(504), broken(200)], ids=repr)
async def test_what_may_have_been_acted_on_is_not_asked_again(error):
    scene = world("a/x")
    scene.does["a/x"] = [error, None]

    with pytest.raises(type(error)):
        await scene.complete()

    assert scene.asked == ["a/x"]


@pytest.mark.parametrize(
    "error", [rejected(), rejected(404), rejected(413), rejected(422), TOO_LONG, FILTERED, BAD_KEY, NO_QUOTA], ids=repr
)
async def test_what_will_not_pass_is_not_asked_again(error):
    scene = world("a/x")
    scene.does["a/x"] = [error, None]

    with pytest.raises(type(error)) as caught:
        await scene.complete()

    assert caught.value is error
    assert scene.asked == ["a/x"]


async def test_a_target_is_asked_no_more_often_than_its_retries_say():
    scene = world("a/x", retries=2, max_attempts=9)
    scene.does["a/x"] = [broken()]

    with pytest.raises(BadUpstreamResponse):
        await scene.complete()

    assert scene.asked == ["a/x"] * 3


async def test_a_call_is_tried_no_more_often_than_its_route_says():
    scene = world("a/x", "b/x", retries=10, max_attempts=3)
    scene.does = {"a/x": [broken()], "b/x": [broken()]}

    with pytest.raises(BadUpstreamResponse):
        await scene.complete()

    assert len(scene.asked) == 3


async def test_the_wait_between_tries_is_drawn_by_lot_and_grows():
    longest = [0.0] * 4
    for seed in range(300):
        scene = World({"m": {"targets": ["a/x"], "retries": 4, "max_attempts": 9}}, seed=seed)
        scene.does["a/x"] = [broken()]
        with pytest.raises(BadUpstreamResponse):
            await scene.complete()
        longest = [max(pair) for pair in zip(longest, scene.time.slept, strict=True)]

    assert longest == pytest.approx([0.5, 1.0, 2.0, 4.0], rel=0.05)
    assert all(wait <= bound for wait, bound in zip(longest, [0.5, 1.0, 2.0, 4.0], strict=True))


async def test_a_retry_after_that_fits_is_waited_for():
    scene = world("a/x")
    scene.does["a/x"] = [limited(7), None]

    assert await scene.complete() == "a/x"
    assert 7 <= sum(scene.time.slept) <= 7.5


@pytest.mark.parametrize(("wait", "total"), [(31, 600), (86_400, 600), (7, 7)])
async def test_a_retry_after_that_does_not_fit_is_handed_to_the_client(wait, total):
    scene = world("a/x", total_timeout=total)
    scene.does["a/x"] = [limited(wait), None]

    with pytest.raises(UpstreamRateLimited) as caught:
        await scene.complete()

    assert caught.value.retry_after == wait
    assert (scene.asked, scene.time.slept) == (["a/x"], [])


async def test_later_calls_keep_a_retry_after_too():
    scene = world("a/x")
    scene.does["a/x"] = [limited(100), None]
    with pytest.raises(UpstreamRateLimited):
        await scene.complete()

    scene.time.now += 40
    with pytest.raises(UpstreamRateLimited) as caught:
        await scene.complete()
    scene.time.now += 40
    answer = await scene.complete()

    assert (caught.value.status, caught.value.retry_after) == (429, 60)
    assert answer == "a/x"
    assert len(scene.asked) == 2
    assert 20 <= sum(scene.time.slept) <= 20.5


async def test_the_time_of_a_call_is_that_of_all_its_tries():
    scene = world("a/x", "b/x", "c/x", total_timeout=100, limits=Bounds(first_byte=60, idle=50, total=60))
    scene.does = {"a/x": [[60, TIMEOUT]], "b/x": [[39.9, TIMEOUT]], "c/x": [None]}

    assert await scene.complete() == "c/x"

    assert scene.limits[0] == Bounds(first_byte=60, idle=50, total=60)
    assert scene.limits[1] == Bounds(first_byte=40, idle=40, total=40)
    assert scene.limits[2].total == pytest.approx(0.1)


async def test_no_try_is_begun_when_the_time_is_over():
    scene = world("a/x", "b/x", total_timeout=60)
    scene.does["a/x"] = [[60, TIMEOUT]]

    with pytest.raises(UpstreamTimeout):
        await scene.complete()

    assert scene.asked == ["a/x"]


async def test_even_the_shortest_time_is_enough_for_one_try():
    scene = world("a/x", total_timeout=0.001)

    assert await scene.complete() == "a/x"


async def test_one_call_in_two_failing_stays_one_in_two():
    scene = world("a/x", retries=0)
    scene.does["a/x"] = [error for _ in range(100) for error in (*[broken()] * 5, *[None] * 5)]

    failed = 0
    for _ in range(900):
        scene.time.now += 0.01
        try:
            await scene.complete()
        except BadUpstreamResponse:
            failed += 1

    assert failed == 450


async def test_a_provider_that_is_down_is_not_stormed():
    scene = world("a/x", retries=3)
    scene.does["a/x"] = [broken()]

    for _ in range(100):
        with pytest.raises(BadUpstreamResponse):
            await scene.complete()
        scene.time.now += 0.3

    assert len(scene.asked) < 120


# Several targets


@pytest.mark.parametrize(
    "error",
    [
        broken(),
        broken(504),
        broken(None),
        overloaded(),
        overloaded(30),
        limited(),
        limited(5),
        TIMEOUT,
        UNREACHABLE,
        CLOSED,
        TRUNCATED,
        BAD_KEY,
        NO_QUOTA,
        rejected(404),
        PoolFull("full"),
        BadRequest("cannot be said there"),
    ],
    ids=repr,
)
async def test_the_next_target_is_asked_at_once(error):
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [error]

    assert await scene.complete() == "b/x"
    assert scene.noted == [f"a/x: {error.code}", "b/x: completed"]
    assert scene.time.slept == []


@pytest.mark.parametrize("status", [405, 410, 451])
async def test_what_a_provider_has_not_where_it_is_another_may_have(status):
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [rejected(status)]

    assert await scene.complete() == "b/x"


async def test_a_refusal_of_any_other_kind_is_no_fault_of_the_provider():
    scene = world("a/x")
    scene.does["a/x"] = [rejected(431)]

    for _ in range(20):
        with pytest.raises(UpstreamRejected):
            await scene.complete()

    (target,) = scene.router.route("m").targets
    assert target.health.state(scene.time.now) == "closed"


@WAYS
async def test_a_target_that_cannot_take_the_call_is_passed_over_and_was_never_asked(way):
    scene = world("a/x", "b/x", max_attempts=1)
    scene.does["a/x"] = [NotOffered("a", "embeddings")]

    assert await way(scene) == "b/x"
    assert scene.noted == ["b/x: completed"]


@WAYS
async def test_when_no_target_can_take_the_call_the_client_is_told_that_it_is_not_offered(way):
    scene = world("a/x", "b/x")
    for name in "ab":
        scene.does[f"{name}/x"] = [NotOffered(name, "embeddings")]

    with pytest.raises(NotOffered) as caught:
        await way(scene)

    assert caught.value.status == 404
    assert caught.value.message.startswith("b: does not offer embeddings: ")
    assert scene.noted == []
    assert scene.time.slept == []


async def test_what_went_wrong_elsewhere_counts_for_more_than_what_is_not_offered():
    scene = world("a/x", "b/x", retries=0)
    scene.does["a/x"] = [broken()]
    scene.does["b/x"] = [NotOffered("b", "embeddings")]

    with pytest.raises(BadUpstreamResponse):
        await scene.complete()

    assert scene.noted == ["a/x: bad_upstream_response"]


@pytest.mark.parametrize("outcome", [NotOffered("a", "embeddings"), Own(b"a/x", "", "stop", None)], ids=["no", "own"])
async def test_a_call_that_asks_nobody_says_nothing_about_health(outcome):
    scene = world("a/x")
    (target,) = scene.router.route("m").targets
    for _ in range(5):
        target.health.failed(target.health.begin(scene.time.now, stream=False), broken(), scene.time.now)
    scene.time.now += 5

    scene.answers["a/x"] = outcome
    with suppress(NotOffered):
        await scene.complete()

    assert target.health.state(scene.time.now) == "half-open"
    assert target.health.ready(scene.time.now)
    assert target.health.running == 0
    assert target.health.latency(stream=False).peak(scene.time.now) == 0
    assert scene.noted == []


async def test_a_pool_that_is_full_is_not_waited_for_with_each_key():
    scene = world("a/x", "a/y", "b/x", keys=3, max_attempts=10)
    for label in ("a/x", "a/x#2", "a/x#3", "a/y", "a/y#2", "a/y#3"):
        scene.does[label] = [PoolFull("full")]

    assert (await scene.complete()).startswith("b/x")
    assert len(scene.asked) == 2


async def test_a_pool_that_is_full_is_told_when_there_is_no_other_provider():
    scene = world("a/x", keys=3)
    for label in ("a/x", "a/x#2", "a/x#3"):
        scene.does[label] = [PoolFull("full")]

    with pytest.raises(PoolFull):
        await scene.complete()

    assert len(scene.asked) == 1


@pytest.mark.parametrize("error", [rejected(), rejected(413), rejected(422), TOO_LONG, FILTERED], ids=repr)
async def test_what_the_caller_did_wrong_no_target_can_mend(error):
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [error]

    with pytest.raises(type(error)):
        await scene.complete()

    assert scene.asked == ["a/x"]


async def test_a_bug_of_ours_is_not_tried_again():
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [ZeroDivisionError()]

    with pytest.raises(ZeroDivisionError):
        await scene.complete()

    assert scene.noted == ["a/x: internal_error"]


async def test_other_targets_come_before_second_tries():
    scene = world("a/x", "b/x")
    scene.does = {"a/x": [broken(), None], "b/x": [TIMEOUT]}

    assert await scene.complete() == "a/x"
    assert scene.asked == ["a/x", "b/x", "a/x"]


async def test_a_second_key_takes_over_when_the_first_one_is_limited():
    scene = world("a/x", keys=2)
    scene.does["a/x#2"] = [limited(60)]

    answers = [await scene.complete() for _ in range(4)]

    assert answers == ["a/x"] * 4
    assert Counter(scene.asked) == {"a/x": 4, "a/x#2": 1}


async def test_a_bad_key_is_parked_and_raises_no_error_for_clients():
    scene = world("a/x", "a/y", "b/x")
    scene.does["a/x"] = [BAD_KEY]

    answers = [await scene.complete() for _ in range(3)]

    assert answers == ["b/x"] * 3
    assert scene.asked == ["a/x", *["b/x"] * 3]  # nor is it tried with another model


async def test_a_bad_key_alone_is_the_gateway_s_fault():
    scene = world("a/x")
    scene.does["a/x"] = [BAD_KEY]

    for _ in range(2):
        with pytest.raises(ProviderAuth) as caught:
            await scene.complete()

        assert (caught.value.status, caught.value.should_retry) == (502, False)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([limited(9), broken(504)], (502, 9)),
        ([overloaded(40), limited(33)], (429, 33)),
        ([limited(40), BAD_KEY], (429, 40)),
        ([broken(504), rejected(404)], (502, 1)),
        ([BAD_KEY, rejected(404)], (404, None)),
        ([rejected(404), rejected(404)], (404, None)),
        ([BAD_KEY, NO_QUOTA], (502, None)),
        ([TIMEOUT, BadRequest("cannot be said there")], (504, 1)),
    ],
)
async def test_of_several_errors_the_client_gets_the_last_that_will_pass_and_the_shortest_wait(errors, expected):
    scene = world("a/x", "b/x", retries=0)
    scene.does = {"a/x": errors[:1], "b/x": errors[1:]}

    with pytest.raises(GatewayError) as caught:
        await scene.complete()

    assert (caught.value.status, caught.value.retry_after) == expected
    assert scene.asked == ["a/x", "b/x"]


async def test_half_of_the_replicas_being_dead_is_no_matter_after_a_moment():
    scene = world("a/x", "b/x", "c/x", "d/x", strategy="weighted", retries=0, max_attempts=2)
    scene.does = {"a/x": [UNREACHABLE], "b/x": [TIMEOUT]}
    failed = []

    for number in range(3000):
        scene.time.now += 0.01
        try:
            await scene.complete()
        except UpstreamError:
            failed.append(number)

    assert len([number for number in failed if number >= 100]) < 0.01 * 2900
    dead = [label for label in scene.asked if label in {"a/x", "b/x"}]
    assert len(dead) < 50


async def test_a_failure_that_is_followed_by_another_try_is_logged():
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [limited(7)]

    with capture_logs() as lines:
        await scene.complete()

    assert lines == [
        {
            "log_level": "warning",
            "event": "routing: a try failed, another follows",
            "target": "a/x",
            "error": "upstream_rate_limited",
            "upstream_status": 429,
            "next": "b/x",
            "wait": 0.0,
        }
    ]


async def test_success_costs_no_log_line_and_no_task():
    scene = world("a/x", "b/x")
    ask, before, tasks = scene.ask, asyncio.all_tasks(), []

    async def watched(target, limits):
        tasks.extend(asyncio.all_tasks() - before)
        return await ask(target, limits)

    scene.ask = watched
    with capture_logs() as lines:
        await scene.complete()

    assert (lines, tasks) == ([], [])


# Fallbacks


async def test_a_call_that_is_too_long_goes_to_the_model_named_for_that():
    scene = World({"m": {"targets": ["a/x", "b/x"], "on_context_length": "long"}, "long": {"targets": ["c/x"]}})
    scene.does["a/x"] = [TOO_LONG]

    assert await scene.complete() == "c/x"
    assert scene.noted == ["a/x: context_length_exceeded", "c/x: completed"]


async def test_a_call_that_was_filtered_goes_to_the_model_named_for_that():
    scene = World({"m": {"targets": ["a/x"], "on_content_filter": "b/free"}, "n": {"targets": ["b/x"]}})
    scene.does["a/x"] = [FILTERED]

    assert await scene.complete() == "b/free"


async def test_fallbacks_that_name_each_other_come_to_an_end():
    scene = World(
        {
            "m": {"targets": ["a/x"], "on_context_length": "n"},
            "n": {"targets": ["b/x", "a/x"], "on_context_length": "m"},
        }
    )
    scene.does = {"a/x": [TOO_LONG], "b/x": [TOO_LONG]}

    with pytest.raises(ContextLengthExceeded):
        await scene.complete()

    assert scene.asked == ["a/x", "b/x"]


async def test_a_fallback_counts_into_the_tries_of_the_call():
    scene = World(
        {
            "m": {"targets": ["a/x"], "on_context_length": "n", "max_attempts": 2},
            "n": {"targets": ["b/x", "c/x", "d/x"], "max_attempts": 20},
        }
    )
    scene.does = {"a/x": [TOO_LONG], "b/x": [TIMEOUT]}

    with pytest.raises(UpstreamTimeout):
        await scene.complete()

    assert scene.asked == ["a/x", "b/x"]


async def test_a_fallback_that_there_is_not_leaves_the_error_as_it_was():
    names = Names(known={"a": frozenset({"x"})}.get, complete=frozenset({"a"}))
    scene = World({"m": {"targets": ["a/x"], "on_context_length": "nothing"}}, names=names)
    scene.does["a/x"] = [TOO_LONG]

    with pytest.raises(ContextLengthExceeded):
        await scene.complete()


# Streams


async def test_a_stream_is_held_back_until_there_is_content():
    scene = world("a/x")
    scene.does["a/x"] = [[EMPTY, EMPTY, HELLO, END]]

    async with scene.stream() as chunks:
        first = await anext(chunks)
        known = list(scene.answered_by)
        rest = [chunk async for chunk in chunks]

    assert [first, *rest] == [EMPTY, EMPTY, HELLO, END]
    assert known == ["a/x"]
    assert scene.noted == ["a/x: completed"]


async def test_a_stream_that_fails_before_content_is_taken_over():
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [[EMPTY, EMPTY, overloaded()]]

    assert await scene.streamed() == [EMPTY, HELLO, END]
    assert scene.noted == ["a/x: upstream_overloaded", "b/x: completed"]
    assert (scene.closed, scene.answered_by) == (["a/x", "b/x"], ["b/x"])


async def test_a_stream_without_any_content_is_taken_over():
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [[EMPTY]]

    assert await scene.streamed() == [EMPTY, HELLO, END]
    assert scene.noted == ["a/x: upstream_stream_truncated", "b/x: completed"]


async def test_a_stream_that_fails_after_content_is_not_taken_over():
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [[HELLO, TRUNCATED]]

    async with scene.stream() as chunks:
        first = await anext(chunks)
        with pytest.raises(StreamTruncated):
            await anext(chunks)

    assert (first, scene.asked) == (HELLO, ["a/x"])
    assert scene.noted == ["a/x: upstream_stream_truncated"]


async def test_signs_of_life_do_not_prolong_the_wait_for_content():
    scene = world("a/x", "b/x", limits=Bounds(first_byte=10))
    scene.does["a/x"] = [[EMPTY, *[2, EMPTY] * 100]]

    assert await scene.streamed() == [EMPTY, HELLO, END]
    assert scene.noted == ["a/x: upstream_timeout_first_byte", "b/x: completed"]
    assert scene.log[0].duration_ms == 12_000
    assert scene.closed == ["a/x", "b/x"]


async def test_a_client_that_goes_away_closes_the_stream():
    scene = world("a/x", "b/x")
    scene.does["a/x"] = [[HELLO, HELLO, END]]

    async with scene.stream() as chunks:
        await anext(chunks)

    assert (scene.closed, scene.noted) == (["a/x"], ["a/x: cancelled"])
    assert scene.router.route("m").targets[0].health.running == 0


@pytest.mark.parametrize("way", ["complete", "streamed"])
async def test_a_client_that_goes_away_before_the_answer_ends_the_try(way):
    scene = world("a/x", "b/x")
    waiting = asyncio.Event()

    async def ask(target, limits):
        scene.asked.append(target.label)
        waiting.set()
        await asyncio.sleep(60)

    async def open_stream(target, limits):
        await ask(target, limits)
        yield HELLO

    scene.ask, scene.open = ask, open_stream
    task = asyncio.create_task(getattr(scene, way)())
    await waiting.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert (scene.asked, scene.noted) == (["a/x"], ["a/x: cancelled"])
    health = scene.router.route("m").targets[0].health
    assert (health.running, health.ready(scene.time.now)) == (0, True)


# Hedging


class Racing(World):
    """Targets take real time: the seconds that `takes` says."""

    def __init__(self, *targets: str, takes: dict[str, float], **options) -> None:
        super().__init__({"m": {"targets": targets, "hedge": True, **options}})
        self.takes = takes
        for target in targets:
            self.learn(target, seconds=0.01)
            self.learn(target, seconds=0.01, stream=True)

    async def ask(self, target, limits):
        things = self._begin(target, limits)
        try:
            await asyncio.sleep(self.takes.get(target.label, 0))
        finally:
            self.closed.append(target.label)
        if isinstance(things[0], BaseException):
            raise things[0]
        return Completion(target.label.encode(), "", "stop", None)

    async def open(self, target, limits):
        answer = await self.ask(target, limits)
        try:
            yield EMPTY
            yield Chunk(answer.body, content=True)
            yield END
        finally:
            self.closed.append(target.label)


async def test_a_target_in_time_is_not_hedged():
    scene = Racing("a/x", "b/x", takes={})

    assert await scene.complete() == "a/x"
    assert scene.asked == ["a/x"]


async def test_a_target_that_takes_too_long_is_raced_by_the_next():
    scene = Racing("a/x", "b/x", takes={"a/x": 30})

    assert await scene.complete() == "b/x"
    assert scene.noted == ["a/x: cancelled", "b/x: completed"]
    assert scene.closed == ["b/x", "a/x"]
    assert [target.health.running for target in scene.router.route("m").targets] == [0, 0]


async def test_the_slow_one_may_win_yet():
    scene = Racing("a/x", "b/x", takes={"a/x": 0.15, "b/x": 30})

    assert await scene.complete() == "a/x"
    assert scene.noted == ["b/x: cancelled", "a/x: completed"]


async def test_streams_are_hedged_until_their_first_content():
    scene = Racing("a/x", "b/x", takes={"a/x": 30})

    chunks = await scene.streamed()

    assert [chunk.data for chunk in chunks] == [b"{}", b"b/x", b"end"]
    assert scene.answered_by == ["b/x"]
    assert scene.noted == ["a/x: cancelled", "b/x: completed"]


async def test_two_streams_that_come_at_the_same_time_are_one_answer():
    scene = Racing("a/x", "b/x", takes={"a/x": 0.1, "b/x": 0.1})
    both = asyncio.Event()

    async def open_stream(target, limits):
        scene.asked.append(target.label)
        if len(scene.asked) == 2:
            both.set()
        await both.wait()
        try:
            yield HELLO
            yield END
        finally:
            scene.closed.append(target.label)

    scene.open = open_stream

    assert await scene.streamed() == [HELLO, END]
    assert sorted(scene.closed) == ["a/x", "b/x"]
    assert sorted(note.partition(": ")[2] for note in scene.noted) == ["cancelled", "completed"]


async def test_one_that_fails_in_a_race_leaves_it_to_the_other():
    scene = Racing("a/x", "b/x", takes={"a/x": 0.2, "b/x": 0.01})
    scene.does["b/x"] = [TIMEOUT]

    assert await scene.complete() == "a/x"
    assert scene.noted == ["b/x: upstream_timeout_first_byte", "a/x: completed"]


async def test_both_failing_in_a_race_leaves_it_to_the_third():
    scene = Racing("a/x", "b/x", "c/x", takes={"a/x": 0.1, "b/x": 0.2})
    scene.does = {"a/x": [TIMEOUT], "b/x": [TIMEOUT]}

    assert await scene.complete() == "c/x"
    assert scene.asked == ["a/x", "b/x", "c/x"]


async def test_a_refusal_of_the_request_ends_the_race():
    scene = Racing("a/x", "b/x", takes={"a/x": 30})
    scene.does["b/x"] = [rejected()]

    with pytest.raises(UpstreamRejected):
        await scene.complete()

    assert scene.noted == ["b/x: upstream_rejected", "a/x: cancelled"]


async def test_a_client_that_goes_away_ends_both():
    scene = Racing("a/x", "b/x", takes={"a/x": 30, "b/x": 30})
    task = asyncio.create_task(scene.complete())
    async with asyncio.timeout(5):
        while len(scene.asked) < 2:
            await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert scene.noted == ["a/x: cancelled", "b/x: cancelled"]


async def test_without_experience_nothing_is_hedged():
    scene = Racing("a/x", "b/x", takes={"a/x": 0.2})
    scene.router = World({"m": {"targets": ["a/x", "b/x"], "hedge": True}}).router

    assert await scene.complete() == "a/x"
    assert scene.asked == ["a/x"]


async def test_hedging_counts_into_the_tries_of_the_call():
    scene = Racing("a/x", "b/x", takes={"a/x": 0.2}, max_attempts=1)

    assert await scene.complete() == "a/x"
    assert scene.asked == ["a/x"]


# Whatever happens

REFUSALS = [broken(), overloaded(), overloaded(3), limited(), limited(20), limited(999), UNREACHABLE]
FAULTS = [broken(504), TIMEOUT, CLOSED, BAD_KEY, NO_QUOTA, PoolFull("full")]
ANSWERS = [None, rejected(), rejected(404), TOO_LONG, FILTERED, BadRequest("cannot be said there")]
OUTCOMES = st.sampled_from([*REFUSALS, *FAULTS, *ANSWERS])
TARGETS = ["a/x", "a/y", "b/x", "c/x"]


@settings(max_examples=150)
@given(
    outcomes=st.fixed_dictionaries({label: st.lists(OUTCOMES, min_size=1, max_size=6) for label in TARGETS}),
    seconds=st.floats(0, 50),
    retries=st.integers(0, 3),
    most=st.integers(1, 8),
    stream=st.booleans(),
    seed=st.integers(0, 10),
)
async def test_every_call_ends_within_its_bounds(outcomes, seconds, retries, most, stream, seed):
    scene = World(
        {
            "m": {
                "targets": TARGETS[:2],
                "retries": retries,
                "max_attempts": most,
                "total_timeout": 100,
                "on_context_length": "n",
                "on_content_filter": "n",
            },
            "n": {"targets": TARGETS[1:], "retries": retries, "on_context_length": "m", "on_content_filter": "m"},
        },
        seed=seed,
    )
    for _ in range(3):
        scene.does = {
            label: [[thing] if stream else [seconds, thing] for thing in things] for label, things in outcomes.items()
        }
        scene.asked.clear()
        scene.log.clear()
        began = scene.time.now
        with suppress(GatewayError):
            await (scene.streamed() if stream else scene.complete())

        assert len(scene.asked) <= most
        assert all(times <= 1 + retries for times in Counter(scene.asked).values())
        assert len(scene.log) == len(scene.asked)
        assert scene.time.now - began <= 100 + seconds
        routes = scene.router.configured.values()
        assert all(target.health.running == 0 for route in routes for target in route.targets)
