"""What the gateway asks of a provider."""

from collections.abc import AsyncGenerator
from typing import Protocol

from ai_proxy.core.types import Bounds
from ai_proxy.dialects.call import Call
from ai_proxy.dialects.chat import Chunk, Completion


class Provider(Protocol):
    """One provider, with one key. Raises `UpstreamError` for all that goes wrong there, and nothing else of its own."""

    @property
    def name(self) -> str: ...

    @property
    def default_model(self) -> str: ...

    @property
    def is_mock(self) -> bool: ...

    @property
    def dialects(self) -> frozenset[str]:
        """The wire formats that it takes as they are. Calls in others come translated to `chat`, which all take."""
        ...

    async def complete(self, call: Call, model: str, limits: Bounds) -> Completion: ...

    def stream(self, call: Call, model: str, limits: Bounds) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks. Ends only after a chunk with a finish reason; raises when it breaks off earlier."""
        ...

    async def models(self, limits: Bounds) -> list[str]:
        """The models that it has now. Raises `UpstreamError`."""
        ...
