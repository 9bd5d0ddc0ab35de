"""Minutes of everything at one time: at the end the process is as it was, and every call has its row."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.outcome import memory
from tests.service import Service
from tests.soak import books
from tests.soak.load import ALL_WAYS, Journal, Load
from tests.soak.places import place, service_before, tell
from tests.soak.provider import Provider

ROOT = Path(__file__).parents[2]
MOST_GROWTH = 16 * 2**20  # bytes of memory
_WARM_UP = 0.2  # of the time
_QUIET = 15.0  # seconds in which connections that nobody uses may close, and garbage be collected
_ROOM = {"tasks": 2, "threads": 2, "files": 6}  # how much more is as good as level
_MOST_CONNECTIONS = 7  # of the pools, which are filled by and by
_EACH = {"tasks": 0, "threads": 1, "files": 3}  # what comes with a connection


class Result(NamedTuple):
    rows: int
    outcomes: dict[str, int]
    before: dict[str, int]
    after: dict[str, int]
    growth: int  # bytes of memory
    problems: list[str]


def run(kind: str, directory: Path, *, seconds: float) -> Result:
    """Asks, streams, clients that leave and a provider with faults, for so many seconds."""
    directory.mkdir(exist_ok=True)
    journal = Journal()
    counts = directory / "counts"
    command = [sys.executable, "-m", "tests.soak.observed", str(counts), "serve"]
    with (
        place(kind, directory) as where,
        Provider(faults=True) as provider,
        service_before(provider, where.store, command=command, PYTHONPATH=ROOT) as service,
    ):
        before, rss_before = _loaded(service, journal, counts, "warm", seconds * _WARM_UP)
        after, rss_after = _loaded(service, journal, counts, "long", seconds * (1 - _WARM_UP))
        wrong = books.problems(where.store, journal, provider.asked)
        wrong += _growth_problems(before, after)
        if (growth := rss_after - rss_before) > MOST_GROWTH:
            wrong.append(f"memory grew by {growth / 2**20:.1f} MB")
        rows, outcomes = len(books.rows(where.store)), books.calls(service)
        if rows != sum(outcomes.values()):
            wrong.append(f"{rows} rows, and calls: {outcomes}")
        if books.metric(service, "aiproxy_records_lost_total"):
            wrong.append("rows were lost")
        return Result(rows, outcomes, before, after, growth, wrong)


def _loaded(service: Service, journal: Journal, counts: Path, name: str, seconds: float) -> tuple[dict[str, int], int]:
    """Load it for a while. Returns what there is in the process some time after that, and its memory."""
    with Load(service.url, journal, name=name, clients=16, ways=ALL_WAYS):
        for _ in range(10):
            time.sleep(seconds / 10)
            megabytes = memory(service, "VmRSS") / 2**20
            tell(f"{name}: {len(journal.answered)} answered, {megabytes:.0f} MB")
    books.wait_until_settled(service)
    time.sleep(min(_QUIET, seconds))
    counts.unlink(missing_ok=True)
    service.process.send_signal(signal.SIGUSR2)
    service.eventually(counts.exists)
    return json.loads(counts.read_text()), memory(service, "VmRSS")


def _growth_problems(before: dict[str, int], after: dict[str, int]) -> list[str]:
    added = after["connections"] - before["connections"]
    wrong = [
        f"{name}: {before[name]}, later {after[name]}"
        for name, room in _ROOM.items()
        if after[name] > before[name] + max(0, added) * _EACH[name] + room
    ]
    if after["connections"] > _MOST_CONNECTIONS or after["lent"]:
        wrong.append(f"of {after['connections']} connections {after['lent']} are lent")
    return wrong
