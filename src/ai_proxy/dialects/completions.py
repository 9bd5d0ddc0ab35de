"""The older OpenAI formats that only pass through: text completions, embeddings, moderations.

Source: https://platform.openai.com/docs/api-reference/completions
"""

import msgspec

from ai_proxy.dialects.chat import ABSENT, NULL, Chunk, Completion, read_fault, read_usage


def read_completion(body: bytes) -> Completion:
    """A text completion. Raises `ProviderFault` for one with an error in it, `MsgspecError` for a broken one."""
    answer = _decode(body)
    if not answer.choices:
        message = "no choices in the answer"
        raise msgspec.ValidationError(message)
    choice = answer.choices[0]
    return Completion(body, choice.text or "", choice.finish_reason or "stop", read_usage(answer.usage))


def read_event(data: bytes) -> Chunk:
    event = _decode(data)
    if not event.choices:
        return Chunk(data, usage=read_usage(event.usage), usage_only=bytes(event.usage) != NULL)
    choice = event.choices[0]
    text = choice.text or ""
    content = bool(text or choice.finish_reason)
    return Chunk(data, text, choice.finish_reason or None, read_usage(event.usage), content, index=choice.index)


def read_result(body: bytes) -> Completion:
    """Embeddings or moderations: what is in them is the caller's alone, we only count."""
    answer = _decode(body)
    return Completion(body, "", "stop", read_usage(answer.usage, unwritten=0))


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_answer = msgspec.json.Decoder(_Answer)


def _decode(body: bytes) -> _Answer:
    answer = _answer.decode(body)
    if bytes(answer.error) != NULL:
        raise read_fault(answer.error)
    return answer
