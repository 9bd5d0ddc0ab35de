"""Values that travel between layers. Data only: no rules, no I/O."""

from collections.abc import Mapping
from typing import Literal

import msgspec

Status = Literal["completed", "failed", "cancelled"]
Role = Literal["admin", "member", "viewer"]
Scope = Literal["calls", "history", "manage"]
Period = Literal["day", "week", "month", "total"]

# The user that owns what nobody else does: the first key, the operator's own, all that the command line makes.
OPERATOR_ID = "00000000-0000-7000-8000-000000000000"
# The key of calls by the environment's key while it is not known which one it is: it is not in the database then.
PROVISIONAL_KEY_ID = "00000000-0000-7000-8000-000000000001"
SERVICE = "service"  # the subject of limits and budgets that hold for all calls together

THUMBS = {"up": 1, "down": -1}  # of feedback, as callers say it and as it is stored
THUMB_NAMES = {number: name for name, number in THUMBS.items()}


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """How much a subject may do. The subject is `key:ID`, `user:ID`, `project:ID` or `service`; None is no limit."""

    subject: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject may spend in a period (UTC), in nano-dollars. `alerts` are per cent of it, in rising order."""

    subject: str
    period: Period
    amount: int
    alerts: tuple[int, ...] = ()


class Spending(msgspec.Struct, frozen=True):
    """What a subject has spent, in nano-dollars: in the day, ISO week and month (UTC) that it is now, and ever."""

    day: int = 0
    week: int = 0
    month: int = 0
    total: int = 0


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key is calling, and what it may do.

    `models` are patterns of names, None for all. `expires_at` is in microseconds since the epoch. `limits` and
    `budgets` are those of the key, its user, its project and the service. `keep_texts` is the project's wish.
    """

    key_id: str
    name: str
    user_id: str = OPERATOR_ID
    project_id: str | None = None
    role: Role = "member"
    scopes: frozenset[Scope] = frozenset({"calls", "history"})
    models: tuple[str, ...] | None = None
    expires_at: int | None = None
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    keep_texts: bool = True

    @property
    def subjects(self) -> tuple[str, ...]:
        """All whose limits and budgets this caller's calls count against."""
        project = () if self.project_id is None else (f"project:{self.project_id}",)
        return (f"key:{self.key_id}", f"user:{self.user_id}", *project, SERVICE)


class SeenKey(msgspec.Struct, frozen=True):
    """Whose key had this digest when the database last said so, which is `at` in seconds since the epoch."""

    digest: str
    principal: Principal
    at: int


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who administers: a person who is signed in, the holder of a key that may manage, or the command line."""

    user_id: str
    name: str
    role: Role
    key_id: str | None = None
    session_id: str | None = None
    address: str = ""
    request_id: str = ""


COMMAND_LINE = Actor(user_id=OPERATOR_ID, name="command line", role="admin")


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call. `estimated` when the provider did not count them.

    `input_tokens` and `output_tokens` are all that were read and written; the others say how many of these were of a
    kind with a price of its own. Of those written to the cache, `cache_write_1h_tokens` stay for an hour; they have a
    price, but no column. `cost` is what the provider itself says that the call costs, in nano-dollars.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int | None = None
    cache_write_1h_tokens: int = 0


class Bounds(msgspec.Struct, frozen=True):
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
    """One earlier exchange of a conversation. A `request` of another dialect says all that was before it, too."""

    question: str
    answer: str
    dialect: str = "ask"
    request: bytes | None = None


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
    time that passed at providers. `request` and `response` are the bodies of a /v1 call; of /api/ask and /api/streaming
    the request is here if it says more than its question. `response_id` is the name under which the caller can fetch
    the response again, if it `keeps_response`. A `cached` answer is that of another call.
    `reuse` is None when none may be; `kept` goes into the database together with the exchange. `cost` is in
    nano-dollars, None when nobody knows the price; `price` is what it was reckoned by, as JSON.
    `asked_model` is the name that the caller used, `model` that of who answered. One that was read
    from the history has no `principal`. `limits_told` are the headers that tell the caller what is left of its limits.
    `first_token_ms` is the time until a stream's first content. Without `keep_texts` only figures are stored.
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
    user_id: str = OPERATOR_ID
    project_id: str | None = None
    cost: int | None = None
    price: str | None = None
    asked_model: str = ""
    principal: Principal | None = None
    limits_told: Mapping[str, str] = {}
    first_token_ms: float | None = None
    keep_texts: bool = True
