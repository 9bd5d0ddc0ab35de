"""Where calls for a model can go, and in which order they are tried."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

import msgspec

from ai_proxy.core.catalog import ModelSettings, Strategy, TargetSettings
from ai_proxy.core.exceptions import ModelNotPriced
from ai_proxy.core.resolved import narrowed
from ai_proxy.core.types import Bounds
from ai_proxy.gateway.health import Account, Health
from ai_proxy.gateway.pricing import UNKNOWN, Prices, PriceTag, Rates, blended
from ai_proxy.providers.base import Provider


class Target(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A provider's model behind one key."""

    provider: Provider
    model: str
    limits: Bounds
    health: Health
    label: str
    weight: float = 1.0
    tag: PriceTag = UNKNOWN

    @property
    def rates(self) -> Rates | None:
        """What it costs now. None when nobody knows."""
        return self.tag.rates


class Route(msgspec.Struct, eq=False, kw_only=True):
    """What becomes of the calls for one model. Each group is one target, as often as its provider has keys.

    `lookup` finds the routes named by `on_context_length` and `on_content_filter`. If it goes to `priced_only`, targets
    are passed over of which nobody knows what they cost.
    """

    name: str
    groups: tuple[tuple[Target, ...], ...]
    lookup: Callable[[str], "Route"]
    strategy: Strategy = "order"
    retries: int = 1
    max_attempts: int = 4
    total_timeout: float = 600.0
    hedge: bool = False
    on_context_length: str | None = None
    on_content_filter: str | None = None
    priced_only: bool = False
    _turn: int = 0

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(target for group in self.groups for target in group)

    def order(self, random: Random, now: float, *, stream: bool) -> Sequence[Target]:
        """All targets, the one to be asked first in front. The keys of one provider take turns.

        Raises `ModelNotPriced` if there are none that may be asked.
        """
        groups = self._priced() if self.priced_only else self.groups
        if len(groups) == 1 and len(groups[0]) == 1:
            return groups[0]
        self._turn += 1
        targets = [target for group in groups for target in _rotated(group, self._turn)]
        match self.strategy:
            case "weighted":
                return _weighted(targets, random)
            case "least-latency":
                return _least_latency(targets, random, now, stream=stream)
            case "least-cost":
                return sorted(targets, key=_price)
            case "order":
                return targets

    def _priced(self) -> tuple[tuple[Target, ...], ...]:
        groups = tuple(group for group in self.groups if group[0].rates is not None)
        if not groups:
            raise ModelNotPriced(self.name)
        return groups


class Workshop:
    """Makes routes. Targets for the same model behind the same key share what is known of them."""

    def __init__(
        self,
        providers: Mapping[str, Sequence[Provider]],
        limits: Mapping[str, Bounds],
        lookup: Callable[[str], Route],
        prices: Prices,
        *,
        priced_only: bool = False,
    ) -> None:
        self._keys = {name: tuple((key, Account()) for key in keys) for name, keys in providers.items()}
        self._limits = limits
        self._lookup = lookup
        self._prices = prices
        self._priced_only = priced_only
        self._health: dict[tuple[str, str], tuple[Health, ...]] = {}  # of the targets in the operator's tables

    def configured(self, name: str, model: ModelSettings) -> Route:
        """The route that a table says. Raises `ValueError` for a target whose provider there is not."""
        for target in model.targets:
            if target.provider not in self._keys:
                message = f"models.{name}: no provider {target.provider!r} is set up"
                raise ValueError(message)
            self._health.setdefault((target.provider, target.model), self._unknown(target.provider, target.model))
        groups = tuple(self._targets(target, model) for target in model.targets)
        return Route(
            name=name,
            groups=groups,
            lookup=self._lookup,
            strategy=model.strategy,
            retries=model.retries,
            max_attempts=model.max_attempts,
            total_timeout=model.total_timeout or max(group[0].limits.total for group in groups),
            hedge=model.hedge,
            on_context_length=model.on_context_length,
            on_content_filter=model.on_content_filter,
            priced_only=self._priced_only,
        )

    def learned(self, provider: str, model: str) -> Route:
        """The route for a model that no table names: its provider's, with the limits of that provider."""
        limits = self._limits.get(provider, _LIMITS)
        group = self._group(provider, model, limits, self._prices.tag(provider, model))
        return Route(
            name=model,
            groups=(group,),
            lookup=self._lookup,
            total_timeout=limits.total,
            priced_only=self._priced_only,
        )

    def _targets(self, target: TargetSettings, model: ModelSettings) -> tuple[Target, ...]:
        limits = _narrowed(self._limits.get(target.provider, _LIMITS), target, model.total_timeout)
        weight = target.weight / len(self._keys[target.provider])
        tag = self._prices.tag(target.provider, target.model, target.price)
        return self._group(target.provider, target.model, limits, tag, weight=weight)

    def _group(
        self, provider: str, model: str, limits: Bounds, tag: PriceTag, *, weight: float = 1.0
    ) -> tuple[Target, ...]:
        health = self._health.get((provider, model)) or self._unknown(provider, model)
        return tuple(
            Target(provider=key, model=model, limits=limits, health=its, label=its.label, weight=weight, tag=tag)
            for (key, _), its in zip(self._keys[provider], health, strict=True)
        )

    def _unknown(self, provider: str, model: str) -> tuple[Health, ...]:
        accounts = [account for _, account in self._keys[provider]]
        labels = [f"{provider}/{model}" + (f"#{number}" if number > 1 else "") for number in _from_one(accounts)]
        return tuple(Health(label, account) for label, account in zip(labels, accounts, strict=True))


_LIMITS = Bounds()


def _from_one(things: Sequence[object]) -> range:
    return range(1, len(things) + 1)


def _narrowed(bounds: Bounds, target: TargetSettings, most: float | None) -> Bounds:
    """A provider's, but for those that the target sets itself. No try lasts longer than the call."""
    bounds = narrowed(bounds, target)
    return bounds if most is None else msgspec.structs.replace(bounds, total=min(bounds.total, most))


_UNKNOWN = float("inf")  # a price, or a load


def _price(target: Target) -> float:
    rates = target.rates
    return _UNKNOWN if rates is None else blended(rates)


def _rotated(group: tuple[Target, ...], turn: int) -> tuple[Target, ...]:
    if len(group) == 1:
        return group
    first = turn % len(group)
    return group[first:] + group[:first]


def _weighted(targets: list[Target], random: Random) -> list[Target]:
    """Drawn one after the other, each with the chance that its weight has among those that are left.

    The times at which events of different rates first happen come in just this order.
    """
    return sorted(targets, key=lambda target: random.expovariate(target.weight))


def _least_latency(targets: list[Target], random: Random, now: float, *, stream: bool) -> list[Target]:
    """The better of two drawn by lot, then the others, best first.

    Always the best of all would send everybody to the same target as soon as it shows one good answer.
    """
    scores = {id(target): _load(target, now, stream=stream) for target in targets}
    targets.sort(key=lambda target: scores[id(target)])
    able = [place for place, target in enumerate(targets) if target.health.ready(now)]
    if len(able) > 1:
        targets.insert(0, targets.pop(min(random.sample(able, 2))))
    return targets


def _load(target: Target, now: float, *, stream: bool) -> float:
    """The time that the calls now under way, and one more, would take. An unknown target is tried, by one call."""
    health = target.health
    latency = health.latency(stream=stream).peak(now)
    if not latency:
        return _UNKNOWN if health.running else 0.0
    return latency * (health.running + 1)
