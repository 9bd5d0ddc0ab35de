"""Alerts of budgets: a line in the log, and a signed message to the operator's own address, if there is one.

The messages have the form of Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import asyncio
import base64
import hashlib
import hmac
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Self

import msgspec
import structlog
from pydantic import SecretStr
from yarl import URL

from ai_proxy import __version__
from ai_proxy.core.exceptions import GatewayError
from ai_proxy.core.groups import AlertSettings
from ai_proxy.core.ids import uuid7
from ai_proxy.core.money import dollars
from ai_proxy.core.types import Bounds, Period
from ai_proxy.providers.http import Channel, Http

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]

CAPACITY = 1000
PAUSES = (2.0, 8.0, 20.0, 35.0, 55.0)  # seconds before each further try: two minutes together
_LIMITS = Bounds(connect=5.0, first_byte=10.0, idle=10.0, total=10.0)
_GOOD = range(200, 300)
_BASE64 = "whsec_"


class Alerts:
    """Use as an async context manager: at its end, what is queued is sent, for at most `closing_time` seconds.

    Who tells never waits: alerts beyond `capacity` are dropped, and counted with those that nobody took.
    """

    def __init__(
        self,
        http: Http,
        settings: AlertSettings,
        *,
        capacity: int = CAPACITY,
        closing_time: float = 2.0,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._hook = None if settings.url is None else _Hook(http, settings, clock)
        self._capacity = capacity
        self._closing_time = closing_time
        self._clock = clock
        self._sleep = sleep
        self._queue: deque[_Message] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def tell(self, subject: str, period: Period, percent: int, spent: int, amount: int) -> None:
        """`percent` of a budget of `amount` are spent: log it, and queue a message. Amounts are in nano-dollars."""
        alert = _Alert(subject, period, percent, dollars(spent), dollars(amount))
        log.warning(
            f"budget: {alert.percent} % spent",
            subject=alert.subject,
            period=alert.period,
            spent_usd=alert.spent_usd,
            amount_usd=alert.amount_usd,
        )
        if self._hook is None:
            return
        if len(self._queue) >= self._capacity:
            self.dropped += 1
            return
        self._queue.append(_message(alert, self._clock()))
        self._idle.clear()
        self._arrived.set()

    async def __aenter__(self) -> Self:
        if self._hook is not None:
            self._task = asyncio.create_task(self._run(self._hook), name="alerts")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is None:
            return
        try:
            async with asyncio.timeout(self._closing_time):
                await self._idle.wait()
        except TimeoutError:
            self.dropped += len(self._queue)
            log.error("alerts: not delivered before the end", alerts=len(self._queue))
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, hook: "_Hook") -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                if not await self._deliver(hook, self._queue[0]):
                    self.dropped += 1
                self._queue.popleft()
            self._idle.set()

    async def _deliver(self, hook: "_Hook", message: "_Message") -> bool:
        """Whether somebody took it, at the first try or a later one."""
        failure = await hook.send(message)
        for pause in PAUSES:
            if failure is None:
                return True
            await self._sleep(pause)
            failure = await hook.send(message)
        if failure is not None:
            log.error("alerts: not delivered", alert=message.id, tries=1 + len(PAUSES), error=failure)
        return failure is None


class _Message(msgspec.Struct, frozen=True):
    id: str
    body: bytes


class _Alert(msgspec.Struct, frozen=True):
    subject: str
    period: Period
    percent: int
    spent_usd: str
    amount_usd: str


def _message(alert: _Alert, now: float) -> _Message:
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = msgspec.json.encode({"type": "budget.threshold", "timestamp": at, "data": alert})
    return _Message(f"msg_{uuid7()}", body)


class _Hook:
    """The address that is told. It may hold a password, so it is in no log."""

    def __init__(self, http: Http, settings: AlertSettings, clock: Callable[[], float]) -> None:
        self._url = URL(settings.url or "")
        self._key = signing_key(settings.secret or SecretStr(""))
        self._clock = clock
        self._channel: Channel = http.channel("alerts", max_connections=1, pool_timeout=_LIMITS.total)

    async def send(self, message: _Message) -> str | None:
        """One try. What failed; None if all went well."""
        timestamp = int(self._clock())  # of this try: receivers refuse what is old
        headers = {
            "content-type": "application/json",
            "user-agent": f"ai-proxy/{__version__}",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._key, message.id, timestamp, message.body),
        }
        try:
            async with self._channel.request("POST", self._url, headers, _LIMITS, message.body) as reply:
                return None if reply.status in _GOOD else f"status {reply.status}"
        except GatewayError as error:
            return error.code
        except Exception as error:  # noqa: BLE001 - what follows must be sent, whatever becomes of this one
            return type(error).__name__  # its text may name the address


def signing_key(secret: SecretStr) -> bytes:
    """What follows `whsec_` is base64, as Standard Webhooks has it; another secret is taken as it is."""
    text = secret.get_secret_value()
    if not text.startswith(_BASE64):
        return text.encode()
    return base64.b64decode(text.removeprefix(_BASE64))


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """What the header `webhook-signature` says. `timestamp` is in seconds since the epoch."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"
