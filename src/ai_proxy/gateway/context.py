"""What was said before a call, which it only refers to: by a conversation, an earlier response, or single items."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ai_proxy.core.exceptions import BadRequest, PreviousResponseNotFound
from ai_proxy.core.types import Exchange, Turn
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.responses import (
    conversation,
    dereferenced,
    named_items,
    read_asked,
    read_output,
    referenced,
)

# The earlier exchanges of a conversation, oldest first, as far as they fit. Takes the key's id and the conversation's.
Earlier = Callable[[str, str], Awaitable[Sequence[Turn]]]
# The key's own response of this id, after the request that it answers. Takes the key's id and the response's.
FindResponse = Callable[[str, str], Awaitable[tuple[bytes, bytes] | None]]

_MOST_TURNS = 200  # of a conversation that goes from response to response
_MOST_REFERRED_TO = 200  # responses
_READ = 8  # times what is used: a stored request and its response hold instructions and tools too


class Context:
    """`max_bytes` is how much a call may grow by what it refers to."""

    def __init__(self, earlier: Earlier, find_response: FindResponse, *, max_bytes: int) -> None:
        self._earlier = earlier
        self._find = find_response
        self._max_bytes = max_bytes

    async def complete(self, exchange: Exchange, call: Call) -> Call:
        """The call with all that it only refers to. Raises `BadRequest` or `PreviousResponseNotFound`."""
        if exchange.conversation_id is not None:
            return call.after(await self._earlier(exchange.key_id, exchange.conversation_id))
        if call.dialect != "responses" or (_previous(call.body) is None and not referenced(call.body)):
            return call
        body = call.body
        room = _Room(self._max_bytes)
        if (name := _previous(body)) is not None:
            body = conversation(await self._before(exchange.key_id, name, room), body)
        if wanted := referenced(body):
            body = dereferenced(body, await self._items(exchange.key_id, wanted, room))
        return calls.changed(call, {**call.body, **body}, sent=body)

    async def _before(
        self, key_id: str, name: str | None, room: "_Room"
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Requests and responses of a conversation, oldest first, up to the response of this name."""
        earlier: list[tuple[dict[str, Any], dict[str, Any]]] = []
        while name is not None:
            if len(earlier) == _MOST_TURNS:
                message = (
                    f"previous_response_id: the conversation has more than {_MOST_TURNS} turns: send them as input."
                )
                raise BadRequest(message, param="previous_response_id")
            found = await self._find(key_id, name)
            if found is None:
                raise PreviousResponseNotFound(name)
            request, response = found
            room.read(len(request) + len(response), "previous_response_id")
            asked, output = read_asked(request), read_output(response)
            room.use(len(asked.input) + sum(map(len, output)), "previous_response_id")
            decoded = [msgspec.json.decode(item) for item in output]
            earlier.append(({"input": msgspec.json.decode(asked.input)}, {"output": decoded}))
            name = asked.previous_response_id
        return earlier[::-1]

    async def _items(self, key_id: str, wanted: Mapping[str, Counter[str]], room: "_Room") -> dict[str, Any]:
        """The items that are wanted of these responses, by their names, as far as there are such."""
        if len(wanted) > _MOST_REFERRED_TO:
            message = (
                f"input: there are references to items of more than {_MOST_REFERRED_TO} responses: send the items."
            )
            raise BadRequest(message, param="input")
        items: dict[str, Any] = {}
        for response_id, times in wanted.items():
            found = await self._find(key_id, response_id)
            if found is None:
                continue
            _, response = found
            room.read(len(response), "input")
            for name, item in named_items(response):
                if name in times:
                    room.use(len(item) * times[name], "input")
                    items[name] = msgspec.json.decode(item)
        return items


def _previous(body: Mapping[str, Any]) -> str | None:
    name: str | None = body.get("previous_response_id")
    return name


class _Room:
    """How much a request may grow by what it refers to, in bytes, and how much may be read for that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = self._read = 0

    def read(self, size: int, param: str) -> None:
        self._read += size
        self._check(self._read, _READ * self._most, param)

    def use(self, size: int, param: str) -> None:
        self._used += size
        self._check(self._used, self._most, param)

    def _check(self, size: int, most: int, param: str) -> None:
        if size > most:
            message = f"{param}: what it refers to is larger than {most} bytes: send less of it, as input."
            raise BadRequest(message, param=param)
