"""python -m tests.clients GROUP…: run groups of client tests, each in its own environment, each with its own server."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.service import KEY, Service

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
LONGEST = 600  # seconds for a group
NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there: a client that asks anyone but the gateway fails at once


class Outcome(msgspec.Struct):
    group: str
    passed: bool
    seconds: float
    output: str


def main(groups: list[str]) -> int:
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = [_told(outcome) for outcome in pool.map(run, groups)]
    _say("\n== clients\n")
    for outcome in outcomes:
        *_, counts = outcome.output.splitlines() or ["no output"]
        _say(f"{'ok    ' if outcome.passed else 'FAILED'} {outcome.group:<11} {outcome.seconds:5.1f} s  {counts}\n")
    return 0 if outcomes and all(outcome.passed for outcome in outcomes) else 1


def run(group: str) -> Outcome:
    """One group's tests. They fail too if the server had a bug or did not stop as it should."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"clients-{group}-") as directory:
        home = Path(directory) / "home"
        home.mkdir()
        service = Service(Path(directory), AI_PROXY_MOCK__TOKEN_DELAY=0).start()
        try:
            passed, output = _pytest(group, service.url, home)
        finally:
            stopped = service.stop()
            service.client.close()
        faults = _faults(service, stopped)
    output += "".join(f"{fault}\n" for fault in faults)
    return Outcome(group, passed and not faults, time.monotonic() - began, output)


def _pytest(group: str, url: str, home: Path) -> tuple[bool, str]:
    """Whether the tests passed, and what they printed."""
    python = ROOT / f".venv-clients-{group}" / "bin" / "python"
    with (home.parent / "pytest").open("w+") as output:
        try:
            done = subprocess.run(
                [python, "-m", "pytest", "-c", HERE / "pytest.ini", HERE / group],
                check=False,
                cwd=home,
                env=_environment(python.parent, url, home),
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST,
            )
            passed = done.returncode == 0
        except subprocess.TimeoutExpired:
            passed = False
            output.write(f"\nstill running after {LONGEST} s\n")
        output.seek(0)
        return passed, output.read()


def _environment(programs: Path, url: str, home: Path) -> dict[str, str]:
    """What a client sees: no settings of the person who runs this, and no way out of the machine."""
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AI_PROXY_URL": url,
        "AI_PROXY_API_KEY": KEY,
        "HTTP_PROXY": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _faults(service: Service, stopped: int) -> list[str]:
    bugs = [str(line) for line in service.log() if line.get("level") in {"error", "critical"} and "exception" in line]
    ending = [f"the server ended with {stopped}: {service.stderr()}"] if stopped else []
    return bugs + ending


def _told(outcome: Outcome) -> Outcome:
    _say(f"\n== {outcome.group}\n{outcome.output}")
    return outcome


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
