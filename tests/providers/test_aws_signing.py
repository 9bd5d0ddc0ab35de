"""Signature Version 4, beside the one that Amazon's own library makes."""

import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ai_proxy.core.exceptions import ProviderAuth
from ai_proxy.core.sources import ConfigurationError
from ai_proxy.providers.aws_signing import Chain, Credentials, Request, signature

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
    assert headers["host"] == "127.0.0.1:8080"
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


@pytest.mark.parametrize("profile", ["", "nobody"])
def test_no_credentials_are_the_operators_fault(bare_environment, monkeypatch, tmp_path, profile):
    pytest.importorskip("botocore", reason="comes with the extra bedrock")
    monkeypatch.setenv("AWS_PROFILE", profile)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(ProviderAuth):
        Chain("bedrock").load()


def test_without_the_package_it_is_said_which_one_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.session", None)

    with pytest.raises(ConfigurationError) as caught:
        Chain("bedrock")

    assert "ai-proxy-gateway[bedrock]" in str(caught.value)
