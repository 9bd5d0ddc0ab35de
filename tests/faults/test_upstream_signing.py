"""U37: requests that are signed, by a clock that is not the provider's."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.eventstream import event
from tests.outcome import EVERY_WAY, Way, failed, post, recorded, refusal, said, sampled, seen, tried
from tests.upstream import Handler, in_turn, status

WORDS = b'{"message": "Signature expired: 20261123T101500Z is now earlier than 20261123T111000Z."}'
WHOLE_ANSWER = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "pong"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
    }
).encode()
STREAMED_ANSWER = b"".join(
    map(
        event,
        [
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "pong"}}},
            {"messageStop": {"stopReason": "end_turn"}},
            {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}},
        ],
    )
)


@pytest.fixture
def signed(gateway, upstreams):
    """A server that signs its requests to Bedrock: (service, upstream)."""
    upstream = upstreams["a"]
    address = f"http://127.0.0.1:{upstream.port}"
    bedrock = {"base_url": address, "region": "eu-central-1", "models": ["small"]}
    gateway.configure(providers={"bedrock": bedrock}, models={"small": {"targets": ["bedrock/small"]}})
    upstream.connections.clear()
    return gateway, upstream


def late(kind: str = "InvalidSignatureException") -> Handler:
    """A refusal by somebody whose clock is an hour ahead."""
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    return status(403, WORDS, headers=f"x-amzn-errortype: {kind}\r\ndate: {date}\r\n")


def good(way: Way) -> Handler:
    if way.stream:
        return status(200, STREAMED_ANSWER, content_type="application/vnd.amazon.eventstream")
    return status(200, WHOLE_ANSWER)


def signed_at(connection) -> datetime:
    return datetime.strptime(connection.header("x-amz-date"), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@EVERY_WAY
def test_u37_a_clock_that_is_wrong_is_corrected_within_one_try(signed, way):
    service, upstream = signed
    upstream.handler = in_turn(late(), good(way))

    response = post(service, way)

    assert said(response) == "pong"
    assert recorded(service) == ("completed", None, "pong", (3, 4, False))
    assert tried(service) == [("bedrock", "completed", None)]
    first, second = map(signed_at, upstream.connections)
    assert timedelta(minutes=59) < second - first < timedelta(minutes=61)


@sampled(EVERY_WAY, pytest.mark.parametrize("kind", ["InvalidSignatureException", "ExpiredTokenException"]))
def test_u37_what_a_second_signature_does_not_mend_is_a_refused_key(signed, way, kind):
    service, upstream = signed
    upstream.handler = late(kind)

    response = post(service, way)

    assert seen(response) == refusal(502, "provider_auth", way=way, provider="bedrock", upstream_status=403)
    assert recorded(service) == failed("provider_auth")
    assert tried(service) == [("bedrock", "provider_auth", 403)]
    assert len(upstream.connections) == 2
