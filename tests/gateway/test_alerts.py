"""Alerts of budgets, told to a real receiver that checks the signature as Standard Webhooks has it."""

import asyncio
import base64
import hashlib
import hmac
import json
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from ai_proxy.core.groups import AlertSettings
from ai_proxy.core.money import DOLLAR
from ai_proxy.gateway.alerts import PAUSES, Alerts
from ai_proxy.providers.http import Http
from tests.upstream import Connection, Upstream

pytestmark = pytest.mark.anyio

KEY = b"0123456789abcdef-the-key"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
NOW = 1_795_435_200.25
ALERT = ("user:ada", "month", 80, 4 * DOLLAR + 1, 5 * DOLLAR)


class Receiver:
    """Answers with one status after the other, then with 204 for ever; keeps what it verified."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.seen: list[Connection] = []

    async def __call__(self, connection: Connection) -> None:
        self.seen.append(connection)
        status = self.statuses.pop(0) if self.statuses else 204
        elsewhere = "location: /elsewhere\r\n" if status // 100 == 3 else ""
        await connection.send(f"HTTP/1.1 {status} X\r\n{elsewhere}content-length: 0\r\n\r\n".encode())


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@asynccontextmanager
async def telling(url: str | None, secret: str | None = SECRET, **options):
    async with Http() as http, Alerts(http, AlertSettings(url=url, secret=secret), **options) as alerts:
        yield alerts


def verify(connection: Connection, key: bytes) -> dict:
    """The algorithm of Standard Webhooks, written out. The message, if the signature is right."""
    signed = f"{connection.header('webhook-id')}.{connection.header('webhook-timestamp')}.".encode() + connection.body
    right = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    versions = [part.split(",", 1) for part in connection.header("webhook-signature").split(" ")]
    assert ["v1", right] in versions
    return json.loads(connection.body)


async def test_a_message_is_signed_and_says_what_was_spent(upstream):
    upstream.handler = receiver = Receiver()

    async with telling(upstream.url, clock=Clock()) as alerts:
        alerts.tell(*ALERT)

    [connection] = receiver.seen
    assert connection.head.startswith("POST /v1 HTTP/1.1\r\n")
    assert connection.header("content-type") == "application/json"
    assert connection.header("webhook-id").startswith("msg_")
    assert connection.header("webhook-timestamp") == "1795435200"
    assert verify(connection, KEY) == {
        "type": "budget.threshold",
        "timestamp": "2026-11-23T12:00:00.250Z",
        "data": {
            "subject": "user:ada",
            "period": "month",
            "percent": 80,
            "spent_usd": "4.000000001",
            "amount_usd": "5.00",
        },
    }
    assert alerts.dropped == 0


async def test_a_secret_without_the_prefix_is_the_key_itself(upstream):
    upstream.handler = receiver = Receiver()

    async with telling(upstream.url, "a secret in plain words") as alerts:
        alerts.tell(*ALERT)

    assert verify(receiver.seen[0], b"a secret in plain words")["type"] == "budget.threshold"


@pytest.mark.parametrize("status", [301, 307, 400, 410, 429, 500, 503])
async def test_what_was_not_taken_is_sent_again_with_the_same_id_and_a_new_signature(upstream, status):
    upstream.handler = receiver = Receiver(status, status)
    clock = Clock()

    async with telling(upstream.url, clock=clock, sleep=clock.sleep) as alerts:
        alerts.tell(*ALERT)

    assert [connection.head.split()[1] for connection in receiver.seen] == ["/v1"] * 3
    assert len({connection.header("webhook-id") for connection in receiver.seen}) == 1
    assert len({connection.header("webhook-signature") for connection in receiver.seen}) == 3
    assert len({verify(connection, KEY)["timestamp"] for connection in receiver.seen}) == 1
    assert clock.slept == list(PAUSES[:2])
    assert alerts.dropped == 0


async def test_after_five_more_tries_in_two_minutes_it_is_given_up_and_the_next_one_is_sent(upstream):
    upstream.handler = receiver = Receiver(*[500] * 6)
    clock = Clock()

    with capture_logs() as logs:
        async with telling(upstream.url, clock=clock, sleep=clock.sleep) as alerts:
            alerts.tell(*ALERT)
            alerts.tell(*ALERT)

    assert len(receiver.seen) == 7
    assert len({connection.header("webhook-id") for connection in receiver.seen}) == 2
    assert sum(clock.slept) == 120
    assert alerts.dropped == 1
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert (line["event"], line["tries"], line["error"]) == ("alerts: not delivered", 6, "status 500")


async def test_a_receiver_that_is_not_there_is_tried_again(upstream):
    clock = Clock()

    with capture_logs() as logs:
        async with telling("http://user:password@127.0.0.1:9/hook", clock=clock, sleep=clock.sleep) as alerts:
            alerts.tell(*ALERT)

    assert clock.slept == list(PAUSES)
    assert alerts.dropped == 1
    assert [line["error"] for line in logs if line["log_level"] == "error"] == ["upstream_unreachable"]
    assert not any(secret in str(logs) for secret in ("password", "/hook", SECRET, SECRET[6:]))


async def test_the_password_of_an_address_is_sent_as_basic_credentials(upstream):
    upstream.handler = receiver = Receiver()

    async with telling(upstream.url.replace("://", "://ada:secret@")) as alerts:
        alerts.tell(*ALERT)

    assert receiver.seen[0].header("authorization") == f"Basic {base64.b64encode(b'ada:secret').decode()}"


async def test_when_the_queue_is_full_alerts_are_counted_and_nobody_waits(upstream):
    async def never(connection: Connection) -> None:
        await connection.until_closed()

    upstream.handler = never

    with capture_logs() as logs:
        async with telling(upstream.url, capacity=3, closing_time=0.05) as alerts:
            for _ in range(5):
                alerts.tell(*ALERT)
            dropped = alerts.dropped

    assert dropped == 2
    assert alerts.dropped == 5
    assert [line["alerts"] for line in logs if line["event"] == "alerts: not delivered before the end"] == [3]


async def test_alerts_are_sent_in_the_order_in_which_they_came(upstream):
    upstream.handler = receiver = Receiver()

    async with telling(upstream.url) as alerts:
        for percent in range(1, 21):
            alerts.tell("service", "day", percent, percent, 100)

    assert [verify(connection, KEY)["data"]["percent"] for connection in receiver.seen] == list(range(1, 21))


async def test_an_alert_comes_whenever_it_comes(upstream):
    upstream.handler = receiver = Receiver()

    async with telling(upstream.url) as alerts:
        for expected in (1, 2):
            alerts.tell(*ALERT)
            async with asyncio.timeout(5):
                while len(receiver.seen) < expected:
                    await asyncio.sleep(0.01)

    assert len(receiver.seen) == 2


async def test_an_alert_is_a_line_in_the_log_also_without_an_address():
    with capture_logs() as logs:
        async with telling(None, None) as alerts:
            alerts.tell(*ALERT)

    assert logs == [
        {
            "event": "budget: 80 % spent",
            "log_level": "warning",
            "subject": "user:ada",
            "period": "month",
            "spent_usd": "4.000000001",
            "amount_usd": "5.00",
        }
    ]
    assert alerts.dropped == 0


def test_a_secret_that_says_it_is_base64_and_is_not_is_found_at_start():
    with pytest.raises(ValueError, match="what follows is not base64"):
        AlertSettings(url="http://127.0.0.1/", secret="whsec_not base64 at all!")
