"""GET /v1/models and /v1/models/{id}: from memory, in one shape that OpenAI's and Anthropic's clients both read."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from ai_proxy.api.dependencies import CurrentPrincipal, CurrentState
from ai_proxy.api.openapi import errors
from ai_proxy.core.exceptions import ModelNotFound

router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.get("/models", summary="The models that can be asked", operation_id="list_models", responses=errors(401, 503))
async def list_models(
    principal: CurrentPrincipal,
    state: CurrentState,
    limit: Annotated[int | None, Query(ge=1, description="Most models on a page. Unset: all.")] = None,
    after_id: str | None = None,
    before_id: str | None = None,
) -> dict[str, Any]:
    owners = state["gateway"].models(principal)
    names = list(owners)
    if after_id in names:
        names = names[names.index(after_id) + 1 :]
    if before_id in names:
        names = names[: names.index(before_id)]
    page = names[-limit:] if limit and before_id else names[:limit]  # the page just before, or from the beginning
    return {
        "object": "list",
        "data": [_item(name, owners[name]) for name in page],
        "has_more": len(page) < len(names),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


@router.get("/models/{model:path}", summary="One model", operation_id="get_model", responses=errors(401, 404, 503))
async def get_model(model: str, principal: CurrentPrincipal, state: CurrentState) -> dict[str, Any]:
    owner = state["gateway"].models(principal).get(model)
    if owner is None:
        raise ModelNotFound(model)
    return _item(model, owner)


def _item(name: str, owner: str) -> dict[str, Any]:
    """What OpenAI has (object, created, owned_by) beside what Anthropic has (type, display_name, created_at).

    Nobody tells when a model was made, so all are of the same day.
    """
    return {
        "id": name,
        "object": "model",
        "created": _SOME_DAY,
        "owned_by": owner,
        "type": "model",
        "display_name": name,
        "lifecycle": "active",
        "created_at": datetime.fromtimestamp(_SOME_DAY, UTC).isoformat().replace("+00:00", "Z"),
    }


_SOME_DAY = 1_735_689_600  # the first of January 2025
