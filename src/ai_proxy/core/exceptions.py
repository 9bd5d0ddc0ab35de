"""Every error a client can see.

GatewayError                        500  internal_error
├── ClientError                     400  invalid_request      (the caller's own mistakes)
│   ├── BadRequest                  400  invalid_request
│   │   └── PreviousResponseNotFound     previous_response_not_found
│   ├── Unauthenticated             401  invalid_api_key
│   ├── NotFound                    404  not_found
│   │   ├── ModelNotFound           404  model_not_found
│   │   └── ResponseNotFound        404  response_not_found
│   ├── MethodNotAllowed            405  method_not_allowed
│   ├── RequestTimeout              408  request_timeout
│   ├── IdempotencyConflict         409  idempotency_conflict
│   ├── BodyTooLarge                413  body_too_large
│   ├── UnsupportedMediaType        415  unsupported_media_type
│   ├── IdempotencyKeyReused        422  idempotency_key_reused
│   └── HeadersTooLarge             431  headers_too_large
├── ClientGone                      499  client_gone          (in logs and history only)
├── Unavailable                     503  unavailable
│   ├── DatabaseUnavailable         503  database_unavailable
│   ├── HistoryFull                 503  history_full
│   ├── PoolFull                    503  pool_full
│   └── ShuttingDown                503  server_shutdown
└── UpstreamError                   502  upstream_error
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
        super().__init__(f"There is no previous response {name[:100]!r} of yours.", param="previous_response_id")


class RequestTimeout(ClientError):
    status = 408
    code = "request_timeout"


class IdempotencyConflict(ClientError):
    status = 409
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


class HeadersTooLarge(ClientError):
    status = 431
    code = "headers_too_large"


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
    """`busy`: another process holds the database's lock, which does not last."""

    code = "database_unavailable"
    busy = False

    @property
    def reason(self) -> str:
        """What the database said, for the log: one line, because those after it show SQL."""
        return str(self.__cause__).partition("\n")[0]


class HistoryFull(Unavailable):
    code = "history_full"


class PoolFull(Unavailable):
    code = "pool_full"


class ShuttingDown(Unavailable):
    code = "server_shutdown"


class UpstreamError(GatewayError):
    """A provider failed. `upstream_status` is None when it never answered.

    `wait` is how many seconds the provider itself asked us to wait; `retry_after` is what the client is told, which is
    the `usual_wait` if the provider did not say.
    """

    status = 502
    code = "upstream_error"
    source = "provider"
    should_retry: ClassVar[bool | None] = True
    usual_wait: ClassVar[float | None] = 1.0

    def __init__(
        self, provider: str, message: str, *, upstream_status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{provider}: {message}", retry_after=self.usual_wait if retry_after is None else retry_after)
        self.provider = provider
        self.upstream_status = upstream_status
        self.wait = retry_after


class UpstreamUnreachable(UpstreamError):
    """`code` is upstream_dns or upstream_tls when it is known that it was that.

    `connected` is False when there never was a connection, so that the provider cannot have seen the request.
    """

    code = "upstream_unreachable"

    def __init__(self, provider: str, message: str, *, code: str | None = None, connected: bool = True) -> None:
        super().__init__(provider, message)
        self.connected = connected and code is None
        if code is not None:
            self.code = code


class BadUpstreamResponse(UpstreamError):
    code = "bad_upstream_response"


class StreamTruncated(UpstreamError):
    code = "upstream_stream_truncated"


class ProviderAuth(UpstreamError):
    code = "provider_auth"
    should_retry = False
    usual_wait = None


class ProviderQuota(UpstreamError):
    code = "provider_quota"
    should_retry = False
    usual_wait = None


class UpstreamRejected(UpstreamError):
    """The provider refused the request itself: the client sees the provider's own status."""

    code = "upstream_rejected"
    kind = "invalid_request_error"
    quotes = True
    should_retry = None
    usual_wait = None
    told_status: ClassVar[int | None] = None  # unset: the provider's

    def __init__(self, provider: str, message: str, *, upstream_status: int) -> None:
        super().__init__(provider, message, upstream_status=upstream_status)
        self.status = self.told_status or upstream_status


class ContextLengthExceeded(UpstreamRejected):
    code = "context_length_exceeded"
    told_status = 400


class ContentFiltered(UpstreamRejected):
    """The provider's content filter refused the request. Not its own 403: the client would doubt its own key."""

    code = "content_filter"
    told_status = 400


class UpstreamRateLimited(UpstreamError):
    status = 429
    code = "upstream_rate_limited"
    kind = "rate_limit_error"


class UpstreamOverloaded(UpstreamError):
    status = 503
    code = "upstream_overloaded"
    kind = "overloaded_error"
    usual_wait = 5.0


class UpstreamTimeout(UpstreamError):
    """`code` tells which limit was hit: upstream_timeout_connect, _first_byte, _idle or _total."""

    status = 504
    code = "upstream_timeout"

    def __init__(self, provider: str, message: str, *, phase: str | None = None) -> None:
        super().__init__(provider, message)
        if phase is not None:
            self.code = f"upstream_timeout_{phase}"
