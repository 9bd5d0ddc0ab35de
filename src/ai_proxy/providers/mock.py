"""A provider that needs no network: it answers with the question, and fails on demand.

Models that fail: mock/error-429, mock/error-502, mock/error-503, mock/timeout, mock/cut. What it answers, and how it
calls tools and fills schemas, is in the files `mock_*.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ai_proxy.core.groups import MockSettings
from ai_proxy.core.types import Bounds
from ai_proxy.core.upstream_errors import BadUpstreamResponse, StreamTruncated, UpstreamError, UpstreamTimeout
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import CHARACTERS_PER_TOKEN, Chunk, Completion, ProviderFault
from ai_proxy.dialects.wires import WIRES
from ai_proxy.providers.errors import rejection
from ai_proxy.providers.mock_answers import Answer, answer_to, chunks, completion
from ai_proxy.providers.mock_completions import TextAnswer, text_answer_to, text_chunks, text_completion
from ai_proxy.providers.mock_embeddings import embeddings
from ai_proxy.providers.mock_moderations import moderations

_PREFIX = "mock/"  # of the models' names, which may come with it or without
_CUT, _TIMEOUT, _ERROR = "cut", "timeout", "error-"
_CREATED = 1_735_689_600  # at any time the same, as all of the answer


class Mock:
    default_model = "mock"
    is_mock = True
    dialects = frozenset({"chat", "completions", "embeddings", "moderations"})

    def __init__(self, name: str, settings: MockSettings) -> None:
        self.name = name
        self._settings = settings

    async def complete(self, call: Call, model: str, limits: Bounds) -> Completion:
        await asyncio.sleep(self._settings.latency)
        self._fail(model)
        if _is_cut(model):
            raise BadUpstreamResponse(self.name, "broke off its answer")
        with self._refusing():
            return WIRES[call.dialect].read_answer(msgspec.json.encode(_whole(call, model)))

    async def stream(self, call: Call, model: str, limits: Bounds) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(self._settings.latency)
        self._fail(model)
        with self._refusing():
            answer = _answer(call, model)
        left = answer.size // 2 if _is_cut(model) else -1
        for event in text_chunks(answer) if isinstance(answer, TextAnswer) else chunks(answer):
            chunk = WIRES[call.dialect].read_event(msgspec.json.encode(event))
            if chunk.content and left == 0:
                raise StreamTruncated(self.name, "ended its answer without finishing it")
            yield chunk
            if chunk.content and chunk.finish_reason is None:
                left -= 1
                await asyncio.sleep(self._settings.token_delay)

    async def models(self, limits: Bounds) -> list[str]:
        return [self.default_model]

    def _fail(self, model: str) -> None:
        wanted = model.removeprefix(_PREFIX)
        if wanted == _TIMEOUT:
            raise UpstreamTimeout(self.name, "did not begin to answer in time", phase="first_byte")
        if wanted.startswith(_ERROR):
            raise self._rejection(wanted.removeprefix(_ERROR))

    def _rejection(self, status: str) -> UpstreamError:
        if not (status.isascii() and status.isdigit() and 400 <= int(status[:4]) <= 599):  # noqa: PLR2004
            return rejection(self.name, 404, ProviderFault(f"no such failure: {status}. Try mock/error-429."))
        fault = ProviderFault("This failure was asked for by the model's name.")
        return rejection(self.name, int(status), fault, retry_after="1" if status in {"429", "503"} else None)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """A request that cannot be answered is refused as a provider does it."""
        try:
            yield
        except ProviderFault as fault:
            raise rejection(self.name, 400, fault) from None
        except RecursionError:
            raise rejection(self.name, 400, ProviderFault("The body is nested too deeply.")) from None


def _is_cut(model: str) -> bool:
    return model.removeprefix(_PREFIX) == _CUT


def _whole(call: Call, model: str) -> dict[str, Any]:
    if call.dialect == "embeddings":
        return embeddings(call.body, model=model, read_tokens=_read_tokens(call))
    if call.dialect == "moderations":
        return moderations(call.body, model=model)
    answer = _answer(call, model)
    return text_completion(answer) if isinstance(answer, TextAnswer) else completion(answer)


def _answer(call: Call, model: str) -> Answer | TextAnswer:
    answer_of = text_answer_to if call.dialect == "completions" else answer_to
    return answer_of(call.body, model=model, created=_CREATED, read_tokens=_read_tokens(call))


def _read_tokens(call: Call) -> int:
    """What was read is counted by its characters."""
    return -(-call.characters() // CHARACTERS_PER_TOKEN)
