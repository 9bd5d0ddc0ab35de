"""python -m tests.soak: all the proofs that nothing is lost, at full length, on both stores.

`kills`, `outages` and `endurance` may be named; without a name it is all three. SOAK_SEED gives the seed again that a
run has printed, SOAK_SECONDS shortens the endurance. Exits with 1 if anything was found.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.soak import books, endurance, kills, outages, places
from tests.stores import STORES

_KILLS, _RESTARTS, _OUTAGE, _SECONDS = 200, 20, 60.0, 300.0


class Line(NamedTuple):
    name: str
    found: str
    problems: list[str]
    seconds: float


def main() -> int:
    given = _arguments()
    seed = places.seed()
    places.tell(f"SOAK_SEED={seed}, load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    proofs: dict[str, Callable[[str, Path], tuple[str, list[str]]]] = {
        "kills": lambda kind, path: _kills(kind, path, given.kills, seed),
        "outages": lambda kind, path: _outages(kind, path, given.restarts, given.outage),
        "endurance": lambda kind, path: _endurance(kind, path, given.seconds),
    }
    lines = [
        _line(f"{name}, {kind}", lambda path, name=name, kind=kind: proofs[name](kind, path))
        for name in given.proofs or proofs
        for kind in given.stores
    ]
    for line in lines:
        sys.stdout.write(f"{line.name:24} {line.seconds:5.0f} s  {line.found}\n")
        if line.problems:
            sys.stdout.write(f"{books.as_text(line.problems)}\n")
    return int(any(line.problems for line in lines))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("proofs", nargs="*", choices=("kills", "outages", "endurance"))
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--kills", type=int, default=_KILLS)
    parser.add_argument("--restarts", type=int, default=_RESTARTS)
    parser.add_argument("--outage", type=float, default=_OUTAGE, help="seconds")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK_SECONDS", _SECONDS)))
    return parser.parse_args()


def _line(name: str, prove: Callable[[Path], tuple[str, list[str]]]) -> Line:
    places.tell(f"{name} …")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ai-proxy-soak-") as directory:
        found, problems = prove(Path(directory) / "data")
    return Line(name, found, problems, time.monotonic() - began)


def _kills(kind: str, directory: Path, rounds: int, seed: int) -> tuple[str, list[str]]:
    done = kills.run(kind, directory, rounds=rounds, seed=seed)
    found = f"{rounds} kills, {done.spooled} of them with rows in the spool; {done.answered} answers, {done.rows} rows"
    return found, done.problems


def _outages(kind: str, directory: Path, restarts: int, outage: float) -> tuple[str, list[str]]:
    done = outages.run(kind, directory, restarts=restarts, outage=outage)
    found = (
        f"{restarts} restarts, {outage:.0f} s away: {done.answered} answers, {done.during} of them meanwhile; "
        f"all works after {max(done.recoveries):.1f} s, all rows are there after {done.drained:.1f} s; "
        f"slowest call {done.slowest:.1f} s"
    )
    return found, done.problems


def _endurance(kind: str, directory: Path, seconds: float) -> tuple[str, list[str]]:
    done = endurance.run(kind, directory, seconds=seconds)
    return f"{done.rows} rows, {done.growth / 2**20:+.1f} MB; {done.before} {done.after}", done.problems


if __name__ == "__main__":
    sys.exit(main())
