"""API keys: how they are sent, made, listed and revoked, and where they are not to be found."""

import json
import re
import stat
from datetime import UTC, datetime, timedelta

import pytest

from ai_proxy.core.apikeys import is_mistyped, new_key
from tests.service import KEY, Service

QUESTION = {"question": "ping"}
ENDPOINTS = [("POST", "/api/ask"), ("POST", "/api/streaming"), ("GET", "/api/history")]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A server that had to make its first key itself."""
    service = Service(tmp_path_factory.mktemp("fresh"), AI_PROXY_API_KEY="").start()
    yield service
    assert service.stop() == 0
    service.client.close()


def first_key(service: Service) -> str:
    return re.search(r"^Your API key, shown only now: (\S+)$", service.stderr(), re.MULTILINE)[1]


def files_of(service: Service) -> bytes:
    """All that is kept beside the log: the database, its log, the secret."""
    return b"".join(path.read_bytes() for path in (service.directory / "data").rglob("*") if path.is_file())


def status_of(service: Service, headers, method="POST", path="/api/ask") -> int:
    client = service.client_with("nobody")
    del client.headers["authorization"]
    with client:
        return client.request(method, path, headers=headers, json=QUESTION if method == "POST" else None).status_code


# How a key is sent


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"authorization": KEY},
        {"x-api-key": KEY},
    ],
    ids=["Bearer", "bearer", "bare", "x-api-key"],
)
def test_a_key_is_taken_in_each_form(mocked, method, path, headers):
    assert status_of(mocked, headers, method, path) == 200


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": "Bearer " + "x" * 5000},
        {"x-api-key": "wrong"},
        {"x-api-key": "ключ".encode()},
        {"cookie": f"key={KEY}"},
    ],
    ids=str,
)
def test_anything_else_is_refused(mocked, method, path, headers):
    assert status_of(mocked, headers, method, path) == 401


def test_a_refusal_says_what_to_do_in_the_usual_envelope(mocked):
    with mocked.client_with("wrong-wrong-wrong-wrong") as client:
        response = client.post("/api/ask", json=QUESTION)

    error = response.json()["error"]
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="ai-proxy"'
    assert (error["code"], error["type"], error["source"]) == ("invalid_api_key", "authentication_error", "client")
    assert error["request_id"] == response.headers["x-request-id"]
    assert "ai-proxy keys create" in error["message"]
    assert "wrong-wrong" not in response.text


def test_the_key_is_checked_before_the_body(mocked):
    with mocked.client_with("wrong") as client:
        response = client.post("/api/ask", content=b"{", headers={"content-type": "application/json"})

    assert response.status_code == 401


# The first key


def test_the_first_key_is_shown_and_works(fresh):
    key = first_key(fresh)

    assert not is_mistyped(key)
    assert key.startswith("aip_")
    assert status_of(fresh, {"authorization": f"Bearer {key}"}) == 200


def test_the_start_shows_a_command_that_works(fresh):
    command = fresh.stderr()

    assert f'curl {fresh.url}/api/ask -H "Authorization: Bearer {first_key(fresh)}"' in command
    assert (
        "Mock mode: set a provider's key, such as OPENAI_API_KEY (docs/configuration.md), for real answers." in command
    )


def test_the_first_key_is_kept_nowhere(fresh):
    key = first_key(fresh)
    status_of(fresh, {"authorization": f"Bearer {key}"})

    assert fresh.stderr().count(f"shown only now: {key}") == 1
    assert key not in (fresh.directory / "stdout").read_text()
    assert key[10:-10].encode() not in files_of(fresh)


def test_the_first_key_is_not_shown_again_and_goes_on_working(fresh):
    key = first_key(fresh)
    fresh.stop()
    (fresh.directory / "stderr").rename(fresh.directory / "stderr.before")

    fresh.start()

    again = fresh.stderr()
    (fresh.directory / "stderr.before").rename(fresh.directory / "stderr")
    assert "Your API key" not in again
    assert "aip_" not in again
    assert 'Bearer $AI_PROXY_API_KEY"' in again
    assert status_of(fresh, {"authorization": f"Bearer {key}"}) == 200


def test_the_secret_is_readable_by_its_owner_alone(fresh):
    secret = fresh.directory / "data" / "secret"

    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert len(secret.read_text().strip()) >= 40


def test_a_key_of_the_operators_own_is_stored_as_a_hash_only(mocked):
    mocked.ask().raise_for_status()

    assert KEY.encode() not in files_of(mocked)
    assert KEY not in mocked.stderr()
    assert KEY not in (mocked.directory / "stdout").read_text()
    assert "from AI_PROXY_API_KEY" in mocked.run("keys", "list").stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A server with a secret from its environment, and two keys that were made before its first start.

    The second one was made under another secret.
    """
    settings = {"AI_PROXY_API_KEY": "", "AI_PROXY_SECRET": "a-secret-of-the-operator-0123456789"}
    service = Service(tmp_path_factory.mktemp("prepared"), **settings)
    other = Service(service.directory, **settings | {"AI_PROXY_SECRET": "another-secret-another-secret"})
    keys = service.new_key("early"), other.new_key("of another secret")
    other.client.close()
    yield service.start(), *keys
    assert service.stop() == 0
    service.client.close()


def test_a_key_may_be_made_before_the_first_start(prepared):
    service, early, _ = prepared

    assert status_of(service, {"x-api-key": early}) == 200
    assert "Your API key" not in service.stderr()


def test_a_secret_from_the_environment_needs_no_file(prepared):
    service, *_ = prepared

    assert not (service.directory / "data" / "secret").exists()
    assert b"a-secret-of-the-operator" not in files_of(service)


def test_keys_work_only_under_the_secret_that_they_were_made_under(prepared):
    service, _, other = prepared

    assert status_of(service, {"x-api-key": other}) == 401


# ai-proxy keys …


def test_a_created_key_works_at_once_and_is_shown_this_once(fresh):
    done = fresh.run("keys", "create", "laptop of Ada")

    key_id, key = re.fullmatch(
        r"id:  ([0-9a-f-]{36})\nkey: (aip_\w{49})\nuser: operator\nscopes: calls, history\n"
        r"Keep it: it cannot be shown again\.\n",
        done.stdout,
    ).groups()
    listed = fresh.run("keys", "list").stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert status_of(fresh, {"x-api-key": key}) == 200
    assert key not in listed
    assert re.search(rf"^{key_id}  {key[:7]}…{key[-4:]}  .* active .*  laptop of Ada$", listed, re.MULTILINE)
    assert key[10:-10].encode() not in files_of(fresh)


def test_keys_are_listed_for_programs(fresh):
    fresh.run("keys", "create", "a program's")

    done = fresh.run("keys", "list", "--json")

    found = json.loads(done.stdout)
    assert found[0]["name"] == "first"
    assert found[-1]["name"] == "a program's"
    assert all({"id", "name", "hint", "created_at", "revoked_at", "last_used_at", "user"} <= set(key) for key in found)
    assert not any("digest" in name for name in found[0])
    assert found[0]["revoked_at"] is None
    assert [key["id"] for key in found] == sorted(key["id"] for key in found)


def test_a_revoked_key_stops_working_on_a_running_server(fresh):
    made = fresh.run("keys", "create", "stolen").stdout
    key_id, key = re.findall(r"(?:id|key): +(\S+)", made)
    assert status_of(fresh, {"x-api-key": key}) == 200

    done = fresh.run("keys", "revoke", key_id)

    fresh.eventually(lambda: status_of(fresh, {"x-api-key": key}) == 401, 6)
    assert (done.returncode, done.stdout) == (0, "Revoked.\n")
    assert re.search(
        rf"^{key_id} .* revoked \d{{4}}-\d\d-\d\d \d\d:\d\d .* stolen$", fresh.run("keys", "list").stdout, re.MULTILINE
    )


def test_a_key_with_a_typing_error_is_refused(mocked):
    key = new_key()

    assert status_of(mocked, {"x-api-key": key[:-1] + ("a" if key[-1] != "a" else "b")}) == 401


# /api/keys


@pytest.fixture
def operator(start):
    """A server, and a client that administers it with a key of the command line's."""
    service = start()
    done = service.run("keys", "create", "operator", "--scope", "manage", "--scope", "calls", "--scope", "history")
    with service.client_with(re.search(r"^key: (\S+)$", done.stdout, re.MULTILINE)[1]) as client:
        yield service, client


def make(client, **fields) -> dict:
    response = client.post("/api/keys", json={"name": "new", **fields})
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


def test_a_key_is_shown_once_and_revoked_at_once(operator):
    service, client = operator
    made = make(client, labels={"team": "search"})
    key = {"x-api-key": made["key"]}
    assert status_of(service, key) == 200

    revoked = client.delete(f"/api/keys/{made['id']}").status_code

    again = client.get(f"/api/keys/{made['id']}").json()
    assert (revoked, status_of(service, key)) == (204, 401)
    assert "key" not in again
    assert again["revoked_at"] is not None
    assert again["last_used_at"] is not None
    assert again["labels"] == {"team": "search"}
    assert client.delete(f"/api/keys/{made['id']}").status_code == 404


def test_another_process_on_the_same_database_refuses_a_revoked_key_within_five_seconds(operator, start):
    service, client = operator
    other = start(service.directory)
    made = make(client)
    key = {"x-api-key": made["key"]}
    assert status_of(other, key) == 200

    client.delete(f"/api/keys/{made['id']}").raise_for_status()

    other.eventually(lambda: status_of(other, key) == 401, 6)


def test_both_secrets_work_while_a_rotation_overlaps_and_the_next_rotation_ends_the_former_at_once(operator):
    service, client = operator
    made = make(client)
    first = client.post(f"/api/keys/{made['id']}/rotate", json={"overlap": 2}).raise_for_status()
    secrets = made["key"], first.json()["key"]

    both = [status_of(service, {"x-api-key": secret}) for secret in secrets]
    service.eventually(lambda: status_of(service, {"x-api-key": secrets[0]}) == 401, 4)
    second = client.post(f"/api/keys/{made['id']}/rotate", json={}).json()["key"]

    assert first.headers["cache-control"] == "no-store"
    assert both == [200, 200]
    assert status_of(service, {"x-api-key": secrets[1]}) == 401
    assert status_of(service, {"x-api-key": second}) == 200


def test_an_expired_key_is_refused_and_says_so(operator):
    service, client = operator
    made = make(client, expires_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    key = {"x-api-key": made["key"]}
    assert status_of(service, key) == 200

    service.eventually(lambda: status_of(service, key) == 401, 4)

    with service.client_with(made["key"]) as late:
        error = late.post("/api/ask", json=QUESTION).json()["error"]
    assert error["code"] == "invalid_api_key"
    assert "has expired" in error["message"]


def test_a_key_that_may_read_history_only_cannot_call(operator):
    service, client = operator
    made = make(client, scopes=["history"])
    key = {"x-api-key": made["key"]}

    assert status_of(service, key) == 403
    assert status_of(service, key, "GET", "/v1/models") == 403
    assert status_of(service, key, "GET", "/api/history") == 200
    assert status_of(service, key, "GET", "/api/keys") == 403


@pytest.mark.parametrize(("path", "scope"), [("/v1/models", "calls"), ("/api/keys", "manage")])
def test_a_key_without_the_scope_is_told_how_to_make_one_with_it(operator, path, scope):
    service, client = operator
    made = make(client, scopes=["history"])

    with service.client_with(made["key"]) as other:
        response = other.get(path)

    command = f"'ai-proxy keys create NAME --scope {scope}'"
    assert response.status_code == 403
    assert response.json()["error"]["message"] == (
        f"This API key lacks the scope {scope!r}: {command} makes one that has it."
    )


def test_a_key_calls_and_sees_only_the_models_on_its_list(operator):
    service, client = operator
    every = [model["id"] for model in client.get("/v1/models").json()["data"]]
    made = make(client, models=["nothing-*"])
    path = f"/api/keys/{made['id']}"

    with service.client_with(made["key"]) as limited:
        refused = limited.post("/api/ask", json=QUESTION)
        none = limited.get("/v1/models").json()["data"]
        unseen = limited.get(f"/v1/models/{every[0]}")
        client.patch(path, json={"models": ["mock/*"]}).raise_for_status()
        allowed = limited.post("/api/ask", json=QUESTION)
        seen = [model["id"] for model in limited.get("/v1/models").json()["data"]]

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert none == []
    assert (unseen.status_code, unseen.json()["error"]["code"]) == (404, "model_not_found")
    assert allowed.status_code == 200
    assert seen == every


@pytest.mark.parametrize("field", ["id", "role", "spent", "revoked_at", "digest", "hint", "created_at"])
def test_what_is_not_the_askers_to_set_is_refused_by_name(operator, field):
    _, client = operator
    made = make(client)

    answers = [
        client.post("/api/keys", json={"name": "x", field: "x"}),
        client.patch(f"/api/keys/{made['id']}", json={field: "x"}),
    ]

    for answer in answers:
        assert answer.status_code == 400
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("invalid_request", field)


def test_the_owner_of_a_key_does_not_change(operator):
    _, client = operator
    made = make(client)

    answer = client.patch(f"/api/keys/{made['id']}", json={"user_id": made["user_id"]})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "user_id")


def test_keys_come_in_pages(operator):
    _, client = operator
    made = [make(client, name=f"number {number}")["id"] for number in range(3)]

    found, cursor = [], None
    while True:
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = client.get("/api/keys", params=query).json()
        found += [key["id"] for key in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found == sorted(found)
    assert found[-3:] == made


# /api/projects


def test_a_key_of_a_project_ends_with_the_project(operator):
    service, client = operator
    project = client.post("/api/projects", json={"name": "search"})
    made = make(client, project_id=project.json()["id"])
    key = {"x-api-key": made["key"]}
    assert status_of(service, key) == 200

    archived = client.patch(f"/api/projects/{project.json()['id']}", json={"archived": True})

    assert project.status_code == 201
    assert archived.json()["archived_at"] is not None
    assert status_of(service, key) == 401


def test_who_is_no_member_any_more_cannot_use_their_keys_of_the_project(operator):
    service, client = operator
    user = client.post("/api/users", json={"name": "ada"}).raise_for_status().json()["id"]
    project = client.post("/api/projects", json={"name": "search"}).json()["id"]
    member = f"/api/projects/{project}/members/{user}"
    assert client.put(member).status_code == 204
    key = {"x-api-key": make(client, user_id=user, project_id=project)["key"]}
    members = [found["name"] for found in client.get(f"/api/projects/{project}").json()["members"]]
    statuses = [status_of(service, key)]

    client.delete(member).raise_for_status()
    statuses.append(status_of(service, key))
    client.put(member).raise_for_status()
    statuses.append(status_of(service, key))

    assert members == ["ada"]
    assert statuses == [200, 401, 200]
