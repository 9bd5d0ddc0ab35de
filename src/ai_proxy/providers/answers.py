"""What any provider's reply over HTTP comes to: an answer that can be read, or one of our errors."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import NoReturn, TypeVar

import msgspec

from ai_proxy.core.upstream_errors import BadUpstreamResponse, UpstreamError
from ai_proxy.dialects.chat import ProviderFault, read_fault
from ai_proxy.providers.errors import rejection
from ai_proxy.providers.http import Reply
from ai_proxy.providers.sse import EventSplitter

T = TypeVar("T")

GOOD = 200
_DONE = b"[DONE]"
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_PATIENCE = 2.0  # seconds for the words that go with an error status
_LEAST_KEY = 8  # what is shorter is no secret, but a word for servers that want none: "ollama", "EMPTY"


class Answers:
    """Reads the replies to one key of a provider. `read_fault` is how it words its errors."""

    def __init__(
        self, provider: str, key: str, read_fault: Callable[[bytes | msgspec.Raw], ProviderFault] = read_fault
    ) -> None:
        self._provider = provider
        self._key = key
        self._read_fault = read_fault

    async def refuse(self, reply: Reply) -> NoReturn:
        """Raise the error that anything but a good answer stands for."""
        if reply.status == GOOD:
            fault = self._read_fault(await reply.read())
            raise self.rejection(fault.status or GOOD, fault)
        try:
            async with asyncio.timeout(_PATIENCE):
                fault = self._read_fault(await reply.read())
        except (UpstreamError, TimeoutError):  # the status says enough
            fault = ProviderFault("")
        raise self.rejection(reply.status, fault, retry_after=reply.header("retry-after"))

    def read(self, read: Callable[[bytes], T], body: bytes) -> T:
        """What `read` makes of a body, its failures as ours."""
        try:
            return read(body)
        except ProviderFault as fault:
            raise self.rejection(fault.status or GOOD, fault) from None
        except _BROKEN:
            message = "sent something that is not an answer"
            raise BadUpstreamResponse(self._provider, message, upstream_status=GOOD) from None

    def rejection(self, status: int, fault: ProviderFault, *, retry_after: str | None = None) -> UpstreamError:
        if len(self._key) >= _LEAST_KEY:  # it may not look like one
            fault.message = fault.message.replace(self._key, "***")
        return rejection(self._provider, status, fault, retry_after=retry_after)


def is_stream(reply: Reply) -> bool:
    return reply.status == GOOD and "text/event-stream" in (reply.header("content-type") or "").lower()


async def event_data(reply: Reply) -> AsyncGenerator[list[bytes], None]:
    """The data of a stream's events as they arrive, up to the `[DONE]` that ends one in OpenAI's older formats."""
    splitter = EventSplitter()
    while block := await reply.block():
        events = splitter.feed(block)
        if _DONE in events:
            yield events[: events.index(_DONE)]
            await reply.finish()
            return
        yield events
    yield [data for data in splitter.close() if data != _DONE]


def read_models(body: bytes) -> list[str]:
    """The names in a list of models. Raises `msgspec.MsgspecError` for anything else."""
    return [model.id for model in _models.decode(body).data]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_models = msgspec.json.Decoder(_Models)
