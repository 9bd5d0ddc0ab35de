"""Login by OpenID Connect, with an issuer that lies, is away, changes its keys or plays by the rules."""

import json
import sqlite3
import time
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from ai_proxy.core.ids import uuid7
from tests import issuer as fake
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.service import Service, free_port

CALLBACK = "/api/auth/oidc/callback"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Issuer() as issuer:
        service = Service(tmp_path_factory.mktemp("oidc"), **settings_of(issuer.url)).start()
        yield service, issuer
        assert service.stop() == 0
        service.client.close()


@pytest.fixture
def issuer(pair):
    pair[1].reset()
    return pair[1]


@pytest.fixture
def service(pair):
    return pair[0]


@pytest.fixture
def browser(service):
    with browser_of(service) as client:
        yield client


def settings_of(url: str, **more) -> dict[str, str]:
    return {
        "AI_PROXY_OIDC__ISSUER": url,
        "AI_PROXY_OIDC__CLIENT_ID": CLIENT_ID,
        "AI_PROXY_OIDC__CLIENT_SECRET": CLIENT_SECRET,
        "AI_PROXY_OIDC__CALLBACK_URL": f"http://localhost{CALLBACK}",
        **more,
    }


def browser_of(service: Service) -> httpx2.Client:
    return httpx2.Client(base_url=service.url, timeout=30)


def begin(browser, issuer, code="the-code") -> dict[str, str]:
    """Go to the issuer, and be sent back: with which query."""
    response = browser.get("/api/auth/oidc/login")
    assert response.status_code == 302, response.text
    return issuer.authorize(response.headers["location"], code)


def sign_in(browser, issuer, **claims) -> httpx2.Response:
    issuer.claims = claims
    return browser.get(CALLBACK, params=begin(browser, issuer))


def rows(service: Service, query: str) -> list[tuple]:
    with sqlite3.connect(service.directory / "data" / "ai-proxy.db") as connection:
        return connection.execute(query).fetchall()


def cookies_of(response) -> SimpleCookie:
    cookies = SimpleCookie()
    for header in response.headers.get_list("set-cookie"):
        cookies.load(header)
    return cookies


def refused(response, status, code) -> bool:
    """It is refused, and nobody is signed in."""
    assert "aiproxy_session" not in cookies_of(response)
    return (response.status_code, response.json()["error"]["code"]) == (status, code)


# The way there


def test_the_browser_is_sent_to_the_issuer(service, issuer, browser):
    response = browser.get("/api/auth/oidc/login")

    address = response.headers["location"]
    query = parse_qs(urlsplit(address).query)
    assert response.status_code == 302
    assert address.startswith(f"{issuer.url}/authorize?")
    assert query["response_type"] == ["code"]
    assert query["client_id"] == [CLIENT_ID]
    assert query["redirect_uri"] == [f"http://localhost{CALLBACK}"]
    assert query["code_challenge_method"] == ["S256"]
    assert {"openid", "email"} <= set(query["scope"][0].split())
    assert len(query["state"][0]) >= 43
    assert len(query["nonce"][0]) >= 43
    assert query["state"] != query["nonce"]


def test_what_the_browser_keeps_meanwhile_is_out_of_reach_of_scripts(issuer, browser):
    response = browser.get("/api/auth/oidc/login")

    cookie = cookies_of(response)["aiproxy_oidc"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/api/auth/oidc")
    assert int(cookie["max-age"]) <= 600
    assert response.headers["cache-control"] == "no-store"


def test_behind_https_both_cookies_are_secure(start, issuer):
    callback = f"https://proxy.example{CALLBACK}"
    service = start(**settings_of(issuer.url, AI_PROXY_OIDC__CALLBACK_URL=callback))
    with browser_of(service) as browser:
        there = browser.get("/api/auth/oidc/login")
        back = browser.get(
            CALLBACK,
            params=issuer.authorize(there.headers["location"]),
            headers={"cookie": f"aiproxy_oidc={cookies_of(there)['aiproxy_oidc'].value}"},
        )

    assert back.status_code == 303
    assert cookies_of(there)["aiproxy_oidc"]["secure"]
    assert cookies_of(back)["__Host-aiproxy_session"]["secure"]


# And back


def test_who_comes_from_the_issuer_is_signed_in(service, issuer, browser):
    response = sign_in(browser, issuer)

    me = browser.get("/api/auth/me").raise_for_status().json()
    cookie = cookies_of(response)["aiproxy_session"]
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert (cookie["httponly"], cookie["samesite"]) == (True, "lax")
    assert (me["name"], me["role"]) == ("ada@example.org", "member")
    assert response.headers["referrer-policy"] == "no-referrer"


def test_somebody_who_comes_again_is_the_same_user_whatever_their_address_is_now(service, issuer, browser):
    sign_in(browser, issuer)
    first = browser.get("/api/auth/me").json()["id"]

    sign_in(browser, issuer, email="countess@example.org")

    assert browser.get("/api/auth/me").json()["id"] == first


def test_another_subject_is_another_user(service, issuer, browser):
    sign_in(browser, issuer)
    first = browser.get("/api/auth/me").json()["id"]

    sign_in(browser, issuer, sub="subject-2", email="grace@example.org")

    assert browser.get("/api/auth/me").json()["id"] != first


def test_no_claim_makes_an_administrator(service, issuer, browser):
    sign_in(browser, issuer, sub="boss", email="boss@example.org", role="admin", roles=["admin"], groups=["admin"])

    assert browser.get("/api/auth/me").json()["role"] == "member"
    assert browser.get("/api/users").status_code == 403


def test_an_account_of_the_same_name_is_not_taken_over(service, issuer, browser):
    with sqlite3.connect(service.directory / "data" / "ai-proxy.db") as connection:
        connection.execute(
            "INSERT INTO users (id, name, role, created_at) VALUES (?, 'local@example.org', 'admin', 0)", (uuid7(),)
        )

    response = sign_in(browser, issuer, sub="thief", email="LOCAL@example.org")

    assert refused(response, 409, "conflict")
    assert rows(service, "SELECT oidc_subject FROM users WHERE name = 'local@example.org'") == [(None,)]
    assert rows(service, "SELECT id FROM users WHERE oidc_subject LIKE '%|thief'") == []


def test_the_name_of_the_operator_is_not_to_be_had(service, issuer, browser):
    [(operator,)] = rows(service, "SELECT name FROM users WHERE id LIKE '00000000-%'")
    start_as_that = {"sub": "thief", "email": operator}

    assert refused(sign_in(browser, issuer, **start_as_that), 409, "conflict")


def test_a_disabled_user_stays_out_and_that_is_noted(service, issuer, browser):
    sign_in(browser, issuer, sub="gone", email="gone@example.org")
    user_id = browser.get("/api/auth/me").json()["id"]
    with sqlite3.connect(service.directory / "data" / "ai-proxy.db") as connection:
        connection.execute("UPDATE users SET disabled_at = 1 WHERE id = ?", (user_id,))

    response = sign_in(browser, issuer, sub="gone", email="gone@example.org")

    noted = rows(service, "SELECT action, details FROM audit ORDER BY id DESC LIMIT 1")
    assert refused(response, 403, "permission_denied")
    assert noted[0][0] == "login.failed"
    assert json.loads(noted[0][1]) == {"by": "oidc", "reason": "This user is disabled."}


def test_a_login_is_noted_with_the_way_it_came_by(service, issuer, browser):
    sign_in(browser, issuer)

    [(details,)] = rows(service, "SELECT details FROM audit WHERE action = 'login' ORDER BY id DESC LIMIT 1")
    assert json.loads(details)["by"] == "oidc"


def test_a_user_that_has_no_password_cannot_sign_in_with_one(service, issuer, browser):
    sign_in(browser, issuer)

    with browser_of(service) as other:
        response = other.post("/api/auth/login", json={"name": "ada@example.org", "password": ""})

    assert response.status_code in {400, 401}


# Answers to another question


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"state": "x" * 43}, id="wrong"),
        pytest.param({"state": "ä"}, id="no ASCII"),
        pytest.param({"state": None}, id="none"),
        pytest.param({"iss": "https://other.example"}, id="of another issuer"),
    ],
)
def test_a_wrong_state_is_refused_and_the_code_is_not_spent(service, issuer, browser, change):
    query = begin(browser, issuer) | change

    response = browser.get(CALLBACK, params={name: value for name, value in query.items() if value is not None})

    assert refused(response, 400, "invalid_request")
    assert "/token" not in issuer.requests


def test_the_state_of_another_browser_is_refused(service, issuer, browser):
    query = begin(browser, issuer)

    with browser_of(service) as victim:
        without = victim.get(CALLBACK, params=query)
        victim.get("/api/auth/oidc/login")
        with_its_own = victim.get(CALLBACK, params=query)

    assert refused(without, 400, "invalid_request")
    assert refused(with_its_own, 400, "invalid_request")


def test_a_state_works_once(service, issuer, browser):
    query = begin(browser, issuer)
    kept = browser.cookies["aiproxy_oidc"]
    browser.get(CALLBACK, params=query)
    issuer.codes["the-code"] = {"nonce": "any", "code_challenge": "any"}

    again = browser.get(CALLBACK, params=query, headers={"cookie": f"aiproxy_oidc={kept}"})

    assert refused(again, 400, "invalid_request")
    assert issuer.requests.count("/token") == 1


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: "x" + c, lambda c: c.split(".")[0], lambda c: "." + c])
def test_a_cookie_that_was_tampered_with_is_refused(service, issuer, browser, change):
    query = begin(browser, issuer)
    cookie = change(browser.cookies["aiproxy_oidc"])
    browser.cookies.clear()

    response = browser.get(CALLBACK, params=query, headers={"cookie": f"aiproxy_oidc={cookie}"})

    assert refused(response, 400, "invalid_request")


def test_somebody_whom_the_issuer_refuses_is_told_so(service, issuer, browser):
    query = begin(browser, issuer)

    response = browser.get(CALLBACK, params={"state": query["state"], "error": "access_denied<script>"})

    assert refused(response, 403, "permission_denied")
    assert "<script>" not in response.text


# Tokens that prove nothing


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"nonce": "another"}, id="wrong nonce"),
        pytest.param({"nonce": None}, id="no nonce"),
        pytest.param({"aud": "another"}, id="wrong audience"),
        pytest.param({"aud": None}, id="no audience"),
        pytest.param({"aud": [CLIENT_ID, "another"]}, id="two audiences and nobody named"),
        pytest.param({"aud": [CLIENT_ID, "another"], "azp": "another"}, id="made for another of two"),
        pytest.param({"azp": "another"}, id="made for another"),
        pytest.param({"iss": "http://127.0.0.1:1"}, id="wrong issuer"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"exp": int(time.time()) - 3600}, id="expired"),
        pytest.param({"exp": None}, id="never expires"),
        pytest.param({"exp": "tomorrow"}, id="no time"),
        pytest.param({"iat": int(time.time()) + 36_000}, id="of the future"),
        pytest.param({"sub": None}, id="no subject"),
        pytest.param({"sub": 5}, id="a number as subject"),
    ],
)
def test_a_token_for_something_else_is_refused(service, issuer, browser, claims):
    response = sign_in(browser, issuer, **claims)

    assert refused(response, 401, "not_signed_in")


@pytest.mark.parametrize(
    "sign",
    [
        fake.unsigned,
        fake.signed_with_the_public_key,
        fake.signed_with_the_client_secret,
        fake.signed_by_somebody_else,
        pytest.param(lambda claims: fake.signed(claims)[:-8], id="cut off"),
        pytest.param(lambda claims: fake.signed(claims) + "AAAA", id="longer"),
        pytest.param(lambda _: "", id="empty"),
        pytest.param(lambda _: "a.b.c", id="no token"),
        pytest.param(lambda _: "ключ", id="no ASCII"),
    ],
)
def test_a_token_that_the_issuer_did_not_sign_is_refused(service, issuer, browser, sign):
    issuer.sign = sign

    response = sign_in(browser, issuer)

    assert refused(response, 401, "not_signed_in")


def test_a_token_for_several_that_names_us_is_good(service, issuer, browser):
    assert sign_in(browser, issuer, aud=[CLIENT_ID, "another"], azp=CLIENT_ID).status_code == 303


def test_new_keys_of_the_issuer_are_fetched_when_they_are_met(service, issuer, browser):
    sign_in(browser, issuer)
    issuer.published = ["two"]
    issuer.sign = lambda claims: fake.signed(claims, "two")

    response = sign_in(browser, issuer)

    assert response.status_code == 303
    assert issuer.requests.count("/keys") >= 1


def test_a_key_that_the_issuer_does_not_publish_is_refused(service, issuer, browser):
    sign_in(browser, issuer)
    issuer.sign = lambda claims: fake.signed(claims, "two")
    issuer.requests.clear()

    response = sign_in(browser, issuer)

    assert refused(response, 401, "not_signed_in")
    assert issuer.requests.count("/keys") <= 1


def test_addresses_and_keys_are_remembered(service, issuer, browser):
    sign_in(browser, issuer)
    issuer.requests.clear()

    sign_in(browser, issuer)

    assert [path for path in issuer.requests if path != "/token"] == []


def test_a_code_that_the_issuer_does_not_know_is_refused(service, issuer, browser):
    query = begin(browser, issuer) | {"code": "another"}

    assert refused(browser.get(CALLBACK, params=query), 401, "not_signed_in")


# Who may come


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"email": None}, id="no name"),
        pytest.param({"email": " "}, id="a blank name"),
        pytest.param({"email": ["a"]}, id="a list of names"),
        pytest.param({"email_verified": False}, id="an address that may be another's"),
        pytest.param({"sub": "s" * 600}, id="a subject that is too long"),
    ],
)
def test_who_has_no_name_of_their_own_stays_out(service, issuer, browser, claims):
    response = sign_in(browser, issuer, **{"sub": "nameless", **claims})

    assert refused(response, 403, "permission_denied")


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sub": "a", "email": "a@Example.ORG"}, 303),
        ({"sub": "b", "email": "b@two.example"}, 303),
        ({"sub": "c", "email": "c@evil.example"}, 403),
        ({"sub": "d", "email": "d@example.org.evil.example"}, 403),
        ({"sub": "e", "email": "e@example.org", "email_verified": None}, 403),
        ({"sub": "f", "email": "f@example.org", "email_verified": "true"}, 403),
    ],
    ids=str,
)
def test_only_verified_addresses_of_allowed_domains_come_in(of_domains, issuer, claims, status):
    with browser_of(of_domains) as browser:
        assert sign_in(browser, issuer, **claims).status_code == status


@pytest.fixture(scope="module")
def of_domains(pair, tmp_path_factory):
    more = {"AI_PROXY_OIDC__ALLOWED_DOMAINS": "example.org, two.example", "AI_PROXY_OIDC__DEFAULT_ROLE": "viewer"}
    service = Service(tmp_path_factory.mktemp("domains"), **settings_of(pair[1].url, **more)).start()
    yield service
    service.stop()
    service.client.close()


def test_new_users_get_the_role_that_is_set(of_domains, issuer):
    with browser_of(of_domains) as browser:
        sign_in(browser, issuer, sub="viewer", email="viewer@example.org")

        assert browser.get("/api/auth/me").json()["role"] == "viewer"


# An issuer that is away, or is not what it says


def test_an_issuer_that_is_down_is_no_reason_not_to_start(start):
    service = start(**settings_of(f"http://127.0.0.1:{free_port()}"))

    with browser_of(service) as browser:
        response = browser.get("/api/auth/oidc/login")

    assert refused(response, 503, "unavailable")
    assert response.headers["retry-after"]
    assert service.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((500, {}, b"{}"), id="500"),
        pytest.param((401, {}, b'{"error": "invalid_client"}'), id="our secret is wrong"),
        pytest.param((200, {}, b"<html>"), id="no JSON"),
        pytest.param((200, {}, b'{"id_token": 5}'), id="no token"),
        pytest.param((200, {}, b" " * 300_000), id="too large"),
        pytest.param((302, {"location": "/elsewhere"}, b""), id="a redirection"),
    ],
)
def test_an_issuer_that_fails_halfway_is_503(service, issuer, browser, answer):
    query = begin(browser, issuer)
    issuer.answers["/token"] = answer

    assert refused(browser.get(CALLBACK, params=query), 503, "unavailable")
    assert "/elsewhere" not in issuer.requests


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"issuer": "https://other.example"}, id="another issuer"),
        pytest.param({"token_endpoint": "file:///etc/passwd"}, id="no address"),
        pytest.param({"jwks_uri": None}, id="no keys"),
    ],
)
def test_an_issuer_that_describes_somebody_else_is_not_believed(start, issuer, metadata):
    issuer.metadata = metadata
    service = start(**settings_of(issuer.url))

    with browser_of(service) as browser:
        assert refused(browser.get("/api/auth/oidc/login"), 503, "unavailable")


def test_the_secret_goes_into_the_form_where_the_issuer_wants_it_there(start, issuer):
    issuer.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    service = start(**settings_of(issuer.url))

    with browser_of(service) as browser:
        assert sign_in(browser, issuer).status_code == 303


def test_nothing_of_a_login_is_in_the_log(service, issuer, browser):
    query = begin(browser, issuer, "the-canary-code")
    kept = browser.cookies["aiproxy_oidc"]
    browser.get(CALLBACK, params=query)

    service.eventually(lambda: service.request_log(CALLBACK))
    told = (service.directory / "stdout").read_text() + service.stderr()
    secrets = ("the-canary-code", query["state"], kept, CLIENT_SECRET, browser.cookies["aiproxy_session"])
    assert [secret for secret in secrets if secret in told] == []


# Where it is not set up


@pytest.mark.parametrize("path", ["login", "callback"])
def test_where_it_is_not_set_up_there_is_nothing(mocked, path):
    assert mocked.client.get(f"/api/auth/oidc/{path}").status_code == 404


def test_without_the_extra_the_start_says_what_to_install(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['joserfc'] = None\n")
    service = Service(tmp_path, **settings_of("https://issuer.example"), PYTHONPATH=tmp_path)

    done = service.run("serve")

    assert done.returncode == 1
    assert done.stderr == (
        "ai-proxy: AI_PROXY_OIDC__ISSUER: needs the extra oidc: "
        "pip install 'ai-proxy-gateway[oidc]', or pip install 'joserfc>=1.8,<2'\n"
    )
    service.client.close()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"AI_PROXY_OIDC__ISSUER": "http://issuer.example"}, "AI_PROXY_OIDC__ISSUER: must begin with https://"),
        ({"AI_PROXY_OIDC__CLIENT_SECRET": ""}, "client_secret: must be set when issuer is"),
        ({"AI_PROXY_OIDC__CALLBACK_URL": "https://proxy.example/"}, "AI_PROXY_OIDC__CALLBACK_URL: "),
        ({"AI_PROXY_OIDC__DEFAULT_ROLE": "admin"}, "AI_PROXY_OIDC__DEFAULT_ROLE: "),
    ],
    ids=str,
)
def test_wrong_settings_stop_the_start_with_one_line(tmp_path, change, line):
    service = Service(tmp_path, **(settings_of("https://issuer.example") | change))

    done = service.run("serve")

    assert done.returncode == 1
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    service.client.close()
