"""A provider's refusal as one of our errors."""

import math
import re
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from ai_proxy.core.exceptions import (
    BadUpstreamResponse,
    ProviderAuth,
    ProviderQuota,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from ai_proxy.dialects.chat import ProviderFault

_PASSED_ON = frozenset({400, 404, 413, 422})  # the caller's own mistakes, which only the provider can see
_FIRST_ERROR = 300
_MAX_MESSAGE = 500
_MAX_RETRY_AFTER = 86_400.0
_OVERLOADED_RETRY_AFTER = 5.0
_SECRETS = re.compile(r"\b(?:sk|pk|rk|aip)[-_][\w-]{6,}|(?<=://)[^/\s@]+(?=@)|(?i:(?<=bearer )\S+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def rejection(provider: str, status: int, fault: ProviderFault, *, retry_after: str | None = None) -> UpstreamError:
    """The error for an answer with `status`, or for a fault found in an answer that claimed to be good."""
    wait = parse_retry_after(retry_after)
    if status == 402 or (status == 429 and fault.code == "insufficient_quota"):  # noqa: PLR2004
        return ProviderQuota(provider, "the account with the provider has run out of quota", upstream_status=status)
    if status in _PASSED_ON:
        message = clean(fault.message) or f"refused the request with status {status}"
        return UpstreamRejected(provider, message, upstream_status=status)
    if status in {503, 529}:
        message = "is overloaded: try again later"
        return UpstreamOverloaded(
            provider, message, upstream_status=status, retry_after=_OVERLOADED_RETRY_AFTER if wait is None else wait
        )
    build = _BY_STATUS.get(status)
    if build is not None:
        return build(provider, status, wait)
    message = "sent an error in place of an answer" if status < _FIRST_ERROR else f"answered with status {status}"
    return BadUpstreamResponse(provider, message, upstream_status=status)


def _rate_limited(provider: str, status: int, wait: float | None) -> UpstreamError:
    message = "limits the rate of our calls: try again later"
    return UpstreamRateLimited(provider, message, upstream_status=status, retry_after=wait)


def _bad_key(provider: str, status: int, _: float | None) -> UpstreamError:
    message = "refused the gateway's own key: its operator must check it"
    return ProviderAuth(provider, message, upstream_status=status)


def _timed_out(provider: str, status: int, _: float | None) -> UpstreamError:
    error = UpstreamTimeout(provider, "gave up waiting")
    error.upstream_status = status
    return error


_BY_STATUS: dict[int, Callable[[str, int, float | None], UpstreamError]] = {
    401: _bad_key,
    403: _bad_key,
    408: _timed_out,
    429: _rate_limited,
}


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110 section 10.2.3): a number or a date. None when it makes no sense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
        seconds = max(seconds, 0.0)
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, _MAX_RETRY_AFTER)


def clean(text: str) -> str:
    """A provider's message fit to be shown: one line, bounded, without anything that looks like a credential."""
    return _SECRETS.sub("***", _CONTROL.sub(" ", text[: 4 * _MAX_MESSAGE])).strip()[:_MAX_MESSAGE]
