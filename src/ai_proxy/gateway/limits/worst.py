"""The most that a call may cost. Bounds are those of the request that goes out, so that they are real."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ai_proxy.core.exceptions import ModelNotFound
from ai_proxy.dialects import call as calls
from ai_proxy.dialects.call import Call, Dialect
from ai_proxy.gateway.access import alternatives
from ai_proxy.gateway.pricing import Rates, worst_cost
from ai_proxy.gateway.targets import Route, Target

# No text has more tokens than bytes. What is not text is counted by the part, wherever its data are: that many tokens
# are more than any provider counts for a usual image, a minute of sound or a few pages.
PART_TOKENS = 5_000
# Some providers have the model read a text of their own about the tools:
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing
TOOLS_TOKENS = 1_000

# The fields that say how many tokens may be written, of every dialect. Where none is named, no model writes any, and
# nothing is reserved for the answer.
LIMITS: Mapping[Dialect, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "embeddings": (),
    "moderations": (),
    "count_tokens": (),
}
_TIMES = ("n", "best_of")
_OF_COMPLETIONS = 16  # https://platform.openai.com/docs/api-reference/completions/create: what no limit means there
_ENDLESS = 2**53  # no limit at all
_PARTS = tuple(
    f'"type":"{kind}'.encode()
    for kind in (
        *("image", "input_image", "input_audio", "audio", "input_file", "file", "document", "video", "input_video"),
        *("web_search", "web_fetch_2", "code_interpreter", "code_execution_2", 'file_search"', 'mcp"'),
    )
)


def stated_output(call: Call) -> int | None:
    """The most tokens that the call itself lets be written; None if it says nothing."""
    names = LIMITS[call.dialect]
    if not names:
        return 0
    body = call.body
    most = 0
    for name in names:
        if name in body:
            most = max(most, _count(body[name]))
    return most * _answers(body) or None


def bounded(call: Call, most: int) -> tuple[Call, int]:
    """The same call, with a limit of tokens to write if it has none; and how many these are, of all its answers."""
    names = LIMITS[call.dialect]
    if not names:
        return call, 0
    body = call.body
    stated = stated_output(call)
    bad = _no_limits(body, names)
    if stated is not None and not bad:
        return call, stated
    ours: dict[str, Any] = {}
    if stated is None:
        # our own wording names the limit as every server knows it, and OpenAI's provider knows better
        name = "max_tokens" if call.is_ours and "max_tokens" in names else names[0]
        ours[name] = min(most, _OF_COMPLETIONS) if call.dialect == "completions" else most
        stated = ours[name] * _answers(body)
    body = {**_without(body, bad), **ours}
    sent = body if call.is_ours else {**_without(call.fields, bad), **ours}
    return calls.changed(call, body, sent=sent), stated


def dearest(route: Route, call: Call, written: int) -> int | None:
    """Nano-dollars, at the dearest target that the call may go to. None when nobody knows the price of any.

    `written` is how many tokens it may write.
    """
    rates = _rates(route, call)
    read = input_bound(call)
    worst, unknown = 0, "plugins" in call.body  # of OpenRouter, which cost beside a model that is free
    for its in rates:
        if its is None:
            unknown = True
        else:
            worst = max(worst, worst_cost(its, read, written))
    if not worst and unknown:
        return None
    return 2 * worst if route.hedge else worst


def input_bound(call: Call) -> int:
    """No fewer tokens than the model will read."""
    body = msgspec.json.encode(call.body)
    tokens = len(body)
    if call.body.get("tools") or call.body.get("functions"):
        tokens += TOOLS_TOKENS
    if "web_search_options" in call.body:
        tokens += PART_TOKENS
    if b'"type":"' in body:
        tokens += PART_TOKENS * sum(map(body.count, _PARTS))
    return tokens


def _rates(route: Route, call: Call) -> list[Rates | None]:
    """Of the route, of the models that take over what is too long or filtered, and of those that the call names."""
    groups = route.groups
    if route.on_context_length is not None or route.on_content_filter is not None:
        groups = tuple(_taking_over(route))
    if "models" in call.body:
        groups = (*groups, *_named_beside(route, call))
    if len(groups) == 1:
        return [groups[0][0].rates]
    found: list[Rates | None] = []
    for group in groups:
        if (its := group[0].rates) not in found:
            found.append(its)
    return found


def _taking_over(first: Route) -> Iterator[tuple[Target, ...]]:
    """A model that takes over may have one that takes over from it."""
    routes = [first]
    for route in routes:
        yield from route.groups
        for model in (route.on_context_length, route.on_content_filter):
            if model is not None:
                with suppress(ModelNotFound):
                    other = route.lookup(model)
                    if all(other is not known for known in routes):
                        routes.append(other)


def _named_beside(route: Route, call: Call) -> Iterator[tuple[Target, ...]]:
    for name in alternatives(route, call.body):
        with suppress(ModelNotFound):
            yield from route.lookup(name).groups


def _no_limits(body: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """What some server might take for a number, or for no limit at all."""
    bad = [name for name in names if name in body and not _count(body[name])]
    if "n" in body or "best_of" in body:
        bad += [name for name in _TIMES if body.get(name) is not None and not _count(body[name])]
    return bad


def _answers(body: Mapping[str, Any]) -> int:
    """How many are written at once, or written and thrown away: some for each prompt."""
    times = 1
    if "n" in body or "best_of" in body:
        times = max(_count(body.get("n")), _count(body.get("best_of")), 1)
    prompts = body.get("prompt")
    if type(prompts) is list:
        times *= max(sum(type(prompt) is not int for prompt in prompts), 1)  # numbers are the tokens of one
    return times


def _count(value: object) -> int:
    """A number above 0, which alone is a limit everywhere; else 0."""
    if type(value) is int:
        return value if 0 < value < _ENDLESS else 0
    return math.ceil(value) if type(value) is float and 0 < value < _ENDLESS else 0


def _without(body: Mapping[str, Any], bad: list[str]) -> Mapping[str, Any]:
    return body if not bad else {name: value for name, value in body.items() if name not in bad}
