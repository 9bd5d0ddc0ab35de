"""Embeddings without a model: texts that share words are near each other, and that is all that they mean.

Vectors have 256 dimensions unless the request asks for others: enough to test with, and light.
Source of the shapes: https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import hashlib
import math
import re
import struct
from typing import Annotated, Any, Literal

import msgspec

from ai_proxy.dialects.chat import ProviderFault
from ai_proxy.providers.mock_request import read

DIMENSIONS = 256
_MOST_INPUTS = 2048
_MOST_NUMBERS = 2**20  # in all vectors of one answer
_READ = 100_000  # characters of a text that are looked at
_WORD = re.compile(r"\w+")


class _Request(msgspec.Struct):
    input: str | list[Any]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


def embeddings(body: dict[str, Any], *, model: str, read_tokens: int) -> dict[str, Any]:
    """Raises `ProviderFault` for a request that no provider would take."""
    request = read(_Request, body)
    texts, dimensions = _texts(request.input), request.dimensions or DIMENSIONS
    if not texts or not all(texts):
        raise ProviderFault("input: must not be empty.", status=400)
    if len(texts) > _MOST_INPUTS or len(texts) * dimensions > _MOST_NUMBERS:
        raise ProviderFault("input: too many texts for the mock.", status=400)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector(text, dimensions), request)}
        for index, text in enumerate(texts)
    ]
    spent = read_tokens + _numbers(request.input)
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": spent, "total_tokens": spent}}


def vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1: every word, and the text as a whole, pushes it in directions of its own."""
    found = [0.0] * dimensions
    for word in [text, *_WORD.findall(text[:_READ].casefold())]:
        pushes = struct.unpack("<16H", hashlib.sha256(word.encode()).digest())
        for push in pushes:
            found[(push >> 1) % dimensions] += 1.0 if push & 1 else -1.0
    if not any(found):
        found[0] = 1.0
    length = math.hypot(*found)
    return [number / length for number in found]


def _texts(given: str | list[Any]) -> list[str]:
    """One text for each input; token numbers are words."""
    if isinstance(given, str):
        return [given]
    if all(isinstance(one, int) for one in given):
        return [_tokens(given)] if given else []
    if all(isinstance(one, str) or _is_tokens(one) for one in given):
        return [one if isinstance(one, str) else _tokens(one) for one in given]
    raise ProviderFault("input: must be a text, texts, token numbers, or lists of token numbers.", status=400)


def _is_tokens(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(number, int) for number in given)


def _numbers(given: str | list[Any]) -> int:
    """How many tokens came as numbers."""
    return sum(1 if isinstance(one, int) else len(one) if isinstance(one, list) else 0 for one in given)


def _tokens(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))


def _encoded(numbers: list[float], request: _Request) -> list[float] | str:
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    if request.encoding_format == "base64":
        return base64.b64encode(packed).decode()
    return list(struct.unpack(f"<{len(numbers)}f", packed))
