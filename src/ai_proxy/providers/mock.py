"""A provider that needs no network: it answers with the question, and fails on demand.

Models that fail: mock/error-429, mock/error-502, mock/error-503, mock/timeout, mock/cut.
"""

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from ai_proxy.core.config import MockSettings
from ai_proxy.core.exceptions import BadUpstreamResponse, StreamTruncated, UpstreamError, UpstreamTimeout
from ai_proxy.dialects.chat import (
    ChatRequest,
    Chunk,
    Completion,
    ProviderFault,
    estimate,
    read_chunk,
    read_completion,
)
from ai_proxy.providers.errors import rejection

_NAME = "mock"


class Mock:
    name = _NAME
    default_model = "mock"
    is_mock = True

    def __init__(self, settings: MockSettings) -> None:
        self._settings = settings

    async def complete(self, request: ChatRequest, model: str) -> Completion:
        await asyncio.sleep(self._settings.latency)
        _fail(model)
        if model == "mock/cut":
            raise BadUpstreamResponse(_NAME, "broke off its answer")
        words = _words(request)
        message = {"role": "assistant", "content": "".join(words)}
        body = {
            "object": "chat.completion",
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(request, words)}],
            "usage": _usage(request, words),
        }
        return read_completion(msgspec.json.encode(body))

    async def stream(self, request: ChatRequest, model: str) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(self._settings.latency)
        _fail(model)
        words = _words(request)
        for position, word in enumerate(words):
            if model == "mock/cut" and position == len(words) // 2:
                raise StreamTruncated(_NAME, "ended its answer without finishing it")
            yield _event({"delta": {"content": word}, "finish_reason": None}, model)
            await asyncio.sleep(self._settings.token_delay)
        yield _event({"delta": {}, "finish_reason": _finish_reason(request, words)}, model, _usage(request, words))


def _fail(model: str) -> None:
    if model == "mock/timeout":
        raise UpstreamTimeout(_NAME, "did not begin to answer in time", phase="first_byte")
    if model.startswith("mock/error-"):
        raise _rejection(model.removeprefix("mock/error-"))


def _rejection(status: str) -> UpstreamError:
    if not (status.isascii() and status.isdigit() and 400 <= int(status[:4]) <= 599):  # noqa: PLR2004
        return rejection(_NAME, 404, ProviderFault(f"no such failure: {status}. Try mock/error-429."))
    fault = ProviderFault("This failure was asked for by the model's name.")
    return rejection(_NAME, int(status), fault, retry_after="1" if status in {"429", "503"} else None)


def _words(request: ChatRequest) -> list[str]:
    """The answer, a word each with the space after it, cut to the `max_tokens` of the request."""
    question = request.messages[-1]["content"]
    words = [f"{word} " for word in f"This is a mock answer, no model was asked. You said: {question}".split(" ")]
    words[-1] = words[-1].removesuffix(" ")
    return words[: request.options.get("max_tokens")]


def _finish_reason(request: ChatRequest, words: list[str]) -> str:
    return "length" if len(words) == request.options.get("max_tokens") else "stop"


def _usage(request: ChatRequest, words: list[str]) -> dict[str, int]:
    """A word counts as a token of what was written; what was read is counted by its characters."""
    prompt = estimate(input_characters=request.characters(), output_characters=0).input_tokens
    return {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}


def _event(choice: dict[str, object], model: str, usage: dict[str, int] | None = None) -> Chunk:
    body = {"object": "chat.completion.chunk", "model": model, "choices": [{"index": 0, **choice}], "usage": usage}
    return read_chunk(msgspec.json.encode(body))
