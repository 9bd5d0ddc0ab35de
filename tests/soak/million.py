"""python -m tests.soak.million: is a history of a million rows quick to read, and is half of it removed unnoticed?

Each store is filled; a service on it is asked for lists and searched; then its retention removes the older half while
others ask. Exits with 1 if a bar is missed.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx2

from ai_proxy.core.ids import first_of
from ai_proxy.core.types import Exchange
from ai_proxy.storage import records, search
from tests import stores
from tests.postgres import Postgres
from tests.service import KEY, Service
from tests.stores import Store

SLOWEST_READ = 0.2  # seconds, of 95 in 100
MOST_SLOWER = 2.0  # times, of the slowest of 100 calls
MOST_MEMORY = 32 * 2**20

_DAYS, _KEPT = 100, 50
_BATCH = 2000
_READS = 200
_DAY = 86_400_000_000  # microseconds
_LONGEST = 3600  # seconds that half of the rows may take
_MODELS = ("gpt-4.1-mini", "claude-sonnet-4-5", "mock", "gemini-2.5-flash", "small")
_COMMON = ("server", "database", "how", "write", "question", "столица", "страна", "ответ", "вопрос", "сервер")
_SEARCHES = ("server", "database question", "столицы стран", '"rare17"', "rare4 rare17", "вопрос -server", "databas*")
_CONVERSATION = "{:08x}-0000-7000-8000-000000000000"
_FILTERS = (
    {},
    {"model": "small"},
    {"status": "failed"},
    {"provider": "openai"},
    {"conversation": _CONVERSATION.format(77)},
    {"limit": 200},
    {"model": "mock", "status": "failed"},
)


class Row(NamedTuple):
    what: str
    found: str
    bar: str
    met: bool


def exchanges(key: str, rows: int) -> Iterator[Exchange]:
    """Of the last hundred days, oldest first, one in twenty with the bodies of its call."""
    dice = random.Random(5)
    now = time.time_ns() // 1000
    for number in range(rows):
        at = now - round(_DAYS * _DAY * (1 - number / rows))
        body = {"request": b"{}" * 400, "response": b"{}" * 400} if number % 20 == 0 else {}
        yield stores.exchange(
            f"{first_of(at)[:-9]}{number:09}",
            key_id=key,
            question=_text(dice, 15),
            answer=_text(dice, 40),
            model=dice.choice(_MODELS),
            provider=dice.choice(("openai", "anthropic", "mock")),
            status="failed" if number % 50 == 0 else "completed",
            conversation_id=_CONVERSATION.format(number // 10) if number % 3 == 0 else None,
            created_at=at,
            **body,
        )


def _text(dice: random.Random, words: int) -> str:
    return " ".join(
        dice.choice(_COMMON) if dice.random() < 0.5 else f"rare{dice.randrange(20_000)}" for _ in range(words)
    )


async def fill(store: Store, rows: int) -> None:
    key = store.query("select id from api_keys")[0][0]
    given = exchanges(key, rows)
    async with store.database(patience=600) as database:
        for start in range(0, rows, _BATCH):
            await records.add(database, [next(given) for _ in range(min(_BATCH, rows - start))])
            if start % 100_000 == 0:
                _say(f"{start} rows")
        _say("indexing")
        while (await search.index_next(database, most=500)).count:
            pass
    if store.on_server:
        store.query("vacuum analyze")


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def reads(service: Service) -> Iterator[Row]:
    yield _read("list", [_time(service, _FILTERS[number % len(_FILTERS)]) for number in range(_READS)])
    yield _read("list, page after page", list(_pages(service)))
    yield _read("search", [_time(service, {"q": _SEARCHES[number % len(_SEARCHES)]}) for number in range(_READS)])


def _time(service: Service, query: dict) -> float:
    began = time.perf_counter()
    answer = service.client.get("/api/history", params=query)
    assert answer.status_code == httpx2.codes.OK, (query, answer.text, service.stderr(), service.log()[-5:])
    return time.perf_counter() - began


def _pages(service: Service) -> Iterator[float]:
    cursor = None
    for _ in range(_READS // 2):
        began = time.perf_counter()
        query = {"limit": 50} if cursor is None else {"limit": 50, "cursor": cursor}
        cursor = service.client.get("/api/history", params=query).raise_for_status().json()["next_cursor"]
        yield time.perf_counter() - began


def _read(what: str, times: list[float]) -> Row:
    slow = _rank(times, 95)
    found = f"p50 {_rank(times, 50) * 1000:.1f} ms, p95 {slow * 1000:.1f} ms"
    return Row(what, found, f"p95 <= {SLOWEST_READ * 1000:.0f} ms", slow <= SLOWEST_READ)


def _rank(times: list[float], per_cent: int) -> float:
    return sorted(times)[max(0, len(times) * per_cent // 100 - 1)]


class Load:
    """Asks so many times a second, whether or not the answers have come; from when each should have begun."""

    def __init__(self, service: Service, rate: float) -> None:
        self._service = service
        self._rate = rate
        self.times: list[float] = []
        self.failed = 0

    async def run(self, until: asyncio.Event) -> None:
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            httpx2.AsyncClient(base_url=self._service.url, headers=headers, timeout=30) as client,
            asyncio.TaskGroup() as calls,
        ):
            due = time.perf_counter()
            while not until.is_set():
                calls.create_task(self._ask(client, due))
                due += 1 / self._rate
                await asyncio.sleep(max(0, due - time.perf_counter()))

    async def _ask(self, client: httpx2.AsyncClient, due: float) -> None:
        answer = await client.post("/api/ask", json={"question": "ping"})
        self.failed += answer.status_code != httpx2.codes.OK
        self.times.append(time.perf_counter() - due)

    def take(self) -> list[float]:
        times, self.times = self.times, []
        return times


async def removal(service: Service, rows: int, *, rate: float) -> list[Row]:
    """The service has just been started, and begins to remove a minute later."""
    load, enough = Load(service, rate), asyncio.Event()
    asking = asyncio.create_task(load.run(enough))
    await asyncio.sleep(5)
    load.take()
    while not await _removed(service):
        await asyncio.sleep(0.5)
        memory = _memory(service)
    before, began = load.take(), time.perf_counter()
    most, last, gone = memory, -1, 0
    while gone != last or gone < rows // 2 - rows // 100:
        assert time.perf_counter() - began < _LONGEST
        await asyncio.sleep(2)
        most = max(most, _memory(service))
        _say(f"{gone} removed")
        last, gone = gone, await _removed(service)
    took, during = time.perf_counter() - began, load.take()
    enough.set()
    await asking
    return list(_removal_rows(before, during, load.failed, most - memory, f"{gone} in {took:.0f} s"))


def _removal_rows(before: list[float], during: list[float], failed: int, grown: int, removed: str) -> Iterator[Row]:
    slow, slower = _rank(before, 99), _rank(during, 99)
    calls = f"p99 {slow * 1000:.1f} ms before, {slower * 1000:.1f} ms while ({len(before)} and {len(during)} calls)"
    yield Row("removed", removed, "", met=True)
    yield Row("calls", calls, f"< {MOST_SLOWER:.0f} x", slower < MOST_SLOWER * slow)
    yield Row("calls that failed", str(failed), "0", failed == 0)
    yield Row("memory", f"{grown / 2**20:+.1f} MB", f"<= {MOST_MEMORY // 2**20} MB", grown <= MOST_MEMORY)


async def _removed(service: Service) -> int:
    text = (await asyncio.to_thread(service.client.get, "/metrics")).text
    return round(float(re.search(r"^aiproxy_history_removed_total (\S+)", text, re.MULTILINE)[1]))


def _memory(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def measure(store: Store, directory: Path, rows: int, rate: float) -> list[Row]:
    service = Service(directory, **store.settings).start()
    try:
        service.stop()
        asyncio.run(fill(store, rows))
        service.start()
        _say("reading")
        found = []
        for row in reads(service):
            _say(f"{row.what}: {row.found}")
            found.append(row)
        service.stop()
        service.settings["AI_PROXY_RETENTION__DAYS"] = _KEPT
        service.start()
        _say("removing, in a minute")
        return found + asyncio.run(removal(service, rows, rate=rate))
    finally:
        service.stop()
        service.client.close()


def main() -> int:
    arguments = _arguments()
    missed = 0
    with ExitStack() as stack:
        for kind in arguments.stores.split(","):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ai-proxy-million-")))
            if kind == "sqlite":
                store = stores.in_file(directory)
            else:
                store = Store(stack.enter_context(Postgres()).new_database(), directory)
            rows = measure(store, directory, arguments.rows, arguments.rate)
            missed += sum(not row.met for row in rows)
            _print(kind, arguments.rows, rows)
    return min(missed, 1)


def _print(kind: str, count: int, rows: list[Row]) -> None:
    print(f"\n{kind}, {count} rows\n")  # noqa: T201
    for row in rows:
        print(f"{row.what:24} {row.found:70} {row.bar:16} {'' if row.met else 'MISSED'}", flush=True)  # noqa: T201


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stores", default="sqlite,postgresql", help="sqlite, postgresql, or both")
    parser.add_argument("--rate", type=float, default=50, help="calls a second while rows are removed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
