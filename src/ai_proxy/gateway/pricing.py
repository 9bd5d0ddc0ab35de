"""What calls cost, in nano-dollars: by the operator's own prices, else by the lists of `genai-prices`.

Rates are for a million tokens. All is reckoned in whole numbers, and rounded once, up.
"""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

from ai_proxy.core import money
from ai_proxy.core.catalog import Price
from ai_proxy.core.presets import PRESETS
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.types import Usage
from ai_proxy.gateway import price_lists

_TOKENS = 1_000_000
_READ = 3  # of four tokens: calls read more than they write
_PERIOD = 1800  # seconds: prices by the time of day change on the hour or the half hour
_BY_PROVIDER = '{"source":"provider"}'


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """Nano-dollars for a million tokens of each kind. What the cache keeps for an hour costs `cache_write` if None."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    input_audio: int
    output_audio: int
    cache_write_1h: int | None = None

    @property
    def hour(self) -> int:
        """What is put into the cache for an hour."""
        return self.cache_write if self.cache_write_1h is None else self.cache_write_1h


class Tier(Tariff, frozen=True, kw_only=True):
    """The tariff for all tokens of a call that reads more than `above` tokens."""

    above: int


class Rates(Tariff, frozen=True, kw_only=True):
    """What a model costs. `request` is for each call, in nano-dollars. The tiers come in rising order."""

    source: Literal["list", "table", "free"]
    request: int = 0
    tiers: tuple[Tier, ...] = ()

    def tariff(self, input_tokens: int) -> Tariff:
        """What holds for a call that reads so much."""
        return next((tier for tier in reversed(self.tiers) if input_tokens > tier.above), self)


FREE = Rates(source="free", input=0, output=0, cache_read=0, cache_write=0, input_audio=0, output_audio=0)


def cost(rates: Rates, usage: Usage) -> int:
    """What a call costs by these rates, whatever its provider says of it."""
    tariff = rates.tariff(usage.input_tokens)
    special = usage.cache_read_tokens + usage.cache_write_tokens + usage.input_audio_tokens
    total = (
        max(usage.input_tokens - special, 0) * tariff.input
        + usage.cache_read_tokens * tariff.cache_read
        + max(usage.cache_write_tokens - usage.cache_write_1h_tokens, 0) * tariff.cache_write
        + usage.cache_write_1h_tokens * tariff.hour
        + usage.input_audio_tokens * tariff.input_audio
        + max(usage.output_tokens - usage.output_audio_tokens, 0) * tariff.output
        + usage.output_audio_tokens * tariff.output_audio
    )
    return min(rates.request + _rounded_up(total), money.DEAREST)


def worst_cost(rates: Rates, input_tokens: int, output_tokens: int) -> int:
    """The most that a call of at most so many tokens may cost, of whatever kind they are."""
    total = _dearest(rates, input_tokens, output_tokens)
    for tier in rates.tiers:
        if input_tokens > tier.above:
            total = max(total, _dearest(tier, input_tokens, output_tokens))
    return rates.request + _rounded_up(total)


def blended(rates: Rates) -> int:
    """Nano-dollars for a million tokens, read and written: enough to say which of two models is the cheaper."""
    return (_READ * rates.input + (4 - _READ) * rates.output) // 4


@lru_cache(4096)
def as_json(rates: Rates) -> str:
    """The rates as they are kept beside a call's cost."""
    return msgspec.json.encode(rates).decode()


def reckoned(rates: Rates | None, usage: Usage) -> tuple[int | None, str | None]:
    """A call's cost, and what it was reckoned by. None when nobody knows."""
    if usage.cost is not None:
        return usage.cost, _BY_PROVIDER
    if rates is None:
        return None, None
    return cost(rates, usage), as_json(rates)


class PriceTag:
    """The rates of one model, asked for anew now and then: prices have dates, and times of day."""

    __slots__ = ("_clock", "_rates", "_read", "_until")

    def __init__(self, read: Callable[[float], Rates | None], clock: Callable[[], float] = time.time) -> None:
        """`read` gives the rates at a time, in seconds since the epoch."""
        self._read = read
        self._clock = clock
        self._rates: Rates | None = None
        self._until = 0.0

    @property
    def rates(self) -> Rates | None:
        """None when nobody knows them."""
        now = self._clock()
        if now >= self._until:
            self._rates = self._read(now)
            self._until = (now // _PERIOD + 1) * _PERIOD
        return self._rates


UNKNOWN = PriceTag(lambda _: None)


class Prices:
    """The operator's prices by provider/model win over those of a target, these over the lists."""

    def __init__(
        self,
        table: Mapping[str, Price] | None = None,
        presets: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`presets` gives those of the providers, by their names. One that is not in it has that of its own name."""
        self._table = {name: rates_by(price) for name, price in (table or {}).items()}
        self._presets = presets or {}
        self._clock = clock

    def tag(self, provider: str, model: str, own: Price | None = None) -> PriceTag:
        """The price tag of a provider's model. `own` is that of the target."""
        given = self._table.get(f"{provider}/{model}") or (None if own is None else rates_by(own))
        preset = self._presets.get(provider, provider)
        if given is not None:
            return PriceTag(lambda _: given, self._clock)
        return PriceTag(lambda now: list_rates(preset or provider, model, now), self._clock)


def load_lists(providers: Mapping[str, ResolvedProvider]) -> None:
    """Have in memory what the lists say of these providers, by their names. Takes 50 ms when one of them is new."""
    presets = {provider.preset or name for name, provider in providers.items()}
    price_lists.load([preset for preset in presets if not _is_local(preset)])


def list_rates(preset: str, model: str, now: float) -> Rates | None:
    """The rates at a time, in seconds since the epoch. What runs on the operator's own machines is free."""
    if _costs_nothing(preset, model):
        return FREE
    found = price_lists.find(preset, model, now)
    if found is None:
        return None
    tiers = tuple(Tier(above=above, **tariff) for above, tariff in found.tiers)
    return Rates(source="list", request=found.request, tiers=tiers, **found.tariff)


def _costs_nothing(preset: str, model: str) -> bool:
    match preset:
        case "openrouter":  # https://openrouter.ai/docs/guides/routing/model-variants/free
            return model.endswith(":free")
        case "openai":  # https://platform.openai.com/docs/guides/moderation
            return model.startswith("omni-moderation-")
    return _is_local(preset)


def _is_local(preset: str) -> bool:
    return preset in PRESETS and PRESETS[preset].local


def rates_by(price: Price) -> Rates:
    """The rates that an operator wrote. What is unset costs what all that is read, or written, does."""
    read, written = _nano(price.input), _nano(price.output)
    return Rates(
        source="table",
        input=read,
        output=written,
        cache_read=read if price.cache_read is None else _nano(price.cache_read),
        cache_write=read if price.cache_write is None else _nano(price.cache_write),
        input_audio=read if price.input_audio is None else _nano(price.input_audio),
        output_audio=written if price.output_audio is None else _nano(price.output_audio),
        request=_nano(price.request),
    )


def _dearest(tariff: Tariff, read: int, written: int) -> int:
    """All tokens as the dearest kind of them."""
    reading = max(tariff.input, tariff.cache_read, tariff.cache_write, tariff.cache_write_1h or 0, tariff.input_audio)
    return read * reading + written * max(tariff.output, tariff.output_audio)


def _nano(amount: float) -> int:
    return money.rounded_up(amount)


def _rounded_up(total: int) -> int:
    return -(-total // _TOKENS)
