"""What goes wrong at a provider. The whole tree of errors is drawn in `exceptions.py`."""

from typing import ClassVar

from ai_proxy.core.exceptions import GatewayError


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
