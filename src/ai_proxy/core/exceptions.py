"""Every error a client can see.

GatewayError                        500  internal_error
├── BadRequest                      400  invalid_request
├── Unauthenticated                 401  invalid_api_key
├── NotFound                        404  not_found
├── RequestTimeout                  408  request_timeout
├── BodyTooLarge                    413  body_too_large
├── UnsupportedMediaType            415  unsupported_media_type
├── HeadersTooLarge                 431  headers_too_large
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


class BadRequest(GatewayError):
    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"
    source = "client"


class Unauthenticated(GatewayError):
    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"
    source = "client"


class NotFound(GatewayError):
    status = 404
    code = "not_found"
    kind = "invalid_request_error"
    source = "client"


class RequestTimeout(GatewayError):
    status = 408
    code = "request_timeout"
    kind = "invalid_request_error"
    source = "client"


class BodyTooLarge(GatewayError):
    status = 413
    code = "body_too_large"
    kind = "invalid_request_error"
    source = "client"


class UnsupportedMediaType(GatewayError):
    status = 415
    code = "unsupported_media_type"
    kind = "invalid_request_error"
    source = "client"


class HeadersTooLarge(GatewayError):
    status = 431
    code = "headers_too_large"
    kind = "invalid_request_error"
    source = "client"


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
    code = "database_unavailable"

    @property
    def reason(self) -> str:
        """What the database said, for the log: one line, because those after it show SQL."""
        return str(self.__cause__).partition("\n")[0]


class HistoryFull(Unavailable):
    """The history cannot be written at the moment and no more can be held in memory."""

    code = "history_full"


class PoolFull(Unavailable):
    code = "pool_full"


class ShuttingDown(Unavailable):
    code = "server_shutdown"


class UpstreamError(GatewayError):
    """A provider failed. `upstream_status` is None when it never answered."""

    status = 502
    code = "upstream_error"
    source = "provider"

    def __init__(
        self, provider: str, message: str, *, upstream_status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{provider}: {message}", retry_after=retry_after)
        self.provider = provider
        self.upstream_status = upstream_status


class UpstreamUnreachable(UpstreamError):
    """`code` is upstream_dns or upstream_tls when it is known that it was that."""

    code = "upstream_unreachable"

    def __init__(self, provider: str, message: str, *, code: str | None = None) -> None:
        super().__init__(provider, message)
        if code is not None:
            self.code = code


class BadUpstreamResponse(UpstreamError):
    code = "bad_upstream_response"


class StreamTruncated(UpstreamError):
    code = "upstream_stream_truncated"


class ProviderAuth(UpstreamError):
    code = "provider_auth"
    should_retry = False


class ProviderQuota(UpstreamError):
    code = "provider_quota"
    should_retry = False


class UpstreamRejected(UpstreamError):
    """The provider refused the request itself: the client sees the provider's own status."""

    code = "upstream_rejected"
    kind = "invalid_request_error"
    quotes = True

    def __init__(self, provider: str, message: str, *, upstream_status: int) -> None:
        super().__init__(provider, message, upstream_status=upstream_status)
        self.status = upstream_status


class UpstreamRateLimited(UpstreamError):
    status = 429
    code = "upstream_rate_limited"
    kind = "rate_limit_error"


class UpstreamOverloaded(UpstreamError):
    status = 503
    code = "upstream_overloaded"
    kind = "overloaded_error"


class UpstreamTimeout(UpstreamError):
    """`code` tells which limit was hit: upstream_timeout_connect, _first_byte, _idle or _total."""

    status = 504
    code = "upstream_timeout"

    def __init__(self, provider: str, message: str, *, phase: str | None = None) -> None:
        super().__init__(provider, message)
        if phase is not None:
            self.code = f"upstream_timeout_{phase}"
