"""A provider for load: it answers every question in its own words, and keeps a log of what it was asked."""

import asyncio
import random
import re
from collections import Counter

from tests import upstream
from tests.upstream import Connection, Handler, Upstream

MODEL = "small"
PRICE = {"input": 1, "output": 2, "request": 0.001}

_TOKEN = re.compile(r"\bq-[\w-]+")
_FAULTS = ("429", "500", "cut", "error event", "not JSON")


def token_of(question: str) -> str:
    """The name of a question, which is somewhere in its text."""
    return _TOKEN.findall(question)[-1]


def answer_to(token: str) -> str:
    """Mostly short, now and then long. Names are in it, so that no answer looks like another one's."""
    return f"answer to {token}: " + "слово " * random.Random(token).choice((1, 3, 10, 10, 40, 40, 2000))


def fault_of(token: str) -> str | None:
    """What goes wrong with it before a provider with faults: with one in twelve, something does."""
    number = random.Random(f"fault of {token}").randrange(12 * len(_FAULTS))
    return _FAULTS[number] if number < len(_FAULTS) else None


class Provider:
    """Use as a context manager. `asked` counts the questions that came, by name."""

    def __init__(self, *, faults: bool = False, slowness: float = 0.004) -> None:
        self.asked: Counter[str] = Counter()
        self._faults = faults
        self._slowness = slowness
        self._upstream = Upstream()
        self._upstream.handler = self._handle

    def __enter__(self) -> "Provider":
        self._upstream.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._upstream.__exit__()

    @property
    def settings(self) -> dict:
        """Of a service before it: tables of its file."""
        return {
            "default_model": MODEL,
            "providers": {"fake": {"base_url": self._upstream.url, "models": [MODEL], "dialects": ["chat"]}},
            "prices": {f"fake/{MODEL}": PRICE},
        }

    async def _handle(self, connection: Connection) -> None:
        self._upstream.connections.clear()  # else each one ever seen would be kept
        asked = connection.json
        token = token_of(asked["messages"][-1]["content"])
        self.asked[token] += 1
        if self._faults and (fault := fault_of(token)) is not None:
            await _faulty(fault, token)(connection)
            return
        await asyncio.sleep(random.random() * self._slowness)
        handler = self._streamed(token) if asked.get("stream") else upstream.completion(answer_to(token))
        await handler(connection)

    def _streamed(self, token: str) -> Handler:
        text = answer_to(token)
        cuts = sorted(random.sample(range(len(text)), 4))
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        return upstream.words(*parts, gap=random.random() * self._slowness)


def _faulty(fault: str, token: str) -> Handler:
    match fault:
        case "429":
            return upstream.error(429, headers="retry-after: 1\r\n")
        case "500":
            return upstream.error(500)
        case "error event":
            event = upstream.event({"error": {"message": "no more", "type": "server_error"}})
            return upstream.stream(upstream.delta(answer_to(token)[:9]), event)
        case "not JSON":
            return upstream.status(200, b"<html>")
        case _:

            async def cut(connection: Connection) -> None:
                connection.reset()

            return upstream.stream(upstream.delta(answer_to(token)[:9]), cut)
