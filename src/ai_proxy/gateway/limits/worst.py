"""The most that a call may cost. Bounds are those of the request that goes out, so that they are real."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ai_proxy.core.exceptions import ModelNotFound
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Call, Dialect
from ai_proxy.gateway.pricing import Rates, worst_cost
from ai_proxy.gateway.targets import Route, Target

# No text has more tokens than bytes. What is not text is counted by the part, wherever its data are: that many tokens
# are more than any provider counts for a usual image, a minute of sound or a few pages.
PART_TOKENS = 5_000
# Some providers have the model read a text of their own about the tools:
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing
TOOLS_TOKENS = 1_000

_LIMITS: Mapping[Dialect, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
_OF_COMPLETIONS = 16  # https://platform.openai.com/docs/api-reference/completions/create: what no limit means there
_ENDLESS = 2**53  # no limit at all
_PARTS = tuple(
    f'"type":"{kind}'.encode()
    for kind in (
        *("image", "input_image", "input_audio", "audio", "input_file", "file", "document", "video", "input_video"),
        *("web_search", "code_interpreter"),
    )
)


def stated_output(call: Call) -> int | None:
    """The most tokens that the call itself lets be written; None if it says nothing."""
    names = _LIMITS.get(call.dialect)
    if names is None:
        return 0
    body = call.body
    most = 0
    for name in names:
        if name in body:
            most = max(most, _count(body[name]))
    if "n" in body or "best_of" in body:  # how many are written at once, or written and thrown away
        most *= max(_count(body.get("n")), _count(body.get("best_of")), 1)
    return most or None


def bounded(call: Call, most: int) -> tuple[Call, int]:
    """The same call, with a limit of tokens to write if it has none; and how many these are, of all its answers."""
    names = _LIMITS.get(call.dialect)
    if names is None:
        return call, 0
    body = call.body
    bad = [name for name in names if name in body and not _count(body[name])]
    stated = stated_output(call)
    if stated is not None and not bad:
        return call, stated
    ours: dict[str, Any] = {}
    if stated is None:
        # our own wording names the limit as every server knows it, and OpenAI's provider knows better
        name = "max_tokens" if call.is_ours and "max_tokens" in names else names[0]
        ours[name] = min(most, _OF_COMPLETIONS) if call.dialect == "completions" else most
    body = {**_without(body, bad), **ours}
    sent = body if call.is_ours else {**_without(call.fields, bad), **ours}
    call = calls.changed(call, body, sent=sent)
    return call, stated_output(call) or 0


def dearest(route: Route, call: Call, written: int) -> int | None:
    """Nano-dollars, at the dearest target that the call may go to. None when nobody knows the price of any.

    `written` is how many tokens it may write.
    """
    rates = _rates(route)
    read = input_bound(call)
    if len(rates) == 1:
        its = rates[0]
        worst = 0 if its is None else worst_cost(its, read, written)
    else:
        worst = max([worst_cost(its, read, written) for its in rates if its is not None], default=0)
    if not worst and None in rates:
        return None
    return 2 * worst if route.hedge else worst


def input_bound(call: Call) -> int:
    """No fewer tokens than the model will read."""
    body = msgspec.json.encode(call.body)
    tokens = len(body)
    if call.body.get("tools") or call.body.get("functions"):
        tokens += TOOLS_TOKENS
    if b'"type":"' in body:
        tokens += PART_TOKENS * sum(map(body.count, _PARTS))
    return tokens


def _rates(route: Route) -> list[Rates | None]:
    """Of the route, and of the models that take over what is too long or filtered."""
    groups = route.groups
    if route.on_context_length is not None or route.on_content_filter is not None:
        groups = (*groups, *_taking_over(route))
    if len(groups) == 1:
        return [groups[0][0].rates]
    found: list[Rates | None] = []
    for group in groups:
        if (its := group[0].rates) not in found:
            found.append(its)
    return found


def _taking_over(route: Route) -> Iterator[tuple[Target, ...]]:
    for model in (route.on_context_length, route.on_content_filter):
        if model is not None:
            with suppress(ModelNotFound):
                yield from route.lookup(model).groups


def _count(value: object) -> int:
    """A number above 0, which alone is a limit everywhere; else 0."""
    if type(value) is int:
        return value if 0 < value < _ENDLESS else 0
    return math.ceil(value) if type(value) is float and 0 < value < _ENDLESS else 0


def _without(body: Mapping[str, Any], bad: list[str]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in bad}
