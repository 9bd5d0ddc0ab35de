"""Nothing was said before: the context of calls that refer to nothing."""

from ai_proxy.gateway.context import Context


async def _no_turns(*_: str) -> tuple[()]:
    return ()


async def _no_response(*_: str) -> None:
    return None


NO_CONTEXT = Context(_no_turns, _no_response, max_bytes=1)
