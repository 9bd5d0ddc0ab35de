"""What becomes of the answers of a race that its client leaves."""

import asyncio

import pytest

from ai_proxy.core.types import Bounds
from ai_proxy.dialects.chat import Chunk
from ai_proxy.gateway.attempts import Attempts
from ai_proxy.gateway.health import Account, Health
from ai_proxy.gateway.targets import Route, Target

pytestmark = pytest.mark.anyio


class Provider:
    is_mock = False

    def __init__(self, name: str) -> None:
        self.name = name


class Race:
    """Between `slow`, which is expected to be quick, and `quick`, which begins to answer at once."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.log = []
        self.may_close = asyncio.Event()  # the slow one
        self.closing = asyncio.Event()
        self.may_answer = asyncio.Event()  # the slow one, though it is being ended
        self.targets = [self._target(name) for name in ("slow", "quick")]
        route = Route(name="m", groups=tuple((target,) for target in self.targets), lookup=None, hedge=True)
        stream = Attempts().stream(route, self._open, self.log, lambda _: None)
        self.call = asyncio.create_task(anext(stream))

    @staticmethod
    def _target(name: str) -> Target:
        health = Health(name, Account())
        for _ in range(30):
            health.latency(stream=True).note(0.01, 0.0)
        return Target(provider=Provider(name), model=name, limits=Bounds(), health=health, label=name)

    async def _open(self, target, limits):
        self.opened.append(target.label)
        try:
            if target.label == "slow":
                await self._linger()
            yield Chunk(b"x", "x", content=True)
            await asyncio.Event().wait()
        finally:
            self.closed.append(target.label)

    async def _linger(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.closing.set()
            await self.may_close.wait()
            if not self.may_answer.is_set():
                raise

    async def leave(self) -> None:
        """While the slow one is being ended."""
        async with asyncio.timeout(5):
            await self.closing.wait()
        self.call.cancel()
        await asyncio.sleep(0.01)

    async def over(self) -> None:
        self.may_close.set()
        with pytest.raises(asyncio.CancelledError):
            await self.call

    @property
    def noted(self) -> list[tuple[str, str]]:
        return sorted((attempt.model, attempt.outcome) for attempt in self.log)


BOTH = [("quick", "cancelled"), ("slow", "cancelled")]


async def test_the_winner_is_dropped_when_the_client_leaves_while_the_loser_is_being_ended():
    race = Race()

    await race.leave()
    closed = list(race.closed)
    await race.over()

    assert closed == ["quick"]  # at once
    assert race.closed == ["quick", "slow"]
    assert race.noted == BOTH
    assert [target.health.running for target in race.targets] == [0, 0]


async def test_an_answer_that_comes_when_the_client_has_left_is_dropped_too():
    race = Race()
    race.may_answer.set()

    await race.leave()
    await race.over()

    assert sorted(race.closed) == ["quick", "slow"]
    assert race.noted == BOTH


async def test_both_are_dropped_however_often_the_call_is_cancelled():
    race = Race()
    race.may_answer.set()

    await race.leave()
    race.call.cancel()
    await race.over()
    async with asyncio.timeout(5):
        while len(race.closed) < 2:
            await asyncio.sleep(0.001)

    assert race.noted == BOTH
