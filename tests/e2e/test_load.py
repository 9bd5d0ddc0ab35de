"""Fifty clients at once, asking, streaming and reading the history, on SQLite."""

import asyncio
import json
import os
import random
import sqlite3
import time

import aiohttp
import pytest

from tests.service import KEY

CLIENTS = 50
SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(SECONDS + 60)]


class Tally:
    """What the clients got."""

    def __init__(self):
        self.statuses = {}
        self.answered = set()

    def count(self, status):
        self.statuses[status] = self.statuses.get(status, 0) + 1


async def ask(session, tally):
    async with session.post("/api/ask", json={"question": "ping"}) as response:
        tally.count(response.status)
        if response.status == 200:
            tally.answered.add((await response.json())["id"])


async def stream(session, tally):
    async with session.post("/api/streaming", json={"question": "ping"}) as response:
        tally.count(response.status)
        text = await response.text()
        if "event: done" in text:
            tally.answered.add(json.loads(text.split("data: ", 1)[1].split("\n", 1)[0])["id"])


async def history(session, tally):
    async with session.get("/api/history", params={"limit": 20}) as response:
        tally.count(response.status)
        await response.read()


async def client(session, tally, until):
    while time.monotonic() < until:
        await random.choice((ask, ask, stream, stream, history))(session, tally)


async def test_nothing_fails_and_every_answer_has_its_row(start):
    service = start(AI_PROXY_MOCK__LATENCY=0.01, AI_PROXY_MOCK__TOKEN_DELAY=0.001)
    tally = Tally()
    until = time.monotonic() + SECONDS

    headers = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(service.url, headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session, tally, until) for _ in range(CLIENTS)))
    code = service.stop()

    log = (service.directory / "stdout").read_text()
    with sqlite3.connect(service.directory / "data" / "ai-proxy.db") as database:
        rows = {row[0] for row in database.execute("select id from exchanges where status = 'completed'")}
    assert code == 0
    assert set(tally.statuses) == {200}
    assert rows == tally.answered
    assert len(rows) > CLIENTS
    assert "database is locked" not in log
    assert '"level":"error"' not in log
