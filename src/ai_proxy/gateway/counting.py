"""The tokens of one call: its provider's count, or an estimate."""

import msgspec

from ai_proxy.core.types import Usage
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import CHARACTERS_PER_TOKEN, Chunk, Completion, estimate
from ai_proxy.dialects.size import written as size_of
from ai_proxy.dialects.usage import joined

_ENVELOPE = 300  # bytes that an event has around what it brings


class Count:
    """Fed with an answer, or with its chunks as they come."""

    def __init__(self) -> None:
        self._told: Usage | None = None
        self._characters = 0
        self._completion: Completion | None = None

    def take(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self._told = joined(self._told, chunk.usage)
        self._characters += len(chunk.text) or _unseen(chunk)

    def take_whole(self, completion: Completion) -> None:
        self._told = completion.usage
        self._completion = completion

    def usage(self, call: Call, *, answered: bool) -> Usage:
        """The provider's count; an estimate if somebody answered without one; nothing if nobody did."""
        told = self._told
        if told is not None and not told.estimated:
            return told
        if not answered or call.dialect == "count_tokens":  # which is no answer of a model
            return told or Usage()
        guess = estimate(input_characters=call.characters(), output_characters=self._all())
        if told is None:
            return guess
        return msgspec.structs.replace(
            told, output_tokens=guess.output_tokens, output_audio_tokens=0, reasoning_tokens=0
        )

    def _all(self) -> int:
        completion = self._completion
        if completion is None:
            return self._characters
        return max(size_of(completion.body), len(completion.text))


def _unseen(chunk: Chunk) -> int:
    """Characters that a chunk without text brings: those of thoughts and tool calls, by the size of its data."""
    if not chunk.content or chunk.finish_reason is not None or chunk.event.endswith(".done"):
        return 0
    return max(len(chunk.data) - _ENVELOPE, CHARACTERS_PER_TOKEN)
