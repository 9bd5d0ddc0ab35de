"""Decoded JSON taken for what it can be: a value of the wrong shape counts as missing."""

from typing import Any


def as_object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: object) -> str:
    """A text, or that of a list of parts: https://docs.mistral.ai/capabilities/reasoning/"""
    if isinstance(value, list):
        texts = (as_object(part).get("text") for part in value)
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""
