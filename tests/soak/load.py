"""Clients that ask in every way at one time, and a journal of what they asked and what they got."""

import asyncio
import json
import random
import threading
import time
import zlib
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from tests.formats import CHAT, MESSAGES, RESPONSES, STREAMING
from tests.outcome import ASK
from tests.service import KEY, events, frames
from tests.soak.provider import MODEL, answer_to

_PAUSE = 0.02  # seconds after a connection that failed
_PATIENCE = aiohttp.ClientTimeout(total=60)


# Which ways to ask are used, and how often each: names of methods of `Client`. Those of `KNOWN_WAYS` need nothing that
# only the database has.
KNOWN_WAYS = (
    *("ask", "streaming") * 3,
    *("chat", "chat_stream", "messages", "messages_stream", "responses", "responses_stream"),
    *("leave", "leave_early"),
)
ALL_WAYS = (*KNOWN_WAYS, "conversation")


class Refusal(msgspec.Struct, frozen=True):
    token: str
    status: int
    body: str


class Journal:
    """What clients know. `answered` has the ids of whole answers where they were told one; `broken` did not end."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.answered: dict[str, str | None] = {}
        self.refused: list[Refusal] = []
        self.failed: set[str] = set()
        self.left: set[str] = set()
        self.broken: set[str] = set()
        self.wrong: list[str] = []
        self.slowest = 0.0  # seconds


class Load:
    """`clients` ask one question after another, from `start` to `stop`, on a thread of their own."""

    def __init__(
        self,
        url: str,
        journal: Journal,
        *,
        name: str,
        clients: int = 8,
        ways: tuple[str, ...] = ALL_WAYS,
        keys: tuple[str, ...] = (KEY,),
    ) -> None:
        """Questions begin with `name`. The clients use the `keys` in turn."""
        self._url = url
        self._journal = journal
        self._names = [f"{name}-{number}" for number in range(clients)]
        self._ways = ways
        self._keys = keys
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=name)

    def start(self) -> "Load":
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ask no more, and wait for the calls that run."""
        self._ending.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "a call does not end"

    def __enter__(self) -> "Load":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(self._url, connector=connector, timeout=_PATIENCE) as session:
            clients = [
                Client(session, self._journal, name, self._keys[number % len(self._keys)])
                for number, name in enumerate(self._names)
            ]
            await asyncio.gather(*(client.run(self._ways, self._ending) for client in clients))


class Client:
    def __init__(self, session: aiohttp.ClientSession, journal: Journal, name: str, key: str) -> None:
        self._session = session
        self._journal = journal
        self._name = name
        self._headers = {"authorization": f"Bearer {key}"}
        self._dice = random.Random(name)

    async def run(self, ways: tuple[str, ...], ending: threading.Event) -> None:
        number = 0
        while not ending.is_set():
            number += 1
            token = f"q-{self._name}-{number}"
            way: Callable[[str], Awaitable[None]] = getattr(self, self._dice.choice(ways))
            self._journal.asked.add(token)
            began = time.monotonic()
            try:
                await way(token)
                self._journal.slowest = max(self._journal.slowest, time.monotonic() - began)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                self._journal.broken.add(token)
                await asyncio.sleep(_PAUSE)

    async def ask(self, token: str) -> None:
        await self._whole(token, ASK, {"question": token}, lambda body: body["answer"])

    async def conversation(self, token: str) -> None:
        """Five questions each."""
        number = int(token.rpartition("-")[2]) // 5
        identifier = f"{zlib.crc32(f'{self._name} {number}'.encode()):08x}-0000-7000-8000-000000000000"
        asked = {"question": token, "conversation_id": identifier}
        await self._whole(token, ASK, asked, lambda body: body["answer"])

    async def chat(self, token: str) -> None:
        text = lambda body: body["choices"][0]["message"]["content"]  # noqa: E731
        await self._whole(token, CHAT, _messages(token), text, knows_id=False)

    async def messages(self, token: str) -> None:
        await self._whole(token, MESSAGES, _messages(token), lambda body: body["content"][0]["text"])

    async def responses(self, token: str) -> None:
        text = lambda body: body["output"][0]["content"][0]["text"]  # noqa: E731
        await self._whole(token, RESPONSES, {"model": MODEL, "input": token}, text)

    async def streaming(self, token: str) -> None:
        await self._streamed(token, STREAMING, {"question": token})

    async def chat_stream(self, token: str) -> None:
        await self._streamed(token, CHAT, _messages(token) | {"stream": True})

    async def messages_stream(self, token: str) -> None:
        await self._streamed(token, MESSAGES, _messages(token) | {"stream": True})

    async def responses_stream(self, token: str) -> None:
        await self._streamed(token, RESPONSES, {"model": MODEL, "input": token, "stream": True})

    async def leave(self, token: str) -> None:
        """In the middle of a stream."""
        self._journal.left.add(token)
        async with self._session.post(
            CHAT, json=_messages(token) | {"stream": True}, headers=self._headers
        ) as response:
            await response.content.readany()
            response.close()

    async def leave_early(self, token: str) -> None:
        """Before there is an answer."""
        self._journal.left.add(token)
        try:
            async with asyncio.timeout(self._dice.random() * 0.01):
                response = await self._session.post(ASK, json={"question": token}, headers=self._headers)
                await response.read()
        except TimeoutError:
            pass

    async def _whole(
        self, token: str, path: str, asked: dict, text: Callable[[dict], str], *, knows_id: bool = True
    ) -> None:
        async with self._session.post(path, json=asked, headers=self._headers) as response:
            told = await response.text()
        if response.status != 200:
            self._journal.refused.append(Refusal(token, response.status, told))
            return
        body = json.loads(told)
        self._got(token, body["id"] if knows_id else None, text(body))

    async def _streamed(self, token: str, path: str, asked: dict) -> None:
        async with self._session.post(path, json=asked, headers=self._headers) as response:
            told = await response.text()
        if response.status != 200:
            self._journal.refused.append(Refusal(token, response.status, told))
            return
        read = {STREAMING: _of_streaming, CHAT: _of_chat, MESSAGES: _of_messages, RESPONSES: _of_responses}[path]
        found = read(told)
        if found is None:
            self._journal.failed.add(token)
        else:
            self._got(token, *found)

    def _got(self, token: str, identifier: str | None, text: str) -> None:
        self._journal.answered[token] = identifier and plain(identifier)
        if text != answer_to(token):
            self._journal.wrong.append(f"{token}: the client got {text[:80]!r} ({len(text)} characters)")


def plain(identifier: str) -> str:
    """An exchange's id without what a wire format adds to it."""
    return identifier.replace("-", "").removeprefix("resp_").removeprefix("msg_")


def _messages(token: str) -> dict:
    return {"model": MODEL, "max_tokens": 5000, "messages": [{"role": "user", "content": token}]}


# Of a stream that has ended as it should, its id and text; None for one that tells of an error.


def _of_streaming(text: str) -> tuple[str, str] | None:
    found = events(text)
    if found[-1][0] != "done":
        return None
    return found[0][1]["id"], "".join(data["text"] for name, data in found if name == "delta")


def _of_chat(text: str) -> tuple[None, str] | None:
    chunks = [json.loads(data) for _, data in frames(text) if data != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    if any("error" in chunk for chunk in chunks):
        return None
    return None, "".join(choice["delta"].get("content") or "" for choice in choices)


def _of_messages(text: str) -> tuple[str, str] | None:
    found = events(text)
    if found[-1][0] != "message_stop":
        return None
    deltas = [data["delta"] for name, data in found if name == "content_block_delta"]
    return found[0][1]["message"]["id"], "".join(delta.get("text", "") for delta in deltas)


def _of_responses(text: str) -> tuple[str, str] | None:
    found = events(text)
    if found[-1][0] != "response.completed":
        return None
    deltas = [data["delta"] for name, data in found if name == "response.output_text.delta"]
    return found[0][1]["response"]["id"], "".join(deltas)
