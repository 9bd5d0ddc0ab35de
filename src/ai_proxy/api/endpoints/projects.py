"""/api/projects: what keys and their costs are gathered under, and who is a member."""

from fastapi import APIRouter, Request, Response

from ai_proxy.api.body import parse, read_json
from ai_proxy.api.dependencies import CurrentActor, CurrentState
from ai_proxy.api.openapi import errors, json_body
from ai_proxy.schemas.projects import (
    MemberItem,
    ProjectChange,
    ProjectDetails,
    ProjectItem,
    ProjectList,
    ProjectRequest,
)
from ai_proxy.services import projects

router = APIRouter(prefix="/api/projects", tags=["projects"])

_READ = errors(401, 403, 404, 500, 503)
_WRITE = {**_READ, **errors(400, 408, 409, 413, 415)}


@router.get("", summary="The projects, oldest first", operation_id="list_projects", responses=_READ)
async def list_projects(actor: CurrentActor, state: CurrentState) -> ProjectList:
    return ProjectList(items=[_item(found) for found in await projects.list_all(state["database"], actor)])


@router.post(
    "",
    status_code=201,
    summary="Make a project",
    operation_id="create_project",
    responses=_WRITE,
    openapi_extra=json_body(ProjectRequest),
)
async def create_project(request: Request, actor: CurrentActor, state: CurrentState) -> ProjectItem:
    body = parse(await read_json(request, state["server"]), ProjectRequest)
    return _item(await projects.create(state["database"], actor, body.name))


@router.get("/{project_id}", summary="One project and its members", operation_id="get_project", responses=_READ)
async def get_project(project_id: str, actor: CurrentActor, state: CurrentState) -> ProjectDetails:
    project, members = await projects.find(state["database"], actor, project_id)
    items = [MemberItem.model_validate(member, from_attributes=True) for member in members]
    return ProjectDetails(**_item(project).model_dump(), members=items)


@router.patch(
    "/{project_id}",
    summary="Change or archive a project",
    operation_id="change_project",
    responses=_WRITE,
    openapi_extra=json_body(ProjectChange),
)
async def change_project(request: Request, project_id: str, actor: CurrentActor, state: CurrentState) -> ProjectItem:
    body = parse(await read_json(request, state["server"]), ProjectChange)
    changed = await projects.change(
        state["database"],
        actor,
        project_id,
        name=body.name,
        archived=body.archived is not None,
        history=body.history,
    )
    state["keyring"].clear()
    return _item(changed)


@router.put(
    "/{project_id}/members/{user_id}",
    status_code=204,
    response_class=Response,
    summary="Make a user a member",
    operation_id="add_member",
    responses=_READ,
)
async def add_member(project_id: str, user_id: str, actor: CurrentActor, state: CurrentState) -> None:
    await projects.add_member(state["database"], actor, project_id, user_id)
    state["keyring"].clear()


@router.delete(
    "/{project_id}/members/{user_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a member",
    description="The user's keys of the project stop working, until the user is a member again.",
    operation_id="remove_member",
    responses=_READ,
)
async def remove_member(project_id: str, user_id: str, actor: CurrentActor, state: CurrentState) -> None:
    await projects.remove_member(state["database"], actor, project_id, user_id)
    state["keyring"].clear()


def _item(project: projects.Project) -> ProjectItem:
    return ProjectItem.model_validate(project, from_attributes=True)
