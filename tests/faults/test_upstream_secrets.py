"""What must not leave us: the key that we have with the provider, and the keys that our callers have with us."""

import json

import pytest

from tests.outcome import CHAT, EVERY_WAY, Way, post, recorded, sampled
from tests.service import KEY
from tests.upstream import KEY as PROVIDER_KEY
from tests.upstream import completion, delta, error, event, raw, status, stream

CANARY = "token-canary-0123456789"  # no pattern of a key would find this one
CREDENTIALS = "https://user:canary-password@proxy.example/v1"
BLURTED = (
    f"Bad key {PROVIDER_KEY} in Authorization: Bearer {PROVIDER_KEY} at {CREDENTIALS} with sk-proj-canary_12345678"
)
SECRETS = (PROVIDER_KEY, "canary-password", "canary_12345678")
FAULT = {"error": {"code": 400, "message": BLURTED}}

EVERY_WAY_TO_TELL = pytest.mark.parametrize(
    "handler",
    [
        *[
            pytest.param(error(code, BLURTED), id=str(code))
            for code in (302, 400, 401, 402, 404, 413, 422, 429, 500, 503)
        ],
        pytest.param(error(400, "fine", kind=PROVIDER_KEY), id="as the code of the error"),
        pytest.param(status(400, json.dumps({"error": BLURTED}).encode()), id="as a string"),
        pytest.param(status(400, BLURTED.encode(), content_type="text/plain"), id="as a text"),
        pytest.param(error(400, f"{'x' * 490} {PROVIDER_KEY}"), id="across the end of what is shown"),
        pytest.param(error(400, f"{'x' * 1990} {PROVIDER_KEY}"), id="across the end of what is read"),
        pytest.param(status(200, json.dumps(FAULT).encode()), id="with status 200"),
        pytest.param(status(200, BLURTED.encode()), id="in place of an answer"),
        pytest.param(raw(BLURTED.encode()), id="in place of HTTP"),
        pytest.param(raw(f"HTTP/1.1 500 {PROVIDER_KEY}\r\n\r\n".encode()), id="as the reason"),
        pytest.param(error(500, headers=f"set-cookie: {PROVIDER_KEY}\r\nx-key: {PROVIDER_KEY}\r\n"), id="in headers"),
        pytest.param(error(429, headers=f"retry-after: {PROVIDER_KEY}\r\n"), id="in Retry-After"),
        pytest.param(stream(event(FAULT)), id="in a stream"),
        pytest.param(stream(delta("one"), event(FAULT)), id="late in a stream"),
        pytest.param(stream(delta("one"), b"data: " + BLURTED.encode() + b"\n\n"), id="as a broken chunk"),
    ],
)


@sampled(EVERY_WAY, EVERY_WAY_TO_TELL)
def test_a_provider_that_repeats_secrets_does_not_give_them_away(scripted, way, handler):
    service, upstream = scripted
    upstream.handler = handler

    response = post(service, way, model="once")

    told = response.text + str(response.headers)
    assert [secret for secret in SECRETS if secret in told] == []
    assert recorded(service)[0] == "failed"


def test_the_words_around_a_secret_are_kept(scripted):
    service, upstream = scripted
    upstream.handler = error(400, BLURTED)

    response = post(service, CHAT)

    message = "openai: Bad key *** in Authorization: Bearer *** at https://***@proxy.example/v1 with ***"
    assert response.json()["error"]["message"] == message


def test_secrets_are_neither_in_the_log_nor_in_the_database(scripted):
    service, upstream = scripted
    ids = set()
    for handler in (
        error(400, BLURTED),
        error(401, BLURTED),
        raw(BLURTED.encode()),
        stream(delta("one"), event(FAULT)),
    ):
        upstream.handler = handler
        ids |= {post(service, Way(CHAT, way)).headers["x-request-id"] for way in (False, True)}

    service.eventually(lambda: ids <= {line["request_id"] for line in service.log()})

    files = [file for file in service.directory.rglob("*") if file.is_file()]
    assert {"stdout", "stderr", "ai-proxy.db"} <= {file.name for file in files}
    assert [
        (file.name, secret) for file in files for secret in (*SECRETS, KEY) if secret.encode() in file.read_bytes()
    ] == []


@EVERY_WAY
def test_the_callers_key_is_not_sent_to_the_provider(scripted, way):
    service, upstream = scripted
    upstream.handler = completion()

    post(service, way)

    sent = upstream.connections[0]
    assert sent.header("authorization") == f"Bearer {PROVIDER_KEY}"
    assert KEY not in sent.head + sent.body.decode()


@EVERY_WAY
def test_only_our_own_headers_are_sent_to_the_provider(scripted, way):
    service, upstream = scripted
    odd = {"cookie": "session=1", "x-forwarded-for": "10.0.0.1", "x-api-key": KEY, "openai-organization": "theirs"}

    post(service, way, headers=odd)

    names = {line.split(":")[0].lower() for line in upstream.connections[0].head.split("\r\n")[1:] if line}
    assert names == {"host", "authorization", "content-type", "content-length", "accept-encoding", "user-agent"}


@pytest.mark.parametrize(
    ("key", "words", "told"),
    [
        pytest.param(CANARY, f"Bad key {CANARY}!", "a: Bad key ***!", id="a secret that does not look like one"),
        pytest.param("ollama", "try: ollama pull", "a: try: ollama pull", id="a word that is no secret"),
    ],
)
def test_a_key_is_struck_out_of_the_providers_words_if_it_is_a_secret(gateway, routed, key, words, told):
    upstream = routed("a", providers={"a": {"api_keys": key}})["a"]
    upstream.handler = error(400, words)

    response = post(gateway, CHAT)

    assert response.json()["error"]["message"] == told
