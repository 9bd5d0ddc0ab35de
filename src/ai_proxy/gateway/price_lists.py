"""The lists of `genai-prices`: which of them is a provider's, and what they say of a model.

All of them take 5 MB, so that only those of the providers in use are kept. To read them takes 50 ms: `load` does it, at
start and at a reload. A look-up takes a third of a millisecond.
"""

import runpy
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
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

_kept: dict[str, Mapping[str, "Provider"]] = {}  # by our presets: lists by their own names


class Found(NamedTuple):
    """Nano-dollars: by kind of token, for a million; per request; and what holds above so many tokens read."""

    tariff: dict[str, int]
    request: int
    tiers: tuple[tuple[int, dict[str, int]], ...]


def load(presets: Collection[str]) -> None:
    """Have the lists of these in memory, and of all that were asked for before: calls to them may still run."""
    missing = [preset for preset in presets if preset not in _kept]
    if missing:
        lists = _read_all()
        _kept.update({preset: _needed(preset, lists) for preset in missing})


def find(preset: str, model: str, now: float) -> Found | None:
    """What the list of that provider says at a time, in seconds since the epoch. None for what it does not know."""
    if not model or len(model) > _MOST_CHARACTERS:
        return None
    load([preset])
    lists = _kept[preset]
    listed, name = _name_in_list(preset, model)
    provider = lists.get(listed)
    if provider is None:
        return None
    # Not `calc_price`: it keeps every name that it was ever asked for.
    known = provider.find_model(name, all_providers=list(lists.values()))
    if known is None and preset == "openrouter" and ":" in name:  # a way to the same model, such as :nitro
        known = provider.find_model(name.partition(":")[0])
    return None if known is None else _prices_of(known.get_prices(datetime.fromtimestamp(now, UTC)))


def _read_all() -> Mapping[str, "Provider"]:
    """Run, not imported: what is imported stays."""
    providers: list[Provider] = runpy.run_module("genai_prices.data")["providers"]
    return {provider.id: provider for provider in providers}


def _needed(preset: str, lists: Mapping[str, "Provider"]) -> Mapping[str, "Provider"]:
    """A provider's own list and those that it falls back on; every server's list where the model says who serves it."""
    if preset == "huggingface":
        return {name: provider for name, provider in lists.items() if name.startswith("huggingface_")}
    own = lists.get(_LISTS.get(preset, preset))
    if own is None:
        return {}
    names = (own.id, *(own.fallback_model_providers or ()))
    return {name: lists[name] for name in names if name in lists}


def _name_in_list(preset: str, model: str) -> tuple[str, str]:
    """Which list has the model, and as what."""
    if preset == "huggingface":  # https://huggingface.co/docs/inference-providers: the name ends in who serves it
        name, _, server = model.rpartition(":")
        return f"huggingface_{server}", name
    return _LISTS.get(preset, preset), model


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


def _prices_of(prices: "ModelPrice") -> Found | None:
    given = {name: price for name, price in prices.__dict__.items() if price is not None}
    if "input_mtok" not in given and "output_mtok" not in given:  # by the hour, by the page, …
        return None
    starts = sorted({tier.start for price in given.values() for tier in getattr(price, "tiers", ())})
    tiers = tuple((start, _Prices(prices, start + 1).tariff()) for start in starts)
    request = given.get("requests_kcount")
    return Found(_Prices(prices, 0).tariff(), 0 if request is None else _nano(request / 1000), tiers)


def _nano(dollars: Decimal) -> int:
    return int(dollars.scaleb(9).to_integral_value(ROUND_CEILING))
