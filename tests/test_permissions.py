"""Who may do what: no route without a line in the table, no line without a route."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from ai_proxy.api.permissions import ADMINS, ALL, PERMISSIONS, PUBLIC, Permission
from ai_proxy.app import create_app

DOCUMENTATION = Path(__file__).parent.parent / "docs" / "api.md"

# Files of the framework for the page /docs, which are the same everywhere.
STATIC = {"/static-offline-docs"}
OF_THE_FRAMEWORK = {("GET", "/docs/oauth2-redirect")}

# What anybody may use. To open another route to the world is a decision: it is made here, too.
OPEN = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("POST", "/api/auth/login"),
    ("GET", "/api/auth/oidc/login"),
    ("GET", "/api/auth/oidc/callback"),
    ("POST", "/api/auth/setup"),
}
NAMES = {permission: f"{method} {path}" for (method, path), permission in PERMISSIONS.items()}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("nowhere"))
        return create_app()


def served(app: FastAPI) -> list[tuple[str, str]]:
    """Each method and path. HEAD and OPTIONS are left out where the framework adds them to a GET of the same path."""
    found = [(method, route.path) for route in routes_of(app) for method in route.methods or ()]
    return [
        (method, path) for method, path in found if method not in {"HEAD", "OPTIONS"} or (method, path) in PERMISSIONS
    ]


def routes_of(app: FastAPI) -> list[Route]:
    return [route for route in app.routes if isinstance(route, Route)]


def test_every_route_says_who_may_use_it(app):
    assert [route for route in served(app) if route not in PERMISSIONS and route not in OF_THE_FRAMEWORK] == []


def test_every_line_of_the_table_is_a_route(app):
    assert set(PERMISSIONS) - set(served(app)) == set()


def test_every_path_of_the_description_has_a_row_in_the_documentation(app):
    described = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}

    assert described - set(documented()) == set()


def documented() -> Iterator[tuple[str, str]]:
    """Of the table that docs/api.md begins with. Methods that share a path are named before it: `GET`, `POST /x`."""
    table = DOCUMENTATION.read_text().partition("| method and path |")[2].partition("\n\n")[0]
    for row in table.splitlines():
        methods = []
        for words in re.findall(r"`([^`]+)`", row.removeprefix("|").partition("|")[0]):
            method, _, path = words.partition(" ")
            methods.append(method)
            if path:
                yield from ((method, path) for method in methods)
                methods = []


def test_no_answer_without_a_body_tells_a_type_of_it(app):
    assert [
        route.path
        for route in routes_of(app)
        if isinstance(route, APIRoute) and route.status_code == 204 and route.response_class is not Response
    ] == []


def test_no_route_is_there_twice(app):
    assert [route for route, times in Counter(served(app)).items() if times > 1] == []


def test_what_is_no_route_is_known(app):
    others = [route for route in app.routes if not isinstance(route, Route)]

    assert {route.path for route in others if isinstance(route, Mount)} == STATIC
    assert [route for route in others if not isinstance(route, Mount)] == []


def test_a_head_is_one_of_a_get_with_the_same_permission(app):
    heads = {route.path for route in routes_of(app) if "HEAD" in (route.methods or ())}

    assert [path for path in heads if ("GET", path) not in PERMISSIONS] == []
    assert [
        path for path in heads if PERMISSIONS.get(("HEAD", path), PERMISSIONS["GET", path]) != PERMISSIONS["GET", path]
    ] == []


def test_nothing_else_is_open_to_anybody():
    assert {route for route, permission in PERMISSIONS.items() if permission.is_public} - OPEN == set()


@pytest.mark.parametrize(
    "permission", list(dict.fromkeys(PERMISSIONS.values())), ids=lambda permission: NAMES[permission]
)
def test_a_key_that_may_call_models_may_not_administer(permission):
    assert permission.scope != "calls" or not permission.by_session


@pytest.mark.parametrize(("method", "path"), [route for route in PERMISSIONS if route[0] not in {"GET", "HEAD"}])
def test_a_viewer_changes_nothing_but_what_is_about_the_login(method, path):
    permission = PERMISSIONS[method, path]

    assert permission.is_public or permission.scope is None or "viewer" not in permission.roles


@pytest.mark.parametrize(
    "permission", list(dict.fromkeys(PERMISSIONS.values())), ids=lambda permission: NAMES[permission]
)
def test_an_administrator_may_do_all(permission):
    assert ADMINS <= permission.roles <= ALL


def test_a_line_without_scope_and_session_is_public():
    assert PUBLIC.is_public
    assert not Permission(scope="calls").is_public
    assert not Permission(by_session=True).is_public
