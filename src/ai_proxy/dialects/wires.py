"""The wire formats in one table: where a provider that speaks one takes it, and how its answers are read."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ai_proxy.dialects import chat, completions, folding, messages_readers, responses_readers
from ai_proxy.dialects.call import Dialect
from ai_proxy.dialects.chat import Chunk, Completion


class Wire(NamedTuple):
    """`path` follows a provider's base URL. The readers raise `ProviderFault` or `msgspec.MsgspecError`."""

    path: str
    read_answer: Callable[[bytes], Completion]
    read_event: Callable[[bytes], Chunk]
    fold: Callable[[Sequence[bytes]], bytes]


WIRES: Mapping[Dialect, Wire] = {
    "chat": Wire("/chat/completions", chat.read_completion, chat.read_chunk, folding.fold_chat),
    "completions": Wire("/completions", completions.read_completion, completions.read_event, folding.fold_completions),
    "embeddings": Wire("/embeddings", completions.read_result, completions.read_event, folding.fold_completions),
    "responses": Wire(
        "/responses", responses_readers.read_answer, responses_readers.read_event, responses_readers.fold
    ),
    "messages": Wire("/messages", messages_readers.read_answer, messages_readers.read_event, messages_readers.fold),
    "count_tokens": Wire(
        "/messages/count_tokens", completions.read_result, completions.read_event, folding.fold_completions
    ),
    "moderations": Wire("/moderations", completions.read_result, completions.read_event, folding.fold_completions),
}
