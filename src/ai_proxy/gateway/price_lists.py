"""The lists of `genai-prices`: which of them is a provider's, and what they say of a model.

Loading them takes a third of a second: `load` does it, at start. A look-up takes a third of a millisecond.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, Provider

_LISTS = {  # by our presets, where the names differ
    "gemini": "google",
    "gemini-openai": "google",
    "xai": "x-ai",
    "bedrock": "aws",
}
_MOST_CHARACTERS = 300  # of a model's name: callers choose it, and the lists are searched by patterns


class Found(NamedTuple):
    """Nano-dollars: by kind of token, for a million; per request; and what holds above so many tokens read."""

    tariff: dict[str, int]
    request: int
    tiers: tuple[tuple[int, dict[str, int]], ...]


def load() -> None:
    """Have the lists in memory."""
    _providers()


def find(preset: str, model: str, now: float) -> Found | None:
    """What the list of that provider says at a time, in seconds since the epoch. None for what it does not know."""
    if not model or len(model) > _MOST_CHARACTERS:
        return None
    provider, name = _list_of(preset, model)
    if provider is None:
        return None
    # Not `calc_price`: it keeps every name that it was ever asked for.
    known = provider.find_model(name, all_providers=list(_providers().values()))
    if known is None and preset == "openrouter" and ":" in name:  # a way to the same model, such as :nitro
        known = provider.find_model(name.partition(":")[0])
    return None if known is None else _read(known.get_prices(datetime.fromtimestamp(now, UTC)))


@cache
def _providers() -> Mapping[str, "Provider"]:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - slow: only when a provider has list prices

    return {provider.id: provider for provider in get_snapshot().providers}


def _list_of(preset: str, model: str) -> tuple["Provider | None", str]:
    if preset == "huggingface":  # https://huggingface.co/docs/inference-providers: the name ends in who serves it
        name, _, server = model.rpartition(":")
        return _providers().get(f"huggingface_{server}"), name
    return _providers().get(_LISTS.get(preset, preset)), model


class _Prices:
    """A model's prices by their names in the list, at some number of tokens read."""

    def __init__(self, prices: "ModelPrice", read: int) -> None:
        self._prices = prices
        self._read = read

    def tariff(self) -> dict[str, int]:
        """What has no price of its own costs what all that is read, or written, does."""
        read, written = self._price("input_mtok", 0), self._price("output_mtok", 0)
        stored = self._price("cache_write_mtok", read)
        return {
            "input": read,
            "output": written,
            "cache_read": self._price("cache_read_mtok", read),
            "cache_write": stored,
            "cache_write_1h": self._price("cache_write_1h_mtok", stored),
            "input_audio": self._price("input_audio_mtok", read),
            "output_audio": self._price("output_audio_mtok", written),
        }

    def _price(self, name: str, otherwise: int) -> int:
        price = self._prices.__dict__.get(name)
        if price is None:
            return otherwise
        if not isinstance(price, Decimal):
            price = next((tier.price for tier in reversed(price.tiers) if self._read > tier.start), price.base)
        return _nano(price)


def _read(prices: "ModelPrice") -> Found | None:
    given = {name: price for name, price in prices.__dict__.items() if price is not None}
    if "input_mtok" not in given and "output_mtok" not in given:  # by the hour, by the page, …
        return None
    starts = sorted({tier.start for price in given.values() for tier in getattr(price, "tiers", ())})
    tiers = tuple((start, _Prices(prices, start + 1).tariff()) for start in starts)
    request = given.get("requests_kcount")
    return Found(_Prices(prices, 0).tariff(), 0 if request is None else _nano(request / 1000), tiers)


def _nano(dollars: Decimal) -> int:
    return int(dollars.scaleb(9).to_integral_value(ROUND_CEILING))
