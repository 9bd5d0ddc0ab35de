"""Moderations without a model: nothing is ever flagged.

Source of the shapes: https://platform.openai.com/docs/api-reference/moderations
"""

from typing import Any

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_request import Part, digest, read

_MOST_INPUTS = 2048
_OF_IMAGES = frozenset(
    {"self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "violence", "violence/graphic"}
)
_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


class _Texts(msgspec.Struct):
    input: str | list[str]


class _Parts(msgspec.Struct):
    input: list[Part]


def moderations(body: dict[str, Any], *, model: str) -> dict[str, Any]:
    """A result for each text; one for all parts of a mixed input. Raises `ProviderFault` for a bad request."""
    given = body.get("input")
    if isinstance(given, list) and given and isinstance(given[0], dict):
        kinds = {"image" if part.type == "image_url" else "text" for part in read(_Parts, body).input}
        results = [_result(kinds)]
    else:
        texts = read(_Texts, body).input
        results = [_result({"text"}) for _ in ([texts] if isinstance(texts, str) else texts)]
    if not 0 < len(results) <= _MOST_INPUTS:
        message = f"input: must be 1 to {_MOST_INPUTS} texts."
        raise ProviderFault(message, status=400)
    return {"id": f"modr-{digest(body)[:29]}", "model": model, "results": results}


def _result(kinds: set[str]) -> dict[str, Any]:
    return {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0),
        "category_applied_input_types": {name: sorted(kinds & _kinds(name), reverse=True) for name in _CATEGORIES},
    }


def _kinds(category: str) -> set[str]:
    return {"text", "image"} if category in _OF_IMAGES else {"text"}
