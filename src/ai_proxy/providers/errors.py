"""A provider's refusal as one of our errors."""

import math
import re
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from ai_proxy.core.upstream_errors import (
    BadUpstreamResponse,
    ContentFiltered,
    ContextLengthExceeded,
    ProviderAuth,
    ProviderQuota,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from ai_proxy.dialects.chat import ProviderFault

_FIRST_ERROR = 300
_FIRST_REFUSAL = 400
_FIRST_FAILURE = 500
_MAX_MESSAGE = 500
_MAX_RETRY_AFTER = 86_400.0
_SECRETS = re.compile(r"\b(?:sk|pk|rk|aip)[-_][\w-]{6,}|(?<=://)[^/\s@]+(?=@)|(?i:(?<=bearer )\S+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def rejection(provider: str, status: int, fault: ProviderFault, *, retry_after: str | None = None) -> UpstreamError:
    """The error for an answer with `status`, or for a fault found in an answer that claimed to be good."""
    build = _by_words(status, fault) or _BY_STATUS.get(status) or _by_class(status)
    return build(_Refusal(provider, status, clean(fault.message), parse_retry_after(retry_after)))


class _Refusal(NamedTuple):
    """`wait` is in seconds."""

    provider: str
    status: int
    message: str
    wait: float | None


_Build = Callable[[_Refusal], UpstreamError]


def _by_words(status: int, fault: ProviderFault) -> _Build | None:
    """What a refusal means where its code or its words tell more than its status."""
    if status >= _FIRST_FAILURE:
        return None
    build = _BY_CODE.get(fault.code or "")
    if build is None and status in _ABOUT_THE_REQUEST:
        words = fault.message[: 4 * _MAX_MESSAGE]
        build = next((build for pattern, build in _BY_WORDS if pattern.search(words)), None)
    return build


def _by_class(status: int) -> _Build:
    """All other 4xx are about the request as well, and asking again will not help."""
    return _rejected if _FIRST_REFUSAL <= status < _FIRST_FAILURE else _bad_response


def _rejected(refusal: _Refusal) -> UpstreamError:
    """The caller's own mistakes, which only the provider can see."""
    message = refusal.message or f"refused the request with status {refusal.status}"
    return UpstreamRejected(refusal.provider, message, upstream_status=refusal.status)


def _too_long(refusal: _Refusal) -> UpstreamError:
    message = refusal.message or "the request is too long for the model"
    return ContextLengthExceeded(refusal.provider, message, upstream_status=refusal.status)


def _filtered(refusal: _Refusal) -> UpstreamError:
    message = refusal.message or "its content filter refused the request"
    return ContentFiltered(refusal.provider, message, upstream_status=refusal.status)


def _rate_limited(refusal: _Refusal) -> UpstreamError:
    message = "limits the rate of our calls: try again later"
    return UpstreamRateLimited(refusal.provider, message, upstream_status=refusal.status, retry_after=refusal.wait)


def _overloaded(refusal: _Refusal) -> UpstreamError:
    message = "is overloaded: try again later"
    return UpstreamOverloaded(refusal.provider, message, upstream_status=refusal.status, retry_after=refusal.wait)


def _bad_key(refusal: _Refusal) -> UpstreamError:
    message = "refused the gateway's own key: its operator must check it"
    return ProviderAuth(refusal.provider, message, upstream_status=refusal.status)


def _no_quota(refusal: _Refusal) -> UpstreamError:
    message = "the account with the provider has run out of quota"
    return ProviderQuota(refusal.provider, message, upstream_status=refusal.status)


def _timed_out(refusal: _Refusal) -> UpstreamError:
    error = UpstreamTimeout(refusal.provider, "gave up waiting")
    error.upstream_status = refusal.status
    return error


def _bad_response(refusal: _Refusal) -> UpstreamError:
    good = refusal.status < _FIRST_ERROR
    message = "sent an error in place of an answer" if good else f"answered with status {refusal.status}"
    return BadUpstreamResponse(refusal.provider, message, upstream_status=refusal.status)


_BY_STATUS: dict[int, _Build] = {
    401: _bad_key,
    402: _no_quota,
    403: _bad_key,
    407: _bad_response,  # of a proxy between us and the provider
    408: _timed_out,
    429: _rate_limited,
    503: _overloaded,
    529: _overloaded,
}

_BY_CODE: dict[str, _Build] = {
    "context_length_exceeded": _too_long,
    "exceed_context_size_error": _too_long,  # https://github.com/ggml-org/llama.cpp/pull/15780
    "content_filter": _filtered,  # https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
    "content_policy_violation": _filtered,
    "insufficient_quota": _no_quota,
    "API_KEY_INVALID": _bad_key,  # https://ai.google.dev/gemini-api/docs/troubleshooting: Google answers with a 400
}

# A 403 among them: input that was flagged has it at https://openrouter.ai/docs/api/reference/errors-and-debugging
_ABOUT_THE_REQUEST = frozenset({400, 403, 413, 422})

# None of these may speak against a key: a refusal may quote what the caller sent, who could shut it off for everybody.
_BY_WORDS: tuple[tuple[re.Pattern[str], _Build], ...] = (
    (
        re.compile(
            r"\bmaximum (?:context|prompt) length"  # OpenAI, OpenRouter, DeepSeek, vLLM; xAI
            r"|\b(?:prompt|input)(?: is)? too long"  # Anthropic, Bedrock
            r"|\bexceeds?\b.{0,40}\bcontext (?:limit|length|window|size)"  # Anthropic, OpenAI, llama.cpp, Ollama
            r"|\binput token count\b.{0,40}\bexceeds the maximum"  # Gemini
            r"|\btoo (?:many tokens|large for model)"  # Cohere; Mistral
            r"|\breduce the length of the messages"  # Groq
            r"|\blength of all messages is too long"  # Perplexity
            r"|\bmust be less than max_seq_len"  # SiliconFlow
            r"|\btokens? \+ `?max_new_tokens`? must be",  # Text Generation Inference
            re.IGNORECASE,
        ),
        _too_long,
    ),
    (
        re.compile(
            r"\bcontent (?:management|filter|policy)"  # Azure, Anthropic
            r"|\b(?:input|prompt|content) was flagged|\brequires moderation"  # OpenRouter
            r"|\bviolates usage guidelines",  # xAI
            re.IGNORECASE,
        ),
        _filtered,
    ),
)


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
