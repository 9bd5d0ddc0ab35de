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


class Limits(msgspec.Struct, frozen=True):
    """Deadlines of one call to a provider, in seconds, and the largest answer taken, in bytes."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 60.0
    total: float = 600.0
    max_bytes: int = 32 * 2**20


class Attempt(msgspec.Struct, frozen=True):
    """One try of one target. `outcome` is `completed`, `cancelled` or an error's code; `status` the provider's own."""

    provider: str
    model: str
    outcome: str
    duration_ms: float
    status: int | None = None


class Turn(msgspec.Struct, frozen=True):
    """One earlier exchange of a conversation."""

    question: str
    answer: str


class Reuse(msgspec.Struct):
    """Whether a call may get the answer to an equal one, and whether it did.

    `max_age` and `age` are in seconds. `outcome` is `hit` for an answer from memory, `miss` if there was none, `shared`
    for that of a call that was running, "" if nobody looked.
    """

    reads: bool = True
    stores: bool = True
    max_age: float | None = None
    outcome: str = ""
    age: float = 0.0


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is kept under its caller's idempotency key. `digest` is that of the request."""

    key: str
    digest: str
    body: bytes
    headers: dict[str, str]
    exchange_id: str


class Exchange(msgspec.Struct, kw_only=True):
    """One question and what became of it: filled in as the call goes, then written to the history.

    `created_at` is in microseconds since the epoch (UTC), `started` is a `perf_counter` reading, `waited_ms` is the
    time that passed at providers. `request` and `response` are the bodies of a /v1 call, `response_id` the name under
    which its caller can fetch the response again, if it `keeps_response`. A `cached` answer is that of another call.
    `reuse` is None when none may be; `kept` goes into the database together with the exchange.
    """

    id: str
    key_id: str
    question: str
    model: str
    conversation_id: str | None
    created_at: int
    started: float
    dialect: str = "ask"
    stream: bool = False
    provider: str = ""
    mock: bool = False
    answer: str = ""
    status: Status = "completed"
    error: str | None = None
    finish_reason: str | None = None
    usage: Usage = Usage()
    duration_ms: float = 0.0
    waited_ms: float = 0.0
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    cached: bool = False
    request: bytes | None = None
    response: bytes | None = None
    keeps_response: bool = False
    response_id: str | None = None
    reuse: Reuse | None = None
    kept: KeptAnswer | None = None
