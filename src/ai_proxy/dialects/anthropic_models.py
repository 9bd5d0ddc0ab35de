"""What Anthropic's models take: it differs by generation, and a model refuses what it does not know.

Sources: https://platform.claude.com/docs/en/build-with-claude/thinking (the table of models),
https://platform.claude.com/docs/en/build-with-claude/effort,
https://platform.claude.com/docs/en/about-claude/models/migration-guide (sampling).
"""

import re
from typing import Any

from ai_proxy.dialects import pivot

# Every model of the 4.5 generation or later writes at least 64,000 tokens in one answer, those of Opus 4 and 4.1
# 32,000. Chat callers who set no limit mean "as much as it takes", and Anthropic counts what was written, not the
# limit, against the account's rate: https://platform.claude.com/docs/en/api/rate-limits
DEFAULT_MAX_TOKENS = 32_000

_GENERATION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2}))?(?!\d)")
_NEWEST = (99, 0)
_FIRST_THINKING = (3, 7)
_FIRST_ADAPTIVE = (4, 6)  # later ones refuse budgets
_FIRST_WITHOUT_SAMPLING = (4, 7)

_LEAST_BUDGET = 1024
_BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
_EFFORTS = {"none": "low", "minimal": "low"}  # thinking cannot be switched off everywhere: low is the nearest


def thinking(model: str, effort: str | None, *, max_tokens: int, forced: bool, continued: bool) -> dict[str, Any]:
    """The fields by which a model is told how much to think.

    `forced`: a tool must be called, which rules thinking out. `continued`: the results of tools are the last message,
    which a budget rules out as long as the thinking before the calls is not there any more.
    """
    generation = _generation(model)
    if effort is None or generation < _FIRST_THINKING:
        return {}
    if generation >= _FIRST_ADAPTIVE:
        fields: dict[str, Any] = {"output_config": {"effort": _known(effort, generation)}}
        if not forced and effort not in _EFFORTS:
            fields["thinking"] = {"type": "adaptive", "display": "summarized"}
        return fields
    budget = min(_BUDGETS.get(effort, 0), max_tokens // 2)  # it is a part of the limit
    if forced or continued or budget < _LEAST_BUDGET:
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def sampling(model: str, request: pivot.Request, *, thinks: bool) -> dict[str, Any]:
    """Chat clients send these by habit: what a model does not have is left out, for it would refuse the whole call.

    Anthropic's temperature ends at 1, which is its default; the 4.5 generation takes one of temperature and `top_p`.
    https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk
    """
    if thinks or _generation(model) >= _FIRST_WITHOUT_SAMPLING:
        return {}
    fields: dict[str, Any] = {}
    if request.temperature is not None and request.temperature < 1:
        fields["temperature"] = request.temperature
    elif request.top_p is not None and request.top_p < 1:
        fields["top_p"] = request.top_p
    if request.top_k is not None:
        fields["top_k"] = request.top_k
    return fields


def _known(effort: str, generation: tuple[int, int]) -> str:
    """The 4.6 generation has no `xhigh`."""
    if effort == "xhigh" and generation == _FIRST_ADAPTIVE:
        return "high"
    return _EFFORTS.get(effort, effort)


def _generation(model: str) -> tuple[int, int]:
    """(4, 5) of `claude-haiku-4-5-20251001`. A name that does not tell is taken for a new one."""
    found = _GENERATION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else _NEWEST
