"""Every route, asked by everybody for everything: what comes back follows from the table of permissions alone."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx2
import pytest

from ai_proxy.api.permissions import PERMISSIONS, Permission
from ai_proxy.core.ids import uuid7
from tests.world import PASSWORD, ROLES, SCOPES, World

Route = tuple[str, str]

QUESTION = "secret-question-of-a-tenant"
CHAT = {"model": "mock", "messages": [{"role": "user", "content": QUESTION}]}
SETS_OF_SCOPES = [*((scope,) for scope in SCOPES), SCOPES]


class Caller(NamedTuple):
    """Who asks. `name` is a role and its way of asking, such as "member by a key for calls"; no role is nobody."""

    name: str
    role: str | None = None
    scopes: tuple[str, ...] | None = None  # None: a session
    headers: Mapping[str, str] = {}


CALLERS = [
    Caller("nobody"),
    Caller("a wrong key", headers={"authorization": "Bearer wrong-wrong-wrong-wrong"}),
    Caller("a wrong x-api-key", headers={"x-api-key": "wrong-wrong-wrong-wrong"}),
    Caller("a wrong cookie", headers={"cookie": "aiproxy_session=wrong"}),
    *(Caller(f"{role}, signed in", role) for role in ROLES),
    *(Caller(f"{role} by a key for {'+'.join(scopes)}", role, scopes) for role in ROLES for scopes in SETS_OF_SCOPES),
]


class Things(NamedTuple):
    """What an identifier in a path may stand for, made for one request."""

    world: World
    owner: str  # of what is asked for: a user's id
    caller: str  # a user's id, too
    key: str | None  # the caller's, if it has one
    session: str | None
    own_key_id: str | None = None
    project: str | None = None  # what is asked for is in it, and the caller is a member

    def user_id(self) -> str:
        return self.owner

    def key_id(self) -> str:
        return self.world.key(self.owner)[0]

    def session_id(self) -> str:
        return self.world.login(self.owner)[0]

    def project_id(self) -> str:
        return self.world.project(self.owner)

    def limited_key(self) -> str:
        return self.world.limited(f"key:{self.key_id()}").partition(":")[2]

    def limited_user(self) -> str:
        user_id = self.owner if self.owner == self.caller else self.world.user()
        return self.world.limited(f"user:{user_id}").partition(":")[2]

    def limited_project(self) -> str:
        return self.world.limited(f"project:{self.project_id()}").partition(":")[2]

    def exchange_id(self) -> str:
        return self._exchange()[0]

    def conversation_id(self) -> str:
        return self._exchange()[1]

    def _exchange(self) -> tuple[str, str]:
        own = self.owner == self.caller and self.own_key_id
        return self.world.exchange(self.owner, own or self.key_id(), self.project)

    def response_id(self) -> str:
        """Belongs to a key, not to a person."""
        own = self.owner == self.caller and self.key is not None
        key = self.key if own else self.world.key(self.owner)[1]
        body = {"model": "mock", "input": QUESTION}
        made = self.world.client.post("/v1/responses", json=body, headers={"authorization": f"Bearer {key}"})
        return made.json()["id"] if made.status_code == 200 else "resp_none"


class Sample(NamedTuple):
    """A request that whoever may make it is answered with `ok`.

    `identifiers` make what stands in the path. What is another's is hidden (404) from all but administrators, from
    them too if it is of a `key`. `but` says where it is otherwise: by role and whose it is.
    """

    ok: int = 200
    body: Mapping[str, Any] | None = None
    identifiers: Mapping[str, Callable[[Things], str]] = {}
    fixed: Mapping[str, str] = {}
    but: Mapping[tuple[str, str], int] = {}
    of_a_key: bool = False
    shared: int | None = None  # what a member gets for what is another's in a project of both
    takes: frozenset[str] = frozenset()  # fields beside those of the body


def limits(method: str, body: dict[str, Any] | None, **fixed: str) -> list[Sample]:
    """Everybody may limit their own keys; people and projects only administrators."""
    ok = 200 if method == "PUT" else 204
    only_seen = {("member", "own"): 403}
    return [
        Sample(ok, body, {"subject_id": Things.limited_key}, {"kind": "key", **fixed}),
        Sample(ok, body, {"subject_id": Things.limited_user}, {"kind": "user", **fixed}, only_seen),
        Sample(ok, body, {"subject_id": Things.limited_project}, {"kind": "project", **fixed}, only_seen),
        Sample(404, body, {"subject_id": Things.key_id}, {"kind": "service", **fixed}),
    ]


LIMIT = {"requests_per_minute": 100_000}
BUDGET = {"amount_usd": "1000000"}
EXCHANGE = {"exchange_id": Things.exchange_id}
CONVERSATION = {"conversation_id": Things.conversation_id}
NEW_USER = {"name": "secret-new@example.org"}

# What stands here for each route is all that a new one needs.
SAMPLES: dict[Route, list[Sample]] = {
    ("POST", "/api/ask"): [Sample(body={"question": QUESTION})],
    ("POST", "/api/streaming"): [Sample(body={"question": QUESTION})],
    ("GET", "/api/history"): [Sample()],
    ("GET", "/api/history/export"): [Sample()],
    ("POST", "/api/history/import"): [Sample(415)],  # it takes lines of JSON
    ("GET", "/api/history/{exchange_id}"): [Sample(identifiers=EXCHANGE, shared=200)],
    ("DELETE", "/api/history/{exchange_id}"): [Sample(204, identifiers=EXCHANGE, shared=403)],
    ("PUT", "/api/history/{exchange_id}/feedback"): [Sample(204, {"thumb": "up"}, EXCHANGE, shared=204)],
    ("DELETE", "/api/history/{exchange_id}/feedback"): [Sample(204, identifiers=EXCHANGE, shared=204)],
    ("PUT", "/api/history/{exchange_id}/tags"): [Sample(body={"tags": ["good"]}, identifiers=EXCHANGE, shared=200)],
    ("POST", "/api/history/{exchange_id}/fork"): [Sample(201, identifiers=EXCHANGE, shared=403)],
    ("GET", "/api/conversations"): [Sample()],
    ("GET", "/api/conversations/{conversation_id}"): [Sample(identifiers=CONVERSATION, shared=200)],
    ("PATCH", "/api/conversations/{conversation_id}"): [Sample(200, {"title": "t"}, CONVERSATION, shared=403)],
    ("DELETE", "/api/conversations/{conversation_id}"): [Sample(identifiers=CONVERSATION, shared=403)],
    ("DELETE", "/api/users/{user_id}/history"): [Sample(identifiers={"user_id": Things.user_id})],
    ("GET", "/api/me/usage"): [Sample()],
    ("GET", "/api/usage"): [Sample()],
    ("GET", "/api/audit"): [Sample()],
    ("POST", "/v1/chat/completions"): [Sample(body=CHAT)],
    ("POST", "/v1/responses"): [Sample(body={"model": "mock", "input": QUESTION})],
    ("GET", "/v1/responses/{response_id}"): [Sample(identifiers={"response_id": Things.response_id}, of_a_key=True)],
    ("DELETE", "/v1/responses/{response_id}"): [Sample(identifiers={"response_id": Things.response_id}, of_a_key=True)],
    ("POST", "/v1/messages"): [Sample(body={**CHAT, "max_tokens": 10})],
    ("POST", "/v1/messages/count_tokens"): [Sample(body=CHAT)],
    ("POST", "/v1/completions"): [Sample(body={"model": "mock", "prompt": QUESTION})],
    ("POST", "/v1/embeddings"): [Sample(body={"model": "mock", "input": QUESTION})],
    ("POST", "/v1/moderations"): [Sample(body={"model": "mock", "input": QUESTION})],
    ("GET", "/v1/models"): [Sample()],
    ("GET", "/v1/models/{model:path}"): [
        Sample(identifiers={"model:path": lambda _: "mock"}, but={(role, "other"): 200 for role in ROLES})
    ],
    ("POST", "/api/auth/login"): [Sample(body={"name": "secret-member@example.org", "password": PASSWORD})],
    ("POST", "/api/auth/setup"): [
        Sample(403, body={"token": "x", "name": "secret-boss@example.org", "password": PASSWORD})
    ],
    ("GET", "/api/auth/oidc/login"): [Sample(404)],
    ("GET", "/api/auth/oidc/callback"): [Sample(404)],
    ("POST", "/api/auth/logout"): [Sample(204)],
    ("GET", "/api/auth/me"): [Sample()],
    ("POST", "/api/auth/password"): [Sample(204, body={"old_password": PASSWORD, "new_password": PASSWORD})],
    ("GET", "/api/auth/sessions"): [Sample()],
    ("DELETE", "/api/auth/sessions/{session_id}"): [Sample(204, identifiers={"session_id": Things.session_id})],
    ("GET", "/api/users"): [Sample()],
    ("POST", "/api/users"): [Sample(201, body=NEW_USER, takes=frozenset({"role"}))],
    ("GET", "/api/users/{user_id}"): [Sample(identifiers={"user_id": Things.user_id})],
    ("PATCH", "/api/users/{user_id}"): [
        Sample(
            body={"disabled": False},
            identifiers={"user_id": Things.user_id},
            but={("admin", "own"): 409},
            takes=frozenset({"role"}),
        )
    ],
    ("GET", "/api/keys"): [Sample()],
    ("POST", "/api/keys"): [Sample(201, body={"name": "secret-key-name"}, takes=frozenset({"user_id"}))],
    ("GET", "/api/keys/{key_id}"): [Sample(identifiers={"key_id": Things.key_id})],
    ("PATCH", "/api/keys/{key_id}"): [Sample(body={"name": "secret-key-name"}, identifiers={"key_id": Things.key_id})],
    ("DELETE", "/api/keys/{key_id}"): [Sample(204, identifiers={"key_id": Things.key_id})],
    ("POST", "/api/keys/{key_id}/rotate"): [Sample(body={"overlap": 5}, identifiers={"key_id": Things.key_id})],
    ("GET", "/api/projects"): [Sample()],
    ("POST", "/api/projects"): [Sample(201, body={"name": "secret-project"})],
    ("GET", "/api/projects/{project_id}"): [Sample(identifiers={"project_id": Things.project_id})],
    ("PATCH", "/api/projects/{project_id}"): [
        Sample(body={"archived": True}, identifiers={"project_id": Things.project_id})
    ],
    ("PUT", "/api/projects/{project_id}/members/{user_id}"): [
        Sample(204, identifiers={"project_id": Things.project_id, "user_id": Things.user_id})
    ],
    ("DELETE", "/api/projects/{project_id}/members/{user_id}"): [
        Sample(204, identifiers={"project_id": Things.project_id, "user_id": Things.user_id})
    ],
    ("GET", "/api/limits"): [Sample()],
    ("PUT", "/api/limits/service"): [Sample(body=LIMIT)],
    ("DELETE", "/api/limits/service"): [Sample(204)],
    ("PUT", "/api/limits/{kind}/{subject_id}"): limits("PUT", LIMIT),
    ("DELETE", "/api/limits/{kind}/{subject_id}"): limits("DELETE", None),
    ("GET", "/api/budgets"): [Sample()],
    ("PUT", "/api/budgets/service/{period}"): [Sample(body=BUDGET, fixed={"period": "day"})],
    ("DELETE", "/api/budgets/service/{period}"): [Sample(204, fixed={"period": "day"})],
    ("PUT", "/api/budgets/{kind}/{subject_id}/{period}"): limits("PUT", BUDGET, period="day"),
    ("DELETE", "/api/budgets/{kind}/{subject_id}/{period}"): limits("DELETE", None, period="day"),
    ("GET", "/"): [Sample()],
    ("HEAD", "/"): [Sample()],
    ("GET", "/livez"): [Sample()],
    ("GET", "/readyz"): [Sample()],
    ("GET", "/metrics"): [Sample()],
    ("GET", "/docs"): [Sample()],
    ("GET", "/openapi.json"): [Sample()],
}
ROUTES = sorted(set(SAMPLES) & set(PERMISSIONS), key=str)
PROTECTED = [route for route in ROUTES if not PERMISSIONS[route].is_public]
OPEN = [route for route in ROUTES if PERMISSIONS[route].is_public]
named = "{0[0]} {0[1]}".format


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


def whose(sample: Sample) -> tuple[str, ...]:
    shared = () if sample.shared is None else ("shared",)
    return ("own", "other", *shared, "unknown", "malformed") if sample.identifiers else ("own",)


def expected(permission: Permission, sample: Sample, caller: Caller, owner: str) -> set[int]:
    if caller.role is None or (caller.scopes is None and not permission.by_session):
        return {401}
    if caller.role not in permission.roles or (caller.scopes is not None and not permission.admits(caller.scopes)):
        return {403}
    if owner == "malformed":
        return {400, 404}
    if (caller.role, owner) in sample.but:
        return {sample.but[caller.role, owner]}
    only_key = (
        permission.or_scope is not None and caller.scopes is not None and permission.or_scope not in caller.scopes
    )
    if owner == "shared" and sample.shared is not None and caller.role != "admin" and not only_key:
        return {sample.shared}
    hidden = owner in {"other", "shared"} and (sample.of_a_key or only_key or caller.role != "admin")
    return {404} if hidden or owner == "unknown" else {sample.ok}


def ask(world: World, route: Route, sample: Sample, caller: Caller, owner: str = "own") -> httpx2.Response:
    """One request of one caller, who has a new key or session each time."""
    headers, things = {"sec-fetch-site": "same-origin", **caller.headers}, _things(world, caller, owner)
    if things.key is not None:
        headers["authorization"] = f"Bearer {things.key}"
    if things.session is not None:
        headers["cookie"] = f"aiproxy_session={things.session}"
    _prepare(world, route)
    return request(world, route, sample, headers, _path(route[1], sample, things, owner))


def request(world: World, route: Route, sample: Sample, headers, path: str | None = None, **more) -> httpx2.Response:
    """`more` are fields besides those of the sample. What makes a user makes another one each time."""
    body = None if sample.body is None else {**sample.body, **more}
    if body and route in {("POST", "/api/users"), ("POST", "/api/projects")}:
        body["name"] = f"secret-{uuid7()}@example.org"
    world.client.cookies.clear()
    return world.client.request(route[0], path or route[1], headers=headers, json=body, follow_redirects=True)


def _things(world: World, caller: Caller, owner: str) -> Things:
    user_id = world.users[caller.role or "member"]
    key_id, key = world.key(user_id, caller.scopes) if caller.role and caller.scopes is not None else (None, None)
    session = world.login(user_id)[1] if caller.role and caller.scopes is None else None
    project = world.project(user_id) if owner == "shared" else None
    owner_id = world.user() if owner in {"other", "shared"} else user_id
    return Things(world, owner_id, user_id, key, session, key_id, project)


def _path(path: str, sample: Sample, things: Things, owner: str) -> str:
    values = dict(sample.fixed)
    for name, make in sample.identifiers.items():
        values[name] = {"unknown": uuid7(), "malformed": "a'%20OR%201=1--%0d%0a"}.get(owner) or make(things)
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def _prepare(world: World, route: Route) -> None:
    if "/service" in route[1]:
        world.limited("service")


# The table of samples


def test_every_route_has_a_sample():
    assert set(PERMISSIONS) == set(SAMPLES), "a new route needs a line in SAMPLES"


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_the_samples_fill_the_path(route):
    given = [set(sample.identifiers) | set(sample.fixed) for sample in SAMPLES[route]]

    assert all(names == {part[1:-1] for part in route[1].split("/") if part.startswith("{")} for names in given)


# The walk


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
@pytest.mark.parametrize("route", PROTECTED, ids=named)
def test_everybody_gets_what_the_table_says(world, route, caller):
    wrong = []
    for sample in SAMPLES[route]:
        for owner in whose(sample):
            response = ask(world, route, sample, caller, owner)
            if response.status_code not in expected(PERMISSIONS[route], sample, caller, owner):
                wrong.append((owner, sample.fixed, response.status_code, response.text[:200]))

    assert wrong == []


@pytest.mark.parametrize("route", OPEN, ids=named)
def test_what_is_open_to_anybody_tells_nothing_of_anybody(world, route):
    world.client.post("/api/ask", json={"question": QUESTION}, headers=bearer(world, "member", ("calls",)))
    [sample] = SAMPLES[route]

    response = ask(world, route, sample, CALLERS[0])

    told = response.text.replace(str(sample.body and sample.body.get("name")), "")
    assert response.status_code == sample.ok
    assert "secret-" not in told
    assert [user for user in world.users.values() if user in told and route[1] != "/api/auth/login"] == []


# What is in lists, and what is named in bodies and queries


LISTS = [route for route in PROTECTED if route[0] == "GET" and "{" not in route[1]]


@pytest.mark.parametrize("role", ["member", "viewer"])
@pytest.mark.parametrize("route", LISTS, ids=named)
def test_a_list_has_nothing_of_others(world, route, role):
    others = _others(world)
    by_key = ask(world, route, SAMPLES[route][0], Caller("key", role, SCOPES))
    by_session = ask(world, route, SAMPLES[route][0], Caller("session", role))

    assert [name for name, other in others.items() if other in by_key.text + by_session.text] == []


@pytest.mark.parametrize("route", [route for route in LISTS if route[1] != "/v1/models"], ids=named)
@pytest.mark.parametrize("name", ["user", "user_id", "key", "project", "key_id", "owner"])
def test_no_parameter_opens_the_lists_of_others(world, route, name):
    others = _others(world)
    wanted = others[name.removesuffix("_id").replace("owner", "user")]
    asked = {"headers": bearer(world, "member", SCOPES), "params": {name: wanted}}

    found = world.client.get(route[1], **asked)

    assert found.status_code < 500
    assert [name for name, other in others.items() if f'"{other}"' in found.text and other != wanted] == []
    assert '"secret-question-of-another"' not in found.text


@pytest.mark.parametrize("name", ["user", "project"])
def test_a_key_cannot_be_made_for_others_and_the_refusal_does_not_tell_whether_they_exist(world, name):
    headers = bearer(world, "member", SCOPES)
    bodies = [{"name": "secret-key-name", f"{name}_id": value} for value in (_others(world)[name], uuid7())]

    theirs, unknown = (world.client.post("/api/keys", json=body, headers=headers) for body in bodies)

    assert theirs.status_code in {403, 404}
    assert theirs.status_code == unknown.status_code
    assert theirs.json()["error"]["message"] == unknown.json()["error"]["message"]


def _others(world: World) -> dict[str, str]:
    """Identifiers of what belongs to somebody else, who has asked a question with it."""
    user_id = world.user()
    key_id, key = world.key(user_id)
    question = {"question": "secret-question-of-another"}
    world.client.post("/api/ask", json=question, headers={"authorization": f"Bearer {key}"}).raise_for_status()
    project_id = world.project(user_id)
    for subject in (f"user:{user_id}", f"key:{key_id}", f"project:{project_id}"):
        world.limited(subject)
    return {"user": user_id, "key": key_id, "project": project_id, "session": world.login(user_id)[0]}


# Two credentials at one time


def bearer(world: World, role: str, scopes) -> dict[str, str]:
    return {"authorization": f"Bearer {world.key(world.users[role], scopes)[1]}"}


def cookie(world: World, role: str) -> dict[str, str]:
    token = world.login(world.users[role])[1]
    return {"cookie": f"aiproxy_session={token}", "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize("route", PROTECTED, ids=named)
def test_a_wrong_key_is_not_made_good_by_an_administrators_cookie(world, route):
    caller = Caller("both", headers={**cookie(world, "admin"), "authorization": "Bearer wrong-wrong-wrong-wrong"})

    assert {ask(world, route, sample, caller).status_code for sample in SAMPLES[route]} == {401}


@pytest.mark.parametrize("route", PROTECTED, ids=named)
def test_a_key_that_may_nothing_gets_nothing_by_an_administrators_cookie(world, route):
    permission = PERMISSIONS[route]
    scope = next(scope for scope in SCOPES if scope != permission.scope)
    caller = Caller("both", headers={**cookie(world, "admin"), **bearer(world, "member", (scope,))})

    assert {ask(world, route, sample, caller).status_code for sample in SAMPLES[route]} == {403}


# Requests that another site makes in somebody's browser


CHANGES = [route for route in PROTECTED if PERMISSIONS[route].by_session and route[0] not in {"GET", "HEAD"}]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("route", CHANGES, ids=named)
def test_a_change_by_a_cookie_must_come_from_our_own_pages(world, route, headers):
    sample = SAMPLES[route][0]
    token = cookie(world, "admin")["cookie"]
    path = _path(route[1], sample, _things(world, Caller("admin", "admin"), "own"), "own")

    response = request(world, route, sample, {"cookie": token, **headers}, path)

    assert response.status_code == 403


# Fields that are nobody's to set


FORBIDDEN = (
    "role",
    "owner",
    "owner_id",
    "user_id",
    "spent",
    "spent_usd",
    "id",
    "created_at",
    "is_admin",
    "password_hash",
)
WITH_BODY = [route for route in ROUTES if SAMPLES[route][0].body is not None and not route[1].startswith("/v1/")]


@pytest.mark.parametrize("field", FORBIDDEN)
@pytest.mark.parametrize("route", WITH_BODY, ids=named)
def test_a_field_that_is_not_the_callers_to_set_is_refused_by_its_name(world, route, field):
    sample = SAMPLES[route][0]
    if field in sample.takes or field in sample.body:
        pytest.skip("it is the caller's to set")
    things = _things(world, Caller("admin", "admin"), "own")
    headers = bearer(world, "admin", SCOPES) if PERMISSIONS[route].scope else cookie(world, "admin")

    response = request(world, route, sample, headers, _path(route[1], sample, things, "own"), **{field: "admin"})

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_request", field)
