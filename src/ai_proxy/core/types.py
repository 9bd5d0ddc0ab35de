"""Values that travel between layers. Data only: no rules, no I/O."""

from typing import Literal

import msgspec

Status = Literal["completed", "failed", "cancelled"]


class Principal(msgspec.Struct, frozen=True):
    """Who is calling."""

    key_id: str
    name: str


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call. `estimated` when the provider did not count them."""

    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False


class Turn(msgspec.Struct, frozen=True):
    """One earlier exchange of a conversation."""

    question: str
    answer: str


class Exchange(msgspec.Struct, kw_only=True):
    """One question and what became of it: filled in as the call goes, then written to the history.

    `created_at` is in microseconds since the epoch (UTC), `started` is a `perf_counter` reading.
    """

    id: str
    key_id: str
    question: str
    model: str
    conversation_id: str | None
    created_at: int
    started: float
    provider: str = ""
    mock: bool = False
    answer: str = ""
    status: Status = "completed"
    error: str | None = None
    finish_reason: str | None = None
    usage: Usage = Usage()
    duration_ms: float = 0.0
