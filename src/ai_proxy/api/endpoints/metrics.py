"""GET /metrics: for Prometheus."""

from fastapi import APIRouter, Response

from ai_proxy.api.dependencies import CurrentState

router = APIRouter(tags=["operation"])


@router.get("/metrics", summary="Numbers for Prometheus", operation_id="metrics", response_class=Response)
async def metrics(state: CurrentState) -> Response:
    return Response(state["metrics"].render(), media_type="text/plain; version=0.0.4; charset=utf-8")
