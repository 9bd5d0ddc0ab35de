"""Every error a client can see.

GatewayError                        500  internal_error
├── ClientError                     400  invalid_request      (the caller's own mistakes)
│   ├── BadRequest                  400  invalid_request
│   │   └── PreviousResponseNotFound     previous_response_not_found
│   ├── Unauthenticated             401  invalid_api_key
│   │   └── NotSignedIn             401  not_signed_in
│   ├── PermissionDenied            403  permission_denied
│   │   ├── ModelNotAllowed         403  model_not_allowed
│   │   └── ModelNotPriced          403  model_not_priced
│   ├── NotFound                    404  not_found
│   │   ├── ModelNotFound           404  model_not_found
│   │   └── ResponseNotFound        404  response_not_found
│   ├── MethodNotAllowed            405  method_not_allowed
│   ├── RequestTimeout              408  request_timeout
│   ├── Conflict                    409  conflict
│   │   └── IdempotencyConflict     409  idempotency_conflict
│   ├── BodyTooLarge                413  body_too_large
│   ├── UnsupportedMediaType        415  unsupported_media_type
│   ├── IdempotencyKeyReused        422  idempotency_key_reused
│   ├── LoginThrottled              429  login_throttled
│   └── HeadersTooLarge             431  headers_too_large
├── LimitExceeded                   429  (the caller's limits with us; no exchange is recorded)
│   ├── RateLimited                 429  rate_limit_exceeded
│   │   └── LargerThanLimit         429  rate_limit_exceeded
│   └── BudgetExceeded              429  insufficient_quota
├── ClientGone                      499  client_gone          (in logs and history only)
├── Unavailable                     503  unavailable
│   ├── DatabaseUnavailable         503  database_unavailable
│   ├── HistoryFull                 503  history_full
│   ├── PoolFull                    503  pool_full
│   └── ShuttingDown                503  server_shutdown
└── UpstreamError                   502  upstream_error       (upstream_errors.py)
    ├── UpstreamUnreachable         502  upstream_unreachable
    ├── BadUpstreamResponse         502  bad_upstream_response
    ├── StreamTruncated             502  upstream_stream_truncated
    ├── ProviderAuth                502  provider_auth        (our key with the provider: never the caller's fault)
    ├── ProviderQuota               502  provider_quota
    ├── UpstreamRejected            the provider's own 4xx    upstream_rejected
    │   ├── ContextLengthExceeded   400  context_length_exceeded
    │   └── ContentFiltered         400  content_filter
    ├── UpstreamRateLimited         429  upstream_rate_limited
    ├── UpstreamOverloaded          503  upstream_overloaded
    └── UpstreamTimeout             504  upstream_timeout
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

Source = Literal["client", "gateway", "provider"]


class GatewayError(Exception):
    """Base of every error that has an HTTP status and a stable code.

    `retry_after` is in seconds. `should_retry` is told to clients as `x-should-retry` when it is not None. The message
    of one that `quotes` may repeat what the caller sent, so it is not logged.
    """

    status: int = 500
    code: str = "internal_error"
    kind: ClassVar[str] = "api_error"
    source: ClassVar[Source] = "gateway"
    should_retry: ClassVar[bool | None] = None
    quotes: ClassVar[bool] = False
    provider: str | None = None
    upstream_status: int | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class ClientError(GatewayError):
    """The caller's own mistake."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"
    source = "client"


class BadRequest(ClientError):
    """The request is not as it must be; `param` names the field."""


class Unauthenticated(ClientError):
    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"


class NotSignedIn(Unauthenticated):
    """There is no session, or it has ended."""

    code = "not_signed_in"


class PermissionDenied(ClientError):
    """It is known who asks, and that they may not."""

    status = 403
    code = "permission_denied"
    kind = "permission_error"


class ModelNotAllowed(PermissionDenied):
    code = "model_not_allowed"
    quotes = True

    def __init__(self, model: str) -> None:
        message = f"This API key may not call the model {model!r}: GET /v1/models lists those that it may."
        super().__init__(message, param="model")


class ModelNotPriced(PermissionDenied):
    code = "model_not_priced"
    quotes = True

    def __init__(self, model: str) -> None:
        message = (
            f"Nobody knows what the model {model!r} costs, and here such models may not run: "
            "the operator can give it a price in [prices] of ai-proxy.toml."
        )
        super().__init__(message, param="model")


class NotFound(ClientError):
    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"
    quotes = True

    def __init__(self, model: str) -> None:
        message = f"The model {model!r} does not exist or is not served here: GET /v1/models lists those that are."
        super().__init__(message, param="model")


class MethodNotAllowed(ClientError):
    status = 405
    code = "method_not_allowed"


class ResponseNotFound(NotFound):
    code = "response_not_found"
    quotes = True

    def __init__(self, response_id: str) -> None:
        super().__init__(f"There is no response {response_id[:100]!r} of yours: it was not stored, or was deleted.")


class PreviousResponseNotFound(BadRequest):
    """As OpenAI has it: clients know the code, and begin anew."""

    code = "previous_response_not_found"
    quotes = True

    def __init__(self, name: str) -> None:
        message = f"There is no previous response {name[:100]!r} of yours: send what was said before as input."
        super().__init__(message, param="previous_response_id")


class RequestTimeout(ClientError):
    status = 408
    code = "request_timeout"


class Conflict(ClientError):
    """It is there already, or has changed meanwhile."""

    status = 409
    code = "conflict"


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"


class BodyTooLarge(ClientError):
    status = 413
    code = "body_too_large"


class UnsupportedMediaType(ClientError):
    status = 415
    code = "unsupported_media_type"


class IdempotencyKeyReused(ClientError):
    status = 422
    code = "idempotency_key_reused"


class LoginThrottled(ClientError):
    status = 429
    code = "login_throttled"
    kind = "rate_limit_error"


class HeadersTooLarge(ClientError):
    status = 431
    code = "headers_too_large"


class LimitExceeded(GatewayError):
    """One of the caller's own limits with us. Nobody was asked, so no exchange is recorded."""

    status = 429
    kind = "rate_limit_error"


class RateLimited(LimitExceeded):
    """Requests or tokens in a minute, or calls at one time. `headers` tell how much there is and when there is more."""

    code = "rate_limit_exceeded"
    should_retry = True

    def __init__(self, message: str, *, retry_after: float | None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.headers = headers or {}


class LargerThanLimit(RateLimited):
    """More than the limit in one call: it will not fit later either."""

    should_retry = False

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, retry_after=None, headers=headers)


class BudgetExceeded(LimitExceeded):
    code = "insufficient_quota"
    kind = "insufficient_quota"
    should_retry = False


class ClientGone(GatewayError):
    """The client closed the connection before the answer. Nobody reads this error but the log and the history."""

    status = 499
    code = "client_gone"
    source = "client"


class Unavailable(GatewayError):
    """Something of ours that the call needs is away, or taken, for the moment."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 5) -> None:
        super().__init__(message, retry_after=retry_after)


class DatabaseUnavailable(Unavailable):
    """`busy`: another process holds the database's lock, which does not last.

    `passing`: it may be there again by itself, without anybody changing a setting or mending it; all that is busy is.
    """

    code = "database_unavailable"
    busy = False
    passing = False

    @property
    def reason(self) -> str:
        """What the database said, for the log: one line, because those after it show SQL."""
        return str(self.__cause__).partition("\n")[0]


class Unstorable(Exception):
    """A row that the database will never take, whenever it is asked."""


class HistoryFull(Unavailable):
    code = "history_full"


class PoolFull(Unavailable):
    code = "pool_full"


class ShuttingDown(Unavailable):
    code = "server_shutdown"
