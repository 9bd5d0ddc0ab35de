"""What the gateway asks of a provider."""

from collections.abc import AsyncGenerator
from typing import Protocol

from ai_proxy.dialects.chat import ChatRequest, Chunk, Completion


class Provider(Protocol):
    """Raises `UpstreamError` for everything that goes wrong at the provider, and nothing else of its own."""

    @property
    def name(self) -> str: ...

    @property
    def default_model(self) -> str: ...

    @property
    def is_mock(self) -> bool: ...

    async def complete(self, request: ChatRequest, model: str) -> Completion: ...

    def stream(self, request: ChatRequest, model: str) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks. Ends only after a chunk with a finish reason; raises when it breaks off earlier."""
        ...
