"""The models that providers have: asked for from time to time, the last good list kept."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self

import structlog

from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.types import Bounds
from ai_proxy.gateway.routing import Router
from ai_proxy.providers.base import Provider

log = structlog.get_logger()

_LIMITS = Bounds(first_byte=10.0, idle=10.0, total=20.0)
_PATIENCE = 3.0  # seconds
_MOST = 10_000  # models of one provider that are kept


class Discovery:
    """Use as an async context manager. `given` are the lists that the operator wrote: those providers are not asked.

    Until a list is there, nothing is known of that provider's models. Only a call whose provider depends on that waits,
    and only until each provider was asked once.
    """

    def __init__(
        self,
        providers: Mapping[str, Sequence[Provider]],
        given: Mapping[str, Sequence[str]],
        *,
        interval: float = 600.0,
        patience: float = _PATIENCE,
    ) -> None:
        """`providers` are there once for every key. `interval` and `patience` are in seconds."""
        self._providers = providers
        self._interval = interval
        self._patience = patience
        self._give_up: float | None = None
        self._lists: dict[str, tuple[str, ...]] = {name: tuple(models) for name, models in given.items()}
        self._sets = {name: frozenset(models) for name, models in self._lists.items()}
        self._asked = [name for name in providers if name not in given]
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        if not self._asked or len(providers) == 1:  # there is nothing to learn, or nowhere else to go
            self._settled.set()

    @property
    def is_settled(self) -> bool:
        return self._settled.is_set()

    async def settled(self) -> None:
        """Until each provider was asked once; all who wait do so for a few seconds together, and nobody after them."""
        if self._give_up is None:
            self._give_up = asyncio.get_running_loop().time() + self._patience
        try:
            async with asyncio.timeout_at(self._give_up):
                await self._settled.wait()
        except TimeoutError:
            self._settled.set()

    @property
    def providers(self) -> frozenset[str]:
        return frozenset(self._providers)

    def known(self, provider: str) -> frozenset[str] | None:
        """Its models; None as long as they are not known."""
        return self._sets.get(provider)

    def all(self) -> list[tuple[str, str]]:
        """Every known (provider, model)."""
        return [(name, model) for name in self._providers for model in self._lists.get(name, ())]

    def take_over(self, earlier: "Discovery") -> None:
        """Go on with what another one knew, until the providers have answered."""
        for name in self._asked:
            if name in earlier._lists:
                self._keep(name, earlier._lists[name])
        if self._lists.keys() >= set(self._asked):
            self._settled.set()

    async def __aenter__(self) -> Self:
        if self._asked:
            self._task = asyncio.create_task(self._run(), name="discovery")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._settled.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.gather(*map(self._ask, self._asked))
            self._settled.set()
            await asyncio.sleep(self._interval)

    async def _ask(self, name: str) -> None:
        """With one key after the other, until one is good for it."""
        failure = ""
        for provider in self._providers[name]:
            try:
                models = await provider.models(_LIMITS)
            except GatewayError as error:
                failure = error.code
            except Exception:  # the lists must go on being asked for, whatever one provider does
                log.exception("models: a provider's list cannot be read, the last one stays", provider=name)
            else:
                self._keep(name, tuple(sorted(models)[:_MOST]))
                return
        if failure:
            log.warning("models: a provider's list cannot be read, the last one stays", provider=name, error=failure)

    def _keep(self, name: str, models: tuple[str, ...]) -> None:
        self._lists[name] = models
        self._sets[name] = frozenset(models)


def listing(router: Router, discovery: Discovery) -> dict[str, str]:
    """The names that calls can use, and their owners: the configured ones first, then providers' own.

    A model has its bare name, if no other provider's model has it already and it does not begin with another
    provider's name, by which it would lead there. Otherwise, and if there are several lists, it has one with its own
    provider's before it.
    """
    names = dict.fromkeys(router.configured, "ai-proxy")
    found = discovery.all()
    several = len({provider for provider, _ in found}) > 1
    for provider, model in found:
        before, slash, _ = model.partition("/")
        if not (slash and before in discovery.providers - {provider}):
            names.setdefault(model, provider)
    for provider, model in found:
        if several or names.get(model) != provider:
            names.setdefault(f"{provider}/{model}", provider)
    return names
