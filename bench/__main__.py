"""python -m bench: what a call costs, and whether the bars are met."""

import argparse
import shutil
import signal
import sys

from bench import litellm, nginx, portkey, report, scenario
from bench.bars import CALLS, bars
from bench.measurements import Options
from bench.processes import BenchError

_EXAMPLES = """
examples:

  python -m bench                   everything, in about five minutes
  python -m bench --peers           the same, with LiteLLM and Portkey beside it, in about ten
  python -m bench --quick           a first impression in about a minute; memory is not measured
  python -m bench --seconds 20 --connections 128

Exits with 0 if every bar is met, 1 if one is missed, 2 if it could not be measured.
nginx and wrk are needed: apt install nginx-light wrk
"""
_MISSED, _FAILED = 1, 2
_LONGEST = 1800  # seconds; a bench that takes longer hangs


def main() -> int:
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end)
    try:
        _check_tools()
        if arguments.peers:
            litellm.install()
            portkey.install()
        signal.alarm(_LONGEST)
        found = scenario.run(_options(arguments), peers=arguments.peers)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return _FAILED
    print(report.text(found))
    return _MISSED if any(bar.met is False for bar in bars(found)) else 0


def _check_tools() -> None:
    if sys.platform != "linux":
        raise BenchError("only Linux is supported: CPU is read from /proc")
    missing = {"nginx-light": nginx.binary(), "wrk": shutil.which("wrk")}
    packages = " ".join(package for package, path in missing.items() if path is None)
    if packages:
        message = f"what the bench needs is missing: apt install {packages}"
        raise BenchError(message)


def _end(number: int, _: object) -> None:
    raise BenchError("it took too long" if number == signal.SIGALRM else "stopped")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures what a call through AI Proxy costs, beside nginx, and checks the bars.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", action="store_true", help="LiteLLM and Portkey, too (.venv-litellm, .venv-portkey)")
    parser.add_argument("--quick", action="store_true", help="one short round, and no memory after 100,000 calls")
    parser.add_argument("--seconds", type=_positive, default=5, help="of each round of load (default: 5)")
    parser.add_argument("--connections", type=_positive, default=64, help="at once, for whole answers (default: 64)")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 600:
        raise argparse.ArgumentTypeError("must be between 1 and 600")
    return number


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        seconds=2 if arguments.quick else arguments.seconds,
        rounds=1 if arguments.quick else 3,
        connections=arguments.connections,
        calls=1 if arguments.quick else CALLS,
        token_seconds=2 if arguments.quick else 4,
        starts=1 if arguments.quick else 3,
    )


if __name__ == "__main__":
    sys.exit(main())
