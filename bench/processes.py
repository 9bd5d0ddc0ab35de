"""Child processes: started on a chosen core, measured through /proc, ended with the bench however it ends."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 15.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


def cores() -> tuple[int | None, int | None]:
    """The core of what is measured and that of the load; none of either if there is but one."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One process with all its children. Use as a context manager: at its end, none of them is left."""

    def __init__(
        self, command: list[str], *, directory: Path, core: int | None = None, settings: dict[str, str] | None = None
    ) -> None:
        self.directory = directory
        basics = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        with (directory / "stdout").open("ab") as stdout, (directory / "stderr").open("ab") as stderr:
            self.started = time.perf_counter()
            self.popen = subprocess.Popen(
                command,
                cwd=directory,
                env=basics | (settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=_bound_to(core),  # noqa: PLW1509 - there are no threads here
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def age(self) -> float:
        """Seconds since it was started."""
        return time.perf_counter() - self.started

    def check(self) -> None:
        """Raises `BenchError` when it has ended by itself."""
        if self.popen.poll() is not None:
            message = f"{self.popen.args[0]} ended with {self.popen.returncode}:\n{self.last_words()}"
            raise BenchError(message)

    def last_words(self) -> str:
        return "".join((self.directory / name).read_text(errors="replace")[-2000:] for name in ("stdout", "stderr"))

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of the process and its children, those included that have ended."""
        tree = _tree(self.popen.pid)
        return (sum(sum(ticks[:2]) for ticks in tree) + sum(tree[0][2:])) / _TICKS

    def rss(self) -> float:
        """Resident memory of the process alone, in MB."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def until(condition: Callable[[], bool], *, seconds: float, what: str, every: float = 0.01) -> None:
    """Wait for `condition`. Raises `BenchError` when it takes longer than `seconds`."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            message = f"{what}: not within {seconds:g} s"
            raise BenchError(message)
        time.sleep(every)


def _bound_to(core: int | None) -> Callable[[], None]:
    def bind() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if core is not None:
            os.sched_setaffinity(0, {core})

    return bind


def _tree(root: int) -> list[tuple[int, int, int, int]]:
    """utime, stime, cutime and cstime of a process, first, and of all its descendants."""
    parents: dict[int, int] = {}
    ticks: dict[int, tuple[int, int, int, int]] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            pid = int(directory.name)
            parents[pid] = int(fields[1])
            ticks[pid] = (int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14]))
    return [ticks[root], *(ticks[pid] for pid in ticks if pid != root and _descends(pid, root, parents))]


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != root:
        pid = parents[pid]
    return pid == root
