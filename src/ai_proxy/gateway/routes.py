"""Providers, their models and the router: built from the settings, and built anew when those have changed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

import structlog

from ai_proxy.core.config import Settings
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.core.sources import ConfigurationError, Problem
from ai_proxy.gateway.discovery import Discovery
from ai_proxy.gateway.pipeline import Gateway
from ai_proxy.gateway.pricing import Prices, load_lists
from ai_proxy.gateway.redaction import Redaction
from ai_proxy.gateway.routing import Names, Router
from ai_proxy.providers import build_providers
from ai_proxy.providers.http import Http

log = structlog.get_logger()


class Routes:
    """Use as an async context manager. Calls that run while the routes change end as they began."""

    def __init__(self, gateway: Gateway, http: Http) -> None:
        self._gateway = gateway
        self._http = http
        self._stack = AsyncExitStack()
        self._discovery: Discovery | None = None
        self._settings: Settings | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def use(self, settings: Settings) -> None:
        """Send calls where these settings say. Raises `ConfigurationError`, and then all stays as it was."""
        stack = AsyncExitStack()
        await asyncio.to_thread(load_lists, settings.resolved_providers())
        router, discovery = build(settings, self._http)
        if self._discovery is not None:
            discovery.take_over(self._discovery)
        self._discovery = discovery
        await stack.enter_async_context(discovery)
        self._gateway.use(router, discovery, Redaction.of(settings.redaction))
        self._settings = settings
        log.info("providers: ready", providers=sorted(discovery.providers), mock=settings.uses_mock)
        old, self._stack = self._stack, stack
        await old.aclose()

    async def reload(self, read: Callable[[], Settings]) -> Sequence[str]:
        """Read the settings again. Returns what is wrong with them: it is logged, and those in force stay so."""
        try:
            settings = read()
            self._check(settings)
            await self.use(settings)
        except ConfigurationError as error:
            problems = [str(problem) for problem in error.problems]
            log.error("reload: the settings are wrong, those before stay in force", problems=problems)
            return problems
        log.info("reload: providers, models, prices and redaction are as the settings say; others need a restart")
        return ()

    def _check(self, settings: Settings) -> None:
        """A file that is gone, or only half written, must not make a mock of a service at work."""
        before = self._settings
        if settings.uses_mock and settings.mock_mode is None and before is not None and not before.uses_mock:
            what = "none is set up any more: set MOCK_MODE=true if the mock is meant to answer"
            raise ConfigurationError(Problem("providers", what))


def build(settings: Settings, http: Http) -> tuple[Router, Discovery]:
    """The router that the settings describe, and the lists of models it looks into, which fill once they are entered.

    Raises `ConfigurationError`.
    """
    resolved = settings.resolved_providers()
    providers = build_providers(resolved, http, mock=settings.mock, pool_timeout=settings.upstream.pool_timeout)
    given = {name: provider.models for name, provider in resolved.items() if provider.models is not None}
    discovery = Discovery(providers, given)
    prices = Prices(settings.prices, {name: provider.preset for name, provider in resolved.items()})
    try:
        router = Router(
            providers,
            settings.resolved_models(),
            limits={name: provider.limits for name, provider in resolved.items()},
            names=_names(resolved, discovery, settings),
            prices=prices,
            priced_only=settings.pricing.unpriced == "refuse",
        )
    except ValueError as error:
        raise ConfigurationError(Problem("models", str(error))) from None
    return router, discovery


def _names(resolved: Mapping[str, ResolvedProvider], discovery: Discovery, settings: Settings) -> Names:
    """What is known of model names. A list that the operator wrote is complete; others may lag behind."""
    return Names(
        default=settings.default_model,
        known=discovery.known,
        complete=frozenset(name for name, given in settings.providers.items() if given.models is not None),
        prefixes={name: provider.prefixes for name, provider in resolved.items()},
        vendored=frozenset(name for name, provider in resolved.items() if provider.vendored),
        whole=frozenset(own for provider in resolved.values() for own in provider.own_names),
    )
