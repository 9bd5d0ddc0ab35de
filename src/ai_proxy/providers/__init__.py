"""The providers of this process, first choice first. A new kind is a line here."""

from pydantic import SecretStr

from ai_proxy.core.config import Settings
from ai_proxy.providers.base import Provider
from ai_proxy.providers.http import Http
from ai_proxy.providers.mock import Mock
from ai_proxy.providers.openai import OpenAI

# Name, default model. OpenAI's comes first when both have keys.
_OPENAI_FAMILY = (("openai", "gpt-4o-mini"), ("openrouter", "openrouter/auto"))


def build_providers(settings: Settings, http: Http) -> dict[str, Provider]:
    """Providers by name, in the order in which they are preferred. Never empty."""
    if settings.uses_mock:
        return {"mock": Mock(settings.mock)}
    return {
        name: OpenAI(name, base_url=base_url, api_key=api_key, default_model=default_model, http=http)
        for name, default_model in _OPENAI_FAMILY
        for base_url, api_key in [_account(settings, name)]
        if api_key is not None
    }


def _account(settings: Settings, name: str) -> tuple[str, SecretStr | None]:
    if name == "openai":
        return settings.openai_base_url, settings.openai_api_key
    return settings.openrouter_base_url, settings.openrouter_api_key
