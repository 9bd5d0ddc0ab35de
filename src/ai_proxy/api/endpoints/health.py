"""GET /livez and GET /readyz: whether the process lives, and whether it can serve."""

import asyncio

import msgspec
from fastapi import APIRouter, Response

from ai_proxy.api.dependencies import CurrentState, State
from ai_proxy.core.exceptions import DatabaseUnavailable
from ai_proxy.storage import schema

router = APIRouter(tags=["operation"])

_PATIENCE = 2.0


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
    checks = {"database": await _schema(state), "history": "failing" if state["recorder"].failing else "ok"}
    ready = all(result == "ok" for result in checks.values())
    body = {"status": "ok" if ready else "unavailable", "checks": checks}
    return Response(msgspec.json.encode(body), 200 if ready else 503, media_type="application/json")


for path, endpoint in (("/livez", livez), ("/readyz", readyz)):  # some load balancers ask for the status alone
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


async def _schema(state: State) -> str:
    try:
        async with asyncio.timeout(_PATIENCE):
            current = await schema.is_current(state["database"])
    except (DatabaseUnavailable, TimeoutError):
        return "unavailable"
    return "ok" if current else "not migrated: run 'ai-proxy db upgrade'"
