"""wrk: the load, and what it saw."""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench.processes import BenchError, Process
from bench.targets import Request

T = TypeVar("T")

_SPARE = 45  # seconds beyond its time that wrk may take, slow answers included
_SCRIPT = """
wrk.method = "POST"
wrk.body = [==[%s]==]
%s
done = function(summary, latency, requests)
  local errors = summary.errors
  local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local file = assert(io.open("result.json", "w"))
  file:write(string.format('{"calls": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, "errors": %%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, bad))
  file:close()
end
"""


class Load(NamedTuple):
    """Calls answered, how long that took, their latency in ms, and the errors: bad statuses and broken sockets."""

    calls: int
    seconds: float
    p50: float
    p99: float
    errors: int


def press(
    request: Request, *, connections: int, seconds: float, core: int | None, meanwhile: Callable[[], T]
) -> tuple[Load, T]:
    """Ask without a pause on each connection for so long; and what `meanwhile` returned, which runs beside it."""
    with tempfile.TemporaryDirectory(prefix="bench-wrk-") as name:
        directory = Path(name)
        (directory / "script.lua").write_text(_script(request))
        duration = f"{max(1, round(seconds))}s"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}", "--timeout", "30s", "-s", "script.lua"]
        with Process([*command, request.url], directory=directory, core=core) as wrk:
            value = meanwhile()
            wait(wrk, seconds + _SPARE)
            if wrk.popen.returncode != 0:
                message = f"wrk failed:\n{wrk.last_words()}"
                raise BenchError(message)
        return Load(**json.loads((directory / "result.json").read_text())), value


def run(request: Request, *, connections: int, seconds: float, core: int | None) -> Load:
    load, _ = press(request, connections=connections, seconds=seconds, core=core, meanwhile=lambda: None)
    return load


def window(seconds: float, read: Callable[[], tuple[float, ...]]) -> Callable[[], tuple[float, ...]]:
    """For `press`: by how much the numbers that `read` returns grow in the middle of a load, after a second's start."""

    def measure() -> tuple[float, ...]:
        time.sleep(1)
        before = read()
        time.sleep(seconds)
        return tuple(after - earlier for after, earlier in zip(read(), before, strict=True))

    return measure


def wait(process: Process, seconds: float) -> None:
    try:
        process.popen.wait(seconds)
    except subprocess.TimeoutExpired:
        message = f"{process.popen.args[0]} did not end within {seconds:g} s"
        raise BenchError(message) from None


def _script(request: Request) -> str:
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in request.headers.items())
    return _SCRIPT % (request.json, headers)
