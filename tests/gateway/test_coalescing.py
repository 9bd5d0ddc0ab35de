"""Equal calls at one time: who waits for whom, and what happens when one of them leaves."""

import asyncio

import pytest

from ai_proxy.core.types import Attempt, Exchange, Reuse
from ai_proxy.core.upstream_errors import UpstreamOverloaded
from ai_proxy.dialects.chat import Completion
from ai_proxy.gateway.coalescing import Coalescer

pytestmark = pytest.mark.anyio

PONG = Completion(b"pong", "pong", "stop", None)


class Upstream:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0
        self.cancelled = 0
        self.error: Exception | None = None

    async def __call__(self, attempts: list[Attempt]) -> tuple[str, Completion]:
        self.asked += 1
        try:
            await self.open.wait()
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancelled += 1
            attempts.append(Attempt("openai", "small", "cancelled", 1.0))
            raise
        except Exception:
            attempts.append(Attempt("openai", "small", "upstream_overloaded", 1.0, 503))
            raise
        attempts.append(Attempt("openai", "small", "completed", 1.0))
        return "target", PONG


@pytest.fixture
async def upstream():
    return Upstream()


@pytest.fixture
async def coalescer():
    return Coalescer()


def exchange(name: str) -> Exchange:
    return Exchange(
        id=name,
        key_id="key",
        question="",
        model="small",
        conversation_id=None,
        created_at=0,
        started=0.0,
        reuse=Reuse(),
    )


async def begin(coalescer, upstream, *names: str, key: bytes = b"key"):
    """Calls that wait: the exchange and the task of each."""
    calls = []
    for name in names:
        own = exchange(name)
        calls.append((own, asyncio.create_task(coalescer.complete(key, own, upstream))))
    await asyncio.sleep(0.01)
    return calls


async def end(calls) -> list:
    return await asyncio.gather(*(task for _, task in calls), return_exceptions=True)


def told(calls) -> list[tuple[bool, list[str]]]:
    """Of each exchange: is it cached, and which attempts are in it."""
    return [(own.cached, [attempt.outcome for attempt in own.attempts]) for own, _ in calls]


async def test_equal_calls_at_one_time_share_one(coalescer, upstream):
    calls = await begin(coalescer, upstream, "first", "second", "third")

    upstream.open.set()
    answers = await end(calls)

    assert answers == [("target", PONG)] * 3
    assert upstream.asked == 1
    assert told(calls) == [(False, ["completed"]), (True, []), (True, [])]
    assert [own.reuse.outcome for own, _ in calls] == ["", "shared", "shared"]
    assert coalescer.shared == 2


async def test_other_calls_do_not_share_and_neither_do_later_ones(coalescer, upstream):
    one = await begin(coalescer, upstream, "one", key=b"one")
    other = await begin(coalescer, upstream, "other", key=b"other")
    upstream.open.set()
    await end(one + other)
    later = await begin(coalescer, upstream, "later", key=b"one")
    await end(later)

    assert upstream.asked == 3
    assert told(one + other + later) == [(False, ["completed"])] * 3


async def test_a_failure_is_everybodys_and_the_next_call_tries_again(coalescer, upstream):
    upstream.error = UpstreamOverloaded("openai", "is overloaded")
    calls = await begin(coalescer, upstream, "first", "second")
    upstream.open.set()
    answers = await end(calls)
    upstream.error = None
    retry = await begin(coalescer, upstream, "retry")

    assert [type(error) for error in answers] == [UpstreamOverloaded] * 2
    assert told(calls) == [(False, ["upstream_overloaded"]), (True, [])]
    assert (calls[1][0].provider, calls[1][0].model) == ("openai", "small")
    assert await end(retry) == [("target", PONG)]


async def test_the_one_who_began_may_leave_and_the_next_has_made_the_call(coalescer, upstream):
    calls = await begin(coalescer, upstream, "first", "second", "third")

    calls[0][1].cancel()
    await asyncio.sleep(0.01)
    upstream.open.set()
    answers = await end(calls)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [("target", PONG)] * 2
    assert (upstream.asked, upstream.cancelled) == (1, 0)
    assert told(calls) == [(False, []), (False, ["completed"]), (True, [])]


async def test_one_who_leaves_as_the_answer_comes_does_not_take_it_along(coalescer, upstream):
    calls = await begin(coalescer, upstream, "first", "second")

    upstream.open.set()
    await asyncio.sleep(0)  # the call ends
    calls[0][1].cancel()
    answers = await end(calls)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1] == ("target", PONG)
    assert told(calls) == [(False, []), (False, ["completed"])]


async def test_when_nobody_waits_any_more_the_call_ends(coalescer, upstream):
    calls = await begin(coalescer, upstream, "first", "second")

    for _, task in calls:
        task.cancel()
    await end(calls)
    afterwards = await begin(coalescer, upstream, "afterwards")
    upstream.open.set()

    assert upstream.cancelled == 1
    assert told(calls) == [(False, []), (False, ["cancelled"])]
    assert await end(afterwards) == [("target", PONG)]
    assert upstream.asked == 2
