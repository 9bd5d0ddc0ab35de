"""GET /livez and GET /readyz: whether the process lives, and whether it can serve."""

import asyncio
from contextlib import suppress

import msgspec
from fastapi import APIRouter, Response

from ai_proxy.api.dependencies import CurrentState, State
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import schema

router = APIRouter(tags=["operation"])

_PATIENCE = 2.0
_AGAIN = "1"  # seconds


@router.get("/livez", summary="Is the process alive?", operation_id="livez")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Can it serve?",
    operation_id="readyz",
    responses={503: {"description": "Not now: `checks` says why."}},
)
async def readyz(state: CurrentState) -> Response:
    checks = {"database": await _schema(state), "history": state["recorder"].state}
    ready = all(result == "ok" for result in checks.values())
    body = {"status": "ok" if ready else "unavailable", "checks": checks}
    status, headers = (200, None) if ready else (503, {"retry-after": _AGAIN})
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


for path, endpoint in (("/livez", livez), ("/readyz", readyz)):  # some load balancers ask for the status alone
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


async def _schema(state: State) -> str:
    if not state["startup"].is_complete:
        return "unavailable"
    asking = asyncio.ensure_future(_is_current(state))
    if not (await asyncio.wait([asking], timeout=_PATIENCE))[0]:
        asking.cancel()  # that takes its time, too, with a server that says nothing
        return "unavailable"
    current = asking.result()
    if current is None:
        return "unavailable"
    return "ok" if current else "not migrated: run 'ai-proxy db upgrade'"


async def _is_current(state: State) -> bool | None:
    """None if nobody can tell."""
    with suppress(DatabaseUnavailable):
        return await schema.is_current(state["database"])
    return None
