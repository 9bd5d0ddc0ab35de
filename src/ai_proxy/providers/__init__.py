"""The providers of this process, first choice first. A new kind is a line here."""

from ai_proxy.core.config import Settings
from ai_proxy.providers.base import Provider
from ai_proxy.providers.http import Http
from ai_proxy.providers.mock import Mock
from ai_proxy.providers.openai import OpenAI


def build_providers(settings: Settings, http: Http) -> dict[str, Provider]:
    """Providers by name, in the order in which they are preferred. Never empty."""
    if settings.uses_mock:
        return {"mock": Mock(settings.mock)}
    accounts = (
        ("openai", settings.openai_base_url, settings.openai_api_key, "gpt-4o-mini"),
        ("openrouter", settings.openrouter_base_url, settings.openrouter_api_key, "openrouter/auto"),
    )
    return {
        name: OpenAI(name, base_url=base_url, api_key=api_key, default_model=default_model, http=http)
        for name, base_url, api_key, default_model in accounts
        if api_key is not None
    }
