"""OpenAI's Responses wire format: whole answers.

Source: https://platform.openai.com/docs/api-reference/responses/object
"""

from typing import Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.dialects.responses_events import FromChunks


def from_completion(
    completion: dict[str, Any], request: dict[str, Any], *, identifier: str, created: int
) -> dict[str, Any]:
    """A chat completion as the response to a (valid) request: the one that its stream would end with.

    Raises `ProviderFault`, `msgspec.MsgspecError`.
    """
    answer = msgspec.convert(completion, _Answer)
    if not answer.choices:
        raise ProviderFault("")
    model = answer.model or str(request.get("model") or "")
    stream = FromChunks(request, identifier=identifier, model=model, created=created)
    stream.feed({**completion, "choices": [_as_delta(answer.choices[0])]})
    response: dict[str, Any] = stream.close()[-1]["response"]
    return response


class _Message(msgspec.Struct):
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    message: dict[str, Any]
    finish_reason: str | None = None
    logprobs: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    model: str | None = None


def _as_delta(choice: _Choice) -> dict[str, Any]:
    """A whole answer, as the one chunk of a stream."""
    calls = msgspec.convert(choice.message, _Message).tool_calls or ()
    delta = {**choice.message, "tool_calls": [{**call, "index": index} for index, call in enumerate(calls)]}
    return {"index": 0, "delta": delta, "finish_reason": choice.finish_reason, "logprobs": choice.logprobs}
