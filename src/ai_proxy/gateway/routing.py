"""Which provider answers for a model."""

from collections.abc import Mapping
from typing import NamedTuple

from ai_proxy.providers.base import Provider


class Target(NamedTuple):
    provider: Provider
    model: str


class Router:
    """Models are the first provider's, under its own names; a name with a slash is OpenRouter's, if that is set up."""

    def __init__(self, providers: Mapping[str, Provider], *, default_model: str | None) -> None:
        self._first = next(iter(providers.values()))
        self._openrouter = providers.get("openrouter", self._first)
        self._default_model = default_model or self._first.default_model

    def target(self, model: str | None) -> Target:
        """The provider to ask, and the model's name there. None stands for the default model."""
        model = model or self._default_model
        return Target(self._openrouter if "/" in model else self._first, model)
