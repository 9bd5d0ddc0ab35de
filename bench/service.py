"""AI Proxy as an operator would start it, with everything on, and what it says of itself."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, Process, free_port, until
from bench.targets import CHAT, QUESTION, Request, Start, Target, chat, first_answers, text_of

_KEY = "the-key-of-the-bench-0123456789"
_START_LIMIT = 30  # seconds
_IN_FORCE = 6  # seconds after which a running service heeds what the command line has changed
_SETTINGS = """\
[prices]
"openai/fake" = { input = 0.15, output = 0.6, cache_read = 0.075 }
"openai/gpt-6-luna" = { input = 0.15, output = 0.6, cache_read = 0.075 }
"""
_POLICY = (  # so high that nothing is ever refused, and all of it is counted in every call
    ("limits", "set", "service", "--requests", "100000000", "--tokens", "1000000000", "--concurrent", "100000"),
    ("limits", "set", "user:operator", "--requests", "100000000", "--tokens", "1000000000", "--concurrent", "100000"),
    ("budgets", "set", "service", "month", "1000000"),
    ("budgets", "set", "user:operator", "day", "1000000"),
)
ROUTES = (CHAT, "/api/ask", "/api/streaming")


@dataclass(frozen=True)
class Books:
    """How many rows the history has of each status, and how many lines of the log tell of a call.

    `chats` are those of the rows that should have their bodies stored beside them. `reported` are the calls that the
    daily reports count, `spent` and `charged` what they and the rows say that all cost, in nano-dollars.
    """

    rows: dict[str, int]
    log_lines: int
    chats: int
    bodies: int
    reported: int = 0
    spent: int = 0
    charged: int = 0


@dataclass(frozen=True)
class Service:
    """Two targets in one process. `before` is what its directory held when it was started."""

    chat: Target
    ask: Target
    start: Start
    directory: Path
    before: Books

    @property
    def process(self) -> Process:
        return self.chat.process

    def metric(self, name: str, **labels: str) -> int:
        """The sum of a metric's series that have these labels."""
        return total(self._metrics(), name, **labels)

    def requests(self, **labels: str) -> int:
        """How many of what the bench asks for it has answered, since its start."""
        metrics = self._metrics()
        return sum(total(metrics, "aiproxy_requests_total", route=route, **labels) for route in ROUTES)

    def settle(self) -> None:
        """Wait until nothing is being served and everything is in the history."""
        until(self._is_idle, seconds=20, what="the service's rest after a load")

    def _is_idle(self) -> bool:
        metrics = self._metrics()
        waiting = total(metrics, "aiproxy_records_waiting")
        return waiting == 0 and total(metrics, "aiproxy_inflight_requests") <= 1  # the one that asks

    def _metrics(self) -> str:
        return text_of(self.chat.whole.port, "/metrics")


def books(directory: Path) -> Books:
    """What is written there by now. Of a running service: wait first until it rests."""
    path = directory / "data" / "ai-proxy.db"
    if not path.exists():
        return Books({}, 0, 0, 0)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = dict(database.execute("select status, count(*) from exchanges group by status").fetchall())
        (chats,) = database.execute("select count(*) from exchanges where dialect = 'chat'").fetchone()
        (bodies,) = database.execute("select count(*) from bodies").fetchone()
        reported, spent = database.execute("select sum(calls), sum(cost) from daily_usage").fetchone()
        (charged,) = database.execute("select sum(cost) from exchanges").fetchone()
    with (directory / "stdout").open() as lines:
        log_lines = sum(any(f'"path":"{route}"' in line for route in ROUTES) for line in lines)
    return Books(rows, log_lines, chats, bodies, reported or 0, spent or 0, charged or 0)


def start(directory: Path, upstream: int, core: int | None) -> Service:
    """In a directory that may be new. `upstream` is the port of the provider."""
    directory.mkdir(exist_ok=True)
    (directory / "ai-proxy.toml").write_text(_SETTINGS)
    before = books(directory)
    port = free_port()
    settings = {
        "PORT": str(port),
        "OPENAI_API_KEY": "sk-bench",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}/v1",
        "AI_PROXY_API_KEY": _KEY,
    }
    process = Process([_command(), "serve"], directory=directory, core=core, settings=settings)
    asked, chatted = _questions(process, port), _chats(process, port)
    first = first_answers(process, "/livez", asked.whole, seconds=_START_LIMIT)
    return Service(chatted, asked, first, directory, before)


def govern(service: Service) -> None:
    """Switch on limits and budgets, and wait until they are in force."""
    for arguments in _POLICY:
        command = [_command(), *arguments]
        done = subprocess.run(command, cwd=service.directory, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            message = f"{' '.join(command)}: {done.stderr}"
            raise BenchError(message)
    time.sleep(_IN_FORCE)


def _chats(process: Process, port: int) -> Target:
    whole, stream = (chat(port, key=_KEY, stream=stream) for stream in (False, True))
    return Target("AI Proxy, /v1", process, whole, stream)


def _questions(process: Process, port: int) -> Target:
    body: dict[str, object] = {"question": QUESTION}
    whole, stream = (Request(port, path, body, _KEY) for path in ("/api/ask", "/api/streaming"))
    return Target("AI Proxy, /api", process, whole, stream)


def _command() -> str:
    path = Path(sys.executable).parent / "ai-proxy"
    if not path.exists():
        message = f"{path} is missing: run 'make bench', or 'uv sync' first"
        raise BenchError(message)
    return str(path)


def total(metrics: str, name: str, **labels: str) -> int:
    """The sum of the series of `name` that have these labels, from Prometheus's text form."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return round(
        sum(
            float(line.rpartition(" ")[2])
            for line in metrics.splitlines()
            if line.startswith((f"{name}{{", f"{name} ")) and all(pair in line for pair in wanted)
        )
    )
