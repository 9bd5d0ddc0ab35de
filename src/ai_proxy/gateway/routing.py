"""Which route a model name stands for."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ai_proxy.core.catalog import ModelSettings
from ai_proxy.core.exceptions import BadRequest, ModelNotFound
from ai_proxy.core.types import Bounds
from ai_proxy.gateway.pricing import Prices
from ai_proxy.gateway.targets import Route, Target, Workshop
from ai_proxy.providers.base import Provider

__all__ = ["Found", "Names", "Route", "Router", "Target"]

_BY_BEGINNING = "it begins with "
_TO_OPENROUTER = "names with a slash go to openrouter"
_TO_THE_FIRST = "what is left goes to the first provider"
_MOST_LEARNED = 2048  # routes for names that no table holds: callers may invent any


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of model names.

    `default` is the model of questions that name none; unset, it is the first provider's own. `known` gives the models
    of a provider, or None when nobody knows them; for the providers in `complete` there are no others. `prefixes` are,
    for each provider, the beginnings of the names that are its own; the longest one of all wins. At the providers in
    `vendored` models are named vendor/model, so that `openrouter/auto` is a whole name; so are the `whole` ones.
    """

    default: str | None = None
    known: Callable[[str], frozenset[str] | None] = lambda _: None
    complete: frozenset[str] = frozenset()
    prefixes: Mapping[str, Sequence[str]] = {}
    vendored: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()


class Found(NamedTuple):
    """The route for a name, and the rule by which it was found."""

    route: Route
    rule: str

    @property
    def yields_to_lists(self) -> bool:
        """Whether the rule is weaker than a provider's own list that has the name."""
        return self.rule in {_TO_OPENROUTER, _TO_THE_FIRST} or self.rule.startswith(_BY_BEGINNING)


class Router:
    """Names are looked up anew each time, since providers' lists change; routes, and what is known of targets, stay."""

    def __init__(
        self,
        providers: Mapping[str, Sequence[Provider]],
        models: Mapping[str, ModelSettings],
        *,
        limits: Mapping[str, Bounds],
        names: Names,
        prices: Prices | None = None,
        priced_only: bool = False,
    ) -> None:
        """`providers` come in the order of preference, each once for every key. If `priced_only`, no call goes
        where nobody knows what it costs. Raises `ValueError` for bad tables.
        """
        self.configured: dict[str, Route] = {}  # by names and aliases
        self._providers = providers
        self._names = names
        self._first = next(iter(providers))
        self._workshop = Workshop(providers, limits, self.route, prices or Prices(), priced_only=priced_only)
        self._prefixes = sorted(
            ((prefix, name) for name in providers for prefix in names.prefixes.get(name, ())),
            key=lambda pair: -len(pair[0]),
        )
        self._learned: OrderedDict[tuple[str, str], Route] = OrderedDict()
        for name, model in models.items():
            self._add(self._workshop.configured(name, model), model.aliases)

    def route(self, model: str | None) -> Route:
        """None stands for the default model. Raises `ModelNotFound` where that is certain, else the provider will."""
        configured = self.configured.get(model or self._names.default or "")
        return self.explain(model).route if configured is None else configured

    def explain(self, model: str | None) -> Found:
        """As `route`, with the reason."""
        name = model or self._names.default
        if name is None:
            return self._default()
        configured = self.configured.get(name)
        if configured is not None:
            return Found(configured, "configured" if configured.name == name else f"an alias of {configured.name}")
        for provider, its_name, rule in self._candidates(name):
            if self._may_have(provider, its_name):
                return Found(self._learn(provider, its_name), rule)
        raise ModelNotFound(name)

    def is_certain(self, model: str | None) -> bool:
        """Whether the route is more than a guess, which a provider's list that is still to come may prove wrong."""
        name = model or self._names.default
        if name is None or name in self.configured or ("/" in name and name.partition("/")[0] in self._providers):
            return True
        rules = (rule for provider, its_name, rule in self._candidates(name) if self._may_have(provider, its_name))
        return next(rules, _TO_THE_FIRST) not in (_TO_OPENROUTER, _TO_THE_FIRST)

    def _default(self) -> Found:
        """The first provider's own choice."""
        name = self._providers[self._first][0].default_model
        if not name:
            message = "A model must be named: name one in `model`, or set AI_PROXY_DEFAULT_MODEL."
            raise BadRequest(message, param="model")
        return Found(self._learn(self._first, name), f"the default model of {self._first}")

    def _candidates(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Providers that may have the model, its name there, and the rule: the strongest first."""
        before, slash, rest = name.partition("/")
        if slash and before in self._providers:
            if rest:
                yield before, name if self._is_whole(name, before, rest) else rest, "it names its provider"
            return
        for provider in self._providers:
            if name in (self._names.known(provider) or ()):
                yield provider, name, f"in the list of {provider}"
        for prefix, provider in self._prefixes:
            if name.startswith(prefix):
                yield provider, name, f"{_BY_BEGINNING}{prefix}"
        if slash and "openrouter" in self._providers:
            yield "openrouter", name, _TO_OPENROUTER
        yield self._first, name, _TO_THE_FIRST

    def _may_have(self, provider: str, model: str) -> bool:
        return provider not in self._names.complete or model in (self._names.known(provider) or ())

    def _is_whole(self, name: str, provider: str, rest: str) -> bool:
        """Whether a name that begins with a provider's is that provider's own name of the model."""
        names = self._names
        if name in names.whole or name in (names.known(provider) or ()):
            return True
        return provider in names.vendored and "/" not in rest

    def _learn(self, provider: str, model: str) -> Route:
        """The route for a model that no table names."""
        key = (provider, model)
        route = self._learned.get(key)
        if route is None:
            route = self._learned[key] = self._workshop.learned(provider, model)
            if len(self._learned) > _MOST_LEARNED:
                self._learned.popitem(last=False)
        else:
            self._learned.move_to_end(key)
        return route

    def _add(self, route: Route, aliases: Sequence[str]) -> None:
        for name in (route.name, *aliases):
            if name in self.configured:
                message = f"models: two have the name {name!r}"
                raise ValueError(message)
            self.configured[name] = route
