"""The providers of this process. A new kind is a line here."""

from collections.abc import Callable, Mapping

from ai_proxy.core.groups import MockSettings
from ai_proxy.core.presets import Kind
from ai_proxy.core.resolved import ResolvedProvider
from ai_proxy.providers.anthropic import Anthropic
from ai_proxy.providers.base import Provider
from ai_proxy.providers.bedrock import Bedrock
from ai_proxy.providers.gemini import Gemini
from ai_proxy.providers.http import Channel, Http
from ai_proxy.providers.mock import Mock
from ai_proxy.providers.openai import OpenAI

_KINDS: Mapping[Kind, Callable[[ResolvedProvider, str, Channel], Provider]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "gemini": Gemini,
    "bedrock": Bedrock,
}


def build_providers(
    resolved: Mapping[str, ResolvedProvider], http: Http, *, mock: MockSettings, pool_timeout: float
) -> dict[str, list[Provider]]:
    """Each provider once for every key that it has, by name, in the order in which they are preferred."""
    return {name: _build(provider, http, mock=mock, pool_timeout=pool_timeout) for name, provider in resolved.items()}


def _build(provider: ResolvedProvider, http: Http, *, mock: MockSettings, pool_timeout: float) -> list[Provider]:
    if provider.kind == "mock":
        return [Mock(provider.name, mock)]
    channel = http.channel(provider.name, max_connections=provider.max_connections, pool_timeout=pool_timeout)
    keys = [key.get_secret_value() for key in provider.api_keys] or [""]
    return [_KINDS[provider.kind](provider, key, channel) for key in keys]
