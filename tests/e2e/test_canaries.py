"""Secrets go in everywhere that one can; none of them comes out anywhere but where it must."""

import base64
import re
import signal
import subprocess
from pathlib import Path

import httpx2
import pytest

from ai_proxy.core.apikeys import new_key
from tests.issuer import CLIENT_ID, Issuer
from tests.service import AI_PROXY, Service, environment, free_port
from tests.upstream import Upstream, completion, error

QUESTION = "a-question-that-is-kept-0123456789"
CANARIES = {
    name: f"canary-{name}-7f3a9c1e5b"
    for name in (
        "given-key",
        "server-secret",
        "provider-key",
        "webhook-secret",
        "client-secret",
        "first-password",
        "second-password",
        "third-password",
        "wrong-password",
        "long-name-as-a-password",
        "wrong-bearer",
        "wrong-x-api-key",
        "wrong-basic",
        "wrong-cookie",
        "wrong-setup-token",
        "refused-password",
        "odd-field",
    )
}


class Stage:
    """A service whose every setting that may be secret is one, and all that was seen of it."""

    def __init__(self, directory: Path, upstream: Upstream, issuer: Issuer) -> None:
        self.upstream, self.issuer = upstream, issuer
        self.secrets = dict(CANARIES)
        self.seen: dict[str, bytes] = {}
        self.service = Service(
            directory,
            AI_PROXY_API_KEY=CANARIES["given-key"],
            AI_PROXY_SECRET=CANARIES["server-secret"],
            AI_PROXY_LOG_LEVEL="debug",
            OPENAI_API_KEY=CANARIES["provider-key"],
            OPENAI_BASE_URL=upstream.url,
            AI_PROXY_DEFAULT_MODEL="small",
            AI_PROXY_ALERTS__URL=f"http://127.0.0.1:{free_port()}/hook",
            AI_PROXY_ALERTS__SECRET=CANARIES["webhook-secret"],
            AI_PROXY_OIDC__ISSUER=issuer.url,
            AI_PROXY_OIDC__CLIENT_ID=CLIENT_ID,
            AI_PROXY_OIDC__CLIENT_SECRET=CANARIES["client-secret"],
            AI_PROXY_OIDC__CALLBACK_URL="http://localhost/api/auth/oidc/callback",
        ).start()
        self.service.client.close()

    def call(self, client: httpx2.Client, method: str, path: str, *, shows: bool = False, **request) -> httpx2.Response:
        """`shows`: the answer has a secret, as it must."""
        response = client.request(method, path, **request)
        told = str(response.headers).encode() + response.content
        self.seen[f"{len(self.seen)}: {method} {path} {response.status_code}"] = b"" if shows else told
        return response

    def run(self, *arguments: str, stdin: str = "", shows: bool = False) -> str:
        done = subprocess.run(
            [AI_PROXY, *arguments],
            input=stdin,
            check=False,
            cwd=self.service.directory,
            env=environment(**self.service.settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
        told = done.stdout + done.stderr
        self.seen[f"{len(self.seen)}: ai-proxy {' '.join(arguments)} {done.returncode}"] = (
            b"" if shows else told.encode()
        )
        return told

    def client(self, **headers: str) -> httpx2.Client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx2.Client(base_url=self.service.url, headers=named, timeout=30)

    def files(self) -> dict[str, bytes]:
        found = self.service.directory.rglob("*")
        return {str(path.relative_to(self.service.directory)): path.read_bytes() for path in found if path.is_file()}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with Upstream() as upstream, Issuer() as issuer:
        stage = Stage(tmp_path_factory.mktemp("canaries"), upstream, issuer)
        try:
            for act in (_accounts, _calls, _administration, _failures, _openid_connect, _commands):
                act(stage)
            yield stage
        finally:
            stage.service.stop()


# What is done with it


def _accounts(stage: Stage) -> None:
    token = re.search(r"token .*?([\w-]{43})", stage.service.stderr())
    assert token, "the first start shows a set-up token"
    stage.secrets["set-up token"] = token[1]
    with stage.client() as client:
        wrong = {"token": CANARIES["wrong-setup-token"], "name": "boss", "password": CANARIES["refused-password"]}
        stage.call(client, "POST", "/api/auth/setup", json=wrong)
        right = {"token": token[1], "name": "boss", "password": CANARIES["first-password"]}
        assert stage.call(client, "POST", "/api/auth/setup", json=right).status_code == 201
        assert stage.call(client, "POST", "/api/auth/setup", json=right).status_code == 403
        for name in ("boss", "nobody"):
            stage.call(client, "POST", "/api/auth/login", json={"name": name, "password": CANARIES["wrong-password"]})
        slip = {"name": CANARIES["long-name-as-a-password"], "password": "boss"}
        stage.call(client, "POST", "/api/auth/login", json=slip)
    stage.run("users", "create", "reader", "--role", "viewer", "--password-stdin", stdin=CANARIES["third-password"])


def _sign_in(stage: Stage, client: httpx2.Client, password: str) -> None:
    signed_in = {"name": "boss", "password": CANARIES[password]}
    assert stage.call(client, "POST", "/api/auth/login", shows=True, json=signed_in).status_code == 200
    stage.secrets[f"session by {password}"] = client.cookies["aiproxy_session"]


def _calls(stage: Stage) -> None:
    with stage.client(authorization=f"Bearer {CANARIES['given-key']}") as client:
        for handler in (completion(), error(401, f"Bad key {CANARIES['provider-key']}"), error(500, "no")):
            stage.upstream.handler = handler
            stage.call(client, "POST", "/api/ask", json={"question": QUESTION})
            stage.call(client, "POST", "/api/streaming", json={"question": QUESTION})
            chat = {"model": "small", "messages": [{"role": "user", "content": QUESTION}]}
            stage.call(client, "POST", "/v1/chat/completions", json=chat, headers={"idempotency-key": QUESTION})
        for path in ("/api/history", "/api/me/usage", "/v1/models", "/metrics", "/openapi.json", "/readyz"):
            stage.call(client, "GET", path)


def _administration(stage: Stage) -> None:
    with stage.client(sec_fetch_site="same-origin") as client:
        _sign_in(stage, client, "first-password")
        change = {"old_password": CANARIES["first-password"], "new_password": CANARIES["second-password"]}
        assert stage.call(client, "POST", "/api/auth/password", json=change).status_code == 204
        stage.call(client, "POST", "/api/auth/password", json=change)  # the old one is wrong now
        short = {"name": "x", "password": "shibboleth"}
        stage.secrets["a password that is too short"] = short["password"]
        assert stage.call(client, "POST", "/api/users", json=short).status_code == 400
        member = {"name": "member", "password": CANARIES["third-password"]}
        assert stage.call(client, "POST", "/api/users", json=member).status_code == 201
        made = stage.call(client, "POST", "/api/keys", shows=True, json={"name": "laptop"}).json()
        stage.secrets["a key that was made"] = made["key"]
        rotated = stage.call(client, "POST", f"/api/keys/{made['id']}/rotate", shows=True, json={"overlap": 60}).json()
        stage.secrets["a key that was rotated"] = rotated["key"]
        with stage.client(x_api_key=rotated["key"]) as by_key:
            assert stage.call(by_key, "GET", "/api/history").status_code == 200
            stage.call(by_key, "GET", "/api/users")
        for key in (made["key"], CANARIES["odd-field"]):  # secrets where none belongs
            stage.call(client, "POST", "/api/keys", json={"name": "laptop", "key": key})
            stage.call(client, "GET", "/api/audit", params={"cursor": key})
        for path in (
            "auth/me",
            "auth/sessions",
            "users",
            "keys",
            f"keys/{made['id']}",
            "projects",
            "limits",
            "budgets",
        ):
            assert stage.call(client, "GET", f"/api/{path}").status_code == 200
        for path in ("usage", "audit"):
            stage.call(client, "GET", f"/api/{path}")
            stage.call(client, "GET", f"/api/{path}", headers={"accept": "text/csv"})
        stage.call(client, "POST", "/api/auth/logout")


def _failures(stage: Stage) -> None:
    basic = base64.b64encode(f"user:{CANARIES['wrong-basic']}".encode()).decode()
    for headers in (
        {"authorization": f"Bearer {CANARIES['wrong-bearer']}"},
        {"x_api_key": CANARIES["wrong-x-api-key"]},
        {"authorization": f"Basic {basic}"},
        {"cookie": f"aiproxy_session={CANARIES['wrong-cookie']}"},
        {"cookie": f"aiproxy_session={stage.secrets['session by first-password']}"},
    ):
        with stage.client(**headers) as client:
            for path in ("/api/ask", "/v1/messages", "/api/users", "/nowhere"):
                assert stage.call(client, "POST", path, json={"question": QUESTION}).status_code in {401, 404}
    mistyped = new_key()[:-1] + "!"
    stage.secrets["a key that was mistyped"] = mistyped
    with stage.client(authorization=mistyped) as client:
        assert stage.call(client, "GET", "/api/history").status_code == 401
    for raw in (
        f"GET / HTTP/9\r\nx-api-key: {CANARIES['wrong-bearer']}\r\n\r\n",
        CANARIES["wrong-bearer"] + "\r\n\r\n",
    ):
        with stage.service.raw(raw.encode()) as connection:
            stage.seen[f"{len(stage.seen)}: broken HTTP"] = connection.recv(65_536)


def _openid_connect(stage: Stage) -> None:
    with stage.client() as client:
        there = stage.call(client, "GET", "/api/auth/oidc/login", shows=True)
        query = stage.issuer.authorize(there.headers["location"], "canary-code-7f3a9c1e5b")
        stage.secrets["the code"] = query["code"]
        stage.secrets["what the browser keeps"] = client.cookies["aiproxy_oidc"]
        stage.call(client, "GET", "/api/auth/oidc/callback", params=query)
        stage.call(client, "GET", "/api/auth/oidc/callback", params=query)


def _commands(stage: Stage) -> None:
    told = stage.run("keys", "create", "by command", shows=True)
    stage.secrets["a key by command"] = re.search(r"^key: (\S+)$", told, re.MULTILINE)[1]
    stage.run("users", "password", "reader", "--password-stdin", stdin=CANARIES["second-password"])
    stage.run("users", "password", "reader", "--password-stdin", stdin="shibboleth")
    for group in ("keys", "users", "projects", "audit", "limits", "budgets"):
        stage.run(group, "list")
        stage.run(group, "list", "--json")
    stage.run("usage")
    stage.run("config", "check")
    stage.run("config", "show")
    stage.run("config", "show", "--json")
    before = len(stage.service.log())
    stage.service.process.send_signal(signal.SIGHUP)
    stage.service.eventually(lambda: len(stage.service.log()) > before)


# Where none of it may be


def forms(secret: str) -> set[bytes]:
    """A text as it is, and within base64, wherever it begins."""
    found = {secret.encode()}
    for shift in range(3):
        encoded = base64.b64encode(b" " * shift + secret.encode()).decode()
        found.add(encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4].encode())
    return found


def found_in(stage: Stage, places: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (place, name)
        for place, content in places.items()
        for name, secret in stage.secrets.items()
        if any(form in content for form in forms(secret))
    ]


def test_no_answer_and_no_output_of_a_command_has_a_secret(stage):
    assert found_in(stage, stage.seen) == []


def test_no_file_has_a_secret(stage):
    files = stage.files()
    shown_once = files["stderr"].count(stage.secrets["set-up token"].encode())
    files["stderr"] = files["stderr"].replace(stage.secrets["set-up token"].encode(), b"")

    assert shown_once == 1
    assert found_in(stage, files) == []


def test_nor_is_there_one_after_the_end(stage):
    stage.service.stop()
    files = stage.files()
    files["stderr"] = files["stderr"].replace(stage.secrets["set-up token"].encode(), b"")

    assert found_in(stage, files) == []


def test_every_file_that_must_be_searched_is_searched(stage):
    assert {"stdout", "stderr", "data/ai-proxy.db"} <= set(stage.files())


def test_the_search_would_find_one(stage):
    files = stage.files()
    wrapped = base64.b64encode(b"user:" + CANARIES["wrong-basic"].encode())

    assert any(QUESTION.encode() in content for name, content in files.items() if name.startswith("data/"))
    assert any(QUESTION.encode() in content for place, content in stage.seen.items() if "/api/history" in place)
    assert any(b"login.failed" in content for place, content in stage.seen.items() if "/api/audit" in place)
    assert found_in(stage, {"planted": CANARIES["client-secret"].encode()}) == [("planted", "client-secret")]
    assert found_in(stage, {"planted": wrapped}) == [("planted", "wrong-basic")]


def test_all_that_was_meant_to_be_done_was_done(stage):
    failed = [place for place in stage.seen if re.search(r" 5\d\d$", place) and "/api/" in place]
    usual = ("/api/ask", "/api/streaming", "/api/auth/oidc/callback")

    assert [place for place in failed if not any(path in place for path in usual)] == []
    assert [place for place in stage.seen if "--json" in place and not place.endswith(" 0")] == []


@pytest.mark.parametrize(
    "arguments", [("serve",), ("config", "show"), ("config", "show", "--json"), ("config", "check")]
)
def test_the_password_of_a_database_is_not_shown(tmp_path, arguments):
    url = f"postgresql://proxy:canary-database-7f3a9c1e5b@127.0.0.1:{free_port()}/proxy"
    service = Service(tmp_path, DATABASE_URL=url, AI_PROXY_SECRET=CANARIES["server-secret"])

    if arguments == ("serve",):  # it waits for the database
        assert service.start().stop() == 0
        told = service.stderr() + (tmp_path / "stdout").read_text()
    else:
        done = service.run(*arguments)
        told = done.stdout + done.stderr

    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert told
    assert "canary-database" not in told
    assert b"canary-database" not in files
    service.client.close()
