"""What the headers of an answer tell of the caller's limits: as OpenAI, as Anthropic and as the IETF have it.

https://platform.openai.com/docs/guides/rate-limits, https://platform.claude.com/docs/en/api/rate-limits,
https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil

from ai_proxy.gateway.limits.counters import Claim


def headers(claims: Sequence[Claim], *, anthropic: bool = False) -> dict[str, str]:
    """Of each kind, the limit of which least is left. Empty where there are no limits."""
    requests, tokens = _tightest(claims)
    most = None if requests is None else requests.limit.requests_per_minute
    its_most = None if tokens is None else tokens.limit.tokens_per_minute
    told = {**_limits(most, its_most)}
    if requests is not None:
        told["x-ratelimit-remaining-requests"] = str(requests.requests_left)
        told["x-ratelimit-reset-requests"] = duration(requests.requests_reset)
    if tokens is not None:
        told["x-ratelimit-remaining-tokens"] = str(tokens.tokens_left)
        told["x-ratelimit-reset-tokens"] = duration(tokens.tokens_reset)
    if tokens is not None and (
        requests is None or tokens.tokens_left * (most or 0) < requests.requests_left * (its_most or 0)
    ):
        told["ratelimit"] = f'"tokens";r={tokens.tokens_left};t={ceil(tokens.tokens_reset)}'
    elif requests is not None:
        told["ratelimit"] = f'"requests";r={requests.requests_left};t={ceil(requests.requests_reset)}'
    if anthropic:
        _tell_anthropic(told, requests, tokens)
    return told


def duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1s, 6m0s."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    return _whole(ceil(seconds))


@lru_cache(128)
def _whole(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _tightest(claims: Sequence[Claim]) -> tuple[Claim | None, Claim | None]:
    """For requests and for tokens."""
    if len(claims) == 1:
        (only,) = claims
        limit = only.limit
        return None if limit.requests_per_minute is None else only, None if limit.tokens_per_minute is None else only
    requests = tokens = None
    for claim in claims:
        limit = claim.limit
        if limit.requests_per_minute is not None and (requests is None or claim.requests_left < requests.requests_left):
            requests = claim
        if limit.tokens_per_minute is not None and (tokens is None or claim.tokens_left < tokens.tokens_left):
            tokens = claim
    return requests, tokens


@lru_cache(1024)
def _limits(requests: int | None, tokens: int | None) -> Mapping[str, str]:
    """Of both kinds, and both in a policy. Empty if there are none."""
    limits = {kind: most for kind, most in (("requests", requests), ("tokens", tokens)) if most is not None}
    told = {f"x-ratelimit-limit-{kind}": str(most) for kind, most in limits.items()}
    if limits:
        told["ratelimit-policy"] = ", ".join(f'"{kind}";q={most};w=60' for kind, most in limits.items())
    return told


def _tell_anthropic(told: dict[str, str], requests: Claim | None, tokens: Claim | None) -> None:
    now = datetime.now(UTC)
    for kind in ("requests", "tokens"):
        claim, reset = (requests, "requests_reset") if kind == "requests" else (tokens, "tokens_reset")
        if claim is not None:
            told[f"anthropic-ratelimit-{kind}-limit"] = told[f"x-ratelimit-limit-{kind}"]
            told[f"anthropic-ratelimit-{kind}-remaining"] = told[f"x-ratelimit-remaining-{kind}"]
            at = now + timedelta(seconds=getattr(claim, reset))
            told[f"anthropic-ratelimit-{kind}-reset"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
