"""Signature Version 4, beside the one that Amazon's own library makes."""

import asyncio
import sys
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from yarl import URL

from ai_proxy.core.sources import ConfigurationError
from ai_proxy.core.upstream_errors import ProviderAuth
from ai_proxy.providers.aws_signing import Chain, Credentials, Request, Signer, signature

HOST = "https://bedrock-runtime.eu-central-1.amazonaws.com"
MODEL = URL(f"{HOST}/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/converse", encoded=True)
ARN = URL(f"{HOST}/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprompt-router%2Fx/converse-stream", encoded=True)
LIST = URL("http://127.0.0.1:8080/inference-profiles?maxResults=1000&nextToken=a%2Fb%3D", encoded=True)
ALICE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
VISITOR = Credentials("ASIAEXAMPLE", "secret", "a/session+token==")
NOON = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def amazons():
    """What botocore makes of a request: the header Authorization."""
    reason = "comes with the extra bedrock"
    auth, credentials, awsrequest = (
        pytest.importorskip(f"botocore.{name}", reason=reason) for name in ("auth", "credentials", "awsrequest")
    )

    def authorization(request: Request, given: Credentials, at: datetime) -> str:
        signed = awsrequest.AWSRequest(request.method, str(request.url), data=request.body)
        signed.headers["content-type"] = "application/json"
        signed.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
        signer = auth.SigV4Auth(credentials.Credentials(*given), "bedrock", "eu-central-1")
        signer._modify_request_before_signing(signed)  # this and the rest, its add_auth does with the time of now
        to_sign = signer.string_to_sign(signed, signer.canonical_request(signed))
        signer._inject_signature_to_request(signed, signer.signature(to_sign, signed))
        return signed.headers["Authorization"]

    return authorization


@pytest.mark.parametrize("credentials", [ALICE, VISITOR])
@pytest.mark.parametrize("request_", [Request("POST", MODEL, b"{}"), Request("POST", ARN, b"{}"), Request("GET", LIST)])
def test_the_signature_is_the_one_that_amazons_library_makes(amazons, request_, credentials):
    headers = signature(request_, credentials, region="eu-central-1", at=NOON)

    assert headers["authorization"] == amazons(request_, credentials, NOON)


@given(body=st.binary(max_size=50), at=st.datetimes(timezones=st.just(UTC)))
def test_it_is_so_for_any_body_at_any_time(amazons, body, at):
    request = Request("POST", MODEL, body)

    headers = signature(request, ALICE, region="eu-central-1", at=at)

    assert headers["authorization"] == amazons(request, ALICE, at)


def test_time_host_and_token_are_headers():
    headers = signature(Request("GET", LIST), VISITOR, region="eu-central-1", at=NOON)

    assert headers["x-amz-date"] == "20261123T120005Z"
    assert "host" not in headers  # it is sent with every request
    assert headers["x-amz-security-token"] == "a/session+token=="
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token," in headers["authorization"]


def test_a_known_signature_does_not_change():
    headers = signature(Request("POST", MODEL, b"{}"), ALICE, region="eu-central-1", at=NOON)

    assert headers["authorization"].endswith(
        "Signature=d9545b99feebf4c2163c779d208d1c1a214dda6c35bc475cb23e0588c16610be"
    )


def test_credentials_are_found_where_amazons_tools_find_them(bare_environment, monkeypatch):
    pytest.importorskip("botocore", reason="comes with the extra bedrock")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    assert Chain("bedrock").load() == Credentials("AKID", "secret", "token")


def test_credentials_that_have_expired_are_looked_for_again(bare_environment, monkeypatch):
    pytest.importorskip("botocore", reason="comes with the extra bedrock")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    chain = Chain("bedrock")
    chain.load()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")

    assert chain.load().access_key == "old"
    assert chain.load(anew=True).access_key == "new"


@pytest.mark.anyio
@pytest.mark.parametrize("profile", ["", "nobody"])
async def test_no_credentials_are_the_operators_fault(bare_environment, monkeypatch, tmp_path, profile):
    pytest.importorskip("botocore", reason="comes with the extra bedrock")
    monkeypatch.setenv("AWS_PROFILE", profile)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(ProviderAuth):
        await Signer("bedrock", "eu-central-1", Chain("bedrock").load).headers(Request("GET", LIST))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "helper",
    [
        pytest.param("/no/such/program", id="missing"),
        pytest.param("/etc/passwd", id="not executable"),
        pytest.param("/bin/echo secret-that-was-printed", id="no JSON"),
        pytest.param("/bin/false", id="failing"),
    ],
)
async def test_a_broken_helper_is_the_operators_fault(bare_environment, monkeypatch, tmp_path, helper):
    pytest.importorskip("botocore", reason="comes with the extra bedrock")
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {helper}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    signer = Signer("bedrock", "eu-central-1", Chain("bedrock").load)

    with capture_logs() as logs, pytest.raises(ProviderAuth):
        await signer.headers(Request("GET", LIST))

    assert [(line["event"], line["provider"]) for line in logs] == [("providers: no AWS credentials", "bedrock")]
    assert "secret" not in str(logs)


class Helper:
    """Gives credentials when it is let go."""

    def __init__(self) -> None:
        self.calls: list[bool] = []
        self.go = threading.Event()

    def __call__(self, *, anew: bool = False) -> Credentials:
        self.calls.append(anew)
        self.go.wait(5)
        return Credentials(f"AKID{len(self.calls)}", "secret")


def used(headers: dict[str, str]) -> str:
    return headers["authorization"].partition("Credential=")[2].partition("/")[0]


@pytest.fixture
def helper():
    helper = Helper()
    yield helper
    helper.go.set()


@pytest.mark.anyio
async def test_a_helper_that_hangs_costs_one_thread_and_nobody_elses(helper):
    signer = Signer("bedrock", "eu-central-1", helper)
    before = set(threading.enumerate())

    async def call() -> None:
        async with asyncio.timeout(0.1):
            await signer.headers(Request("GET", LIST))

    outcomes = await asyncio.gather(*(call() for _ in range(50)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {TimeoutError}
    assert helper.calls == [False]
    more = [thread for thread in threading.enumerate() if thread not in before and thread.name == "credentials"]
    assert len(more) == 1
    assert more[0].daemon


@pytest.mark.anyio
async def test_who_stops_waiting_does_not_take_the_credentials_from_the_others(helper):
    signer = Signer("bedrock", "eu-central-1", helper)
    first, second = (asyncio.create_task(signer.headers(Request("GET", LIST))) for _ in range(2))
    await asyncio.sleep(0.02)

    first.cancel()
    await asyncio.sleep(0)
    helper.go.set()

    assert used(await second) == "AKID1"
    assert helper.calls == [False]
    assert first.cancelled()


@pytest.mark.anyio
async def test_credentials_that_expire_while_they_are_loaded_are_loaded_again(helper):
    signer = Signer("bedrock", "eu-central-1", helper)
    call = asyncio.create_task(signer.headers(Request("GET", LIST)))
    await asyncio.sleep(0.02)

    signer.learns("ExpiredTokenException", None)
    helper.go.set()

    assert used(await call) == "AKID2"
    assert helper.calls == [False, True]


@pytest.mark.anyio
async def test_credentials_that_could_not_be_loaded_are_looked_for_by_the_next_call():
    found = [None, Credentials("AKID", "secret")]
    signer = Signer("bedrock", "eu-central-1", lambda *, anew: found.pop(0))

    with pytest.raises(ProviderAuth):
        await signer.headers(Request("GET", LIST))

    assert used(await signer.headers(Request("GET", LIST))) == "AKID"


def test_without_the_package_it_is_said_which_one_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.session", None)

    with pytest.raises(ConfigurationError) as caught:
        Chain("bedrock")

    assert "ai-proxy-gateway[bedrock]" in str(caught.value)
