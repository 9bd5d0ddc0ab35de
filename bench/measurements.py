"""The measurements, one function each; what they found, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import median, quantiles
from typing import NamedTuple

from bench.first_token import first_tokens
from bench.load import press, run, window
from bench.service import Service, books
from bench.targets import STREAMS, Request, Start, Target, text_of

_WARM_UP = 2.0
_BURST = 5.0  # seconds of load between two looks at the memory
_MOST_BURSTS = 120


@dataclass(frozen=True)
class Options:
    """`seconds` of each round, `calls` until the memory is looked at for the last time, `starts` of each kind.

    Streams run for `token_seconds` in each of the `rounds` in which first tokens are awaited.
    """

    seconds: float
    rounds: int
    connections: int
    calls: int
    token_seconds: float
    starts: int


class Calls(NamedTuple):
    """Of whole answers: CPU in µs a call, calls a second, latency in ms; `load` are all calls answered, warm-up too."""

    name: str
    cpu: float
    rate: float
    p50: float
    p99: float
    load: int
    errors: int


class Chunks(NamedTuple):
    """Of so many streams at once: CPU in µs a chunk, chunks a second, how busy the core was (0 to 1)."""

    name: str
    streams: int
    cpu: float
    rate: float
    busy: float
    load: int  # streams read to their end
    errors: int


class Memory(NamedTuple):
    """MB after so many calls; and the calls that were answered on the way, and the errors."""

    seen: list[tuple[int, float]]
    load: int
    errors: int


class FirstToken(NamedTuple):
    """ms from the request to the first word; of a target, by how much more than directly."""

    name: str
    p50: float
    p99: float
    load: int  # streams read to their end


class Rows(NamedTuple):
    """Since the service's start: the answers that the load counted, what the service counted, what the history has."""

    answered: int
    ok: int
    requests: int
    abandoned: int
    upstream: int
    rows: dict[str, int]
    log_lines: int
    lost: int
    chats: int
    bodies: int
    reported: int
    spent: int
    charged: int

    @property
    def equal(self) -> bool:
        """Every answer has its completed row, every call its one row, every request its line, every chat its bodies.

        All rows are in the daily reports, with what they cost.

        A request whose client had left before its body was read may be without a row; it is an abandoned one.
        """
        stored, completed = sum(self.rows.values()), self.rows.get("completed", 0)
        return (
            self.answered <= self.ok <= completed <= self.ok + self.abandoned
            and stored == self.upstream
            and stored <= self.requests <= stored + self.abandoned
            and self.log_lines == self.requests
            and self.chats == self.bodies
            and self.reported == stored
            and self.spent == self.charged > 0
            and self.rows.get("failed", 0) == self.lost == 0
        )


@dataclass
class Found:
    machine: str
    calls: list[Calls] = field(default_factory=list)
    chunks: list[Chunks] = field(default_factory=list)
    direct: FirstToken = field(default_factory=lambda: FirstToken("direct", 0.0, 0.0, 0))
    tokens: list[FirstToken] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    starts: dict[str, Start] = field(default_factory=dict)
    memory: Memory = field(default_factory=lambda: Memory([], 0, 0))
    peers: dict[str, Start] = field(default_factory=dict)

    def note_start(self, which: str, start: Start) -> None:
        """The quickest of several counts: what makes the others slower is not ours."""
        self.starts[which] = min(start, self.starts.get(which, start), key=lambda each: each.answer)


def measure_calls(targets: Sequence[Target], options: Options, core: int | None) -> list[Calls]:
    """Whole answers, in rounds: each target once a round, so that the machine's moods meet all of them."""
    warm = [run(target.whole, connections=options.connections, seconds=_WARM_UP, core=core) for target in targets]
    rounds = [[_calls(target, options, core) for target in targets] for _ in range(options.rounds)]
    return [
        _middle(list(results), warm[i].calls, warm[i].errors) for i, results in enumerate(zip(*rounds, strict=True))
    ]


def _calls(target: Target, options: Options, core: int | None) -> Calls:
    before = target.process.cpu()
    load = run(target.whole, connections=options.connections, seconds=options.seconds, core=core)
    spent = target.process.cpu() - before
    cpu = spent / max(1, load.calls) * 1e6
    return Calls(target.name, cpu, load.calls / load.seconds, load.p50, load.p99, load.calls, load.errors)


def _middle(rounds: list[Calls], warm: int, errors: int) -> Calls:
    numbers = [median(values) for values in zip(*(each[1:5] for each in rounds), strict=True)]
    load, errors = warm + sum(each.load for each in rounds), errors + sum(each.errors for each in rounds)
    return Calls(rounds[0].name, *numbers, load, errors)


def measure_memory(service: Service, options: Options, core: int | None) -> Memory:
    """Go on asking until there were so many calls, of both kinds in turn."""
    seen, answered, errors = [_look(service)], 0, 0
    for target in islice(cycle((service.chat, service.ask)), _MOST_BURSTS):
        if seen[-1][0] >= options.calls:
            break
        load = run(target.whole, connections=options.connections, seconds=_BURST, core=core)
        answered, errors = answered + load.calls, errors + load.errors
        seen.append(_look(service))
    return Memory(seen, answered, errors)


def _look(service: Service) -> tuple[int, float]:
    return service.requests(), service.process.rss()


def measure_chunks(target: Target, options: Options, counter: int, core: int | None) -> Chunks:
    """Many streams at once. `counter` is the port of their upstream, which knows how many chunks it has written."""

    def read() -> tuple[float, ...]:
        return target.process.age(), target.process.cpu(), float(text_of(counter, "/"))

    seconds = options.seconds * options.rounds
    load, (elapsed, cpu, chunks) = press(
        target.stream, connections=target.streams, seconds=seconds + 2, core=core, meanwhile=window(seconds, read)
    )
    rate = chunks / elapsed
    spent = cpu / max(1, chunks) * 1e6
    return Chunks(target.name, target.streams, spent, rate, cpu / elapsed, load.calls, load.errors)


def measure_tokens(direct: Request, targets: Sequence[Target], options: Options) -> list[FirstToken]:
    """First the way without anything in between, then by how much it is later through each target.

    In rounds, as with `measure_calls`.
    """
    ways = [(direct, STREAMS), *((target.stream, target.streams) for target in targets)]
    rounds = [
        [first_tokens(request, streams=streams, seconds=options.token_seconds) for request, streams in ways]
        for _ in range(options.rounds)
    ]
    names = ["direct", *(target.name for target in targets)]
    floor, *found = map(_percentiles, names, zip(*rounds, strict=True))
    return [floor, *(each._replace(p50=each.p50 - floor.p50, p99=each.p99 - floor.p99) for each in found)]


def _percentiles(name: str, rounds: Sequence[tuple[list[float], int]]) -> FirstToken:
    percentiles = quantiles((each for seconds, _ in rounds for each in seconds), n=100, method="inclusive")
    return FirstToken(name, percentiles[49] * 1000, percentiles[98] * 1000, sum(load for _, load in rounds))


def compare_books(service: Service, answered: int) -> Rows:
    """Compare the history with what was answered since the service's start."""
    service.settle()
    before, after = service.before, books(service.directory)
    return Rows(
        answered=answered,
        ok=service.requests(status="200"),
        requests=service.requests(),
        abandoned=service.requests(status="499"),
        upstream=service.metric("aiproxy_upstream_requests_total"),
        rows={status: count - before.rows.get(status, 0) for status, count in after.rows.items()},
        log_lines=after.log_lines - before.log_lines,
        lost=service.metric("aiproxy_records_lost_total") + service.metric("aiproxy_log_lines_dropped_total"),
        chats=after.chats - before.chats,
        bodies=after.bodies - before.bodies,
        reported=after.reported - before.reported,
        spent=after.spent - before.spent,
        charged=after.charged - before.charged,
    )
