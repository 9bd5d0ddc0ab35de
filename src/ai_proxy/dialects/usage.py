"""Counts of tokens, and sums of money, as providers tell them: taken as far as they can be true."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ai_proxy.core import money
from ai_proxy.core.types import Usage

MOST = 2**53  # tokens: beyond it is no count, and beyond 2**63 no database holds it
_TICKS = 10  # of xAI's, a nano-dollar: https://docs.x.ai/developers/cost-tracking


def counted(
    read: int, written: int, parts: Mapping[str, object], *, cost: int | None = None, estimated: bool = False
) -> Usage:
    """A count whose parts, by their names in `Usage`, never make up more than the whole."""
    if not any(parts.values()):
        return Usage(read, written, estimated, cost=cost)
    left_to_read, left_to_write = read, written
    sizes: dict[str, int] = {}
    for name in _READ:
        sizes[name] = _part(parts.get(name), left_to_read)
        left_to_read -= sizes[name]
    for name in _WRITTEN:
        sizes[name] = _part(parts.get(name), left_to_write)
        left_to_write -= sizes[name]
    sizes[_HOUR] = _part(parts.get(_HOUR), sizes["cache_write_tokens"])
    return Usage(read, written, estimated, cost=cost, **sizes)


def joined(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """What two events of one stream count together."""
    if earlier is None or later is None:
        return later or earlier
    parts = {name: max(getattr(earlier, name), getattr(later, name)) for name in (*_READ, *_WRITTEN, _HOUR)}
    return counted(
        max(earlier.input_tokens, later.input_tokens),
        max(earlier.output_tokens, later.output_tokens),
        parts,
        cost=earlier.cost if later.cost is None else later.cost,
        estimated=later.estimated,
    )


def details(raw: object) -> Mapping[str, Any]:
    """An object within a count. Empty if it is none."""
    return raw if isinstance(raw, dict) else {}


def told_cost(counts: Mapping[str, Any]) -> int | None:
    """What the provider says that the call costs, in nano-dollars. None if it does not, or it cannot be true.

    OpenRouter: https://openrouter.ai/docs/use-cases/usage-accounting; with a key of one's own at the model's provider,
    what that one takes comes on top. Perplexity: https://docs.perplexity.ai/api-reference/chat-completions-post
    """
    ticks = counts.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and not isinstance(ticks, bool) and ticks >= 0:
        return _plausible(-(-ticks // _TICKS))
    cost = counts.get("cost")
    sum_ = _nano(details(cost).get("total_cost") if isinstance(cost, dict) else cost)
    if sum_ is not None and counts.get("is_byok") is True:
        sum_ += _nano(details(counts.get("cost_details")).get("upstream_inference_cost")) or 0
    return sum_


def decoded(raw: msgspec.Raw) -> Mapping[str, Any]:
    """A count in JSON. Empty for what is no object."""
    try:
        return details(msgspec.json.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def count(value: object) -> int | None:
    """A number of tokens, or None for what cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST:
        return value
    return None


_READ = ("cache_read_tokens", "cache_write_tokens", "input_audio_tokens")
_HOUR = "cache_write_1h_tokens"
_WRITTEN = ("output_audio_tokens", "reasoning_tokens")


def _part(value: object, left: int) -> int:
    return min(count(value) or 0, left)


def _nano(amount: object) -> int | None:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return None
    try:
        return _plausible(money.rounded_up(amount))
    except ValueError:
        return None


def _plausible(cost: int) -> int | None:
    return cost if 0 <= cost <= money.DEAREST else None
