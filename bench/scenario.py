"""The run, from the first process to the last: who is started when, and asked for what."""

import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import litellm, nginx, portkey, service
from bench.measurements import (
    Found,
    Options,
    compare_books,
    measure_calls,
    measure_chunks,
    measure_memory,
    measure_tokens,
)
from bench.processes import Process, cores, free_port
from bench.service import Service
from bench.targets import Target, chat, status_of, wait_for

_OK = 200


def run(options: Options, *, peers: bool) -> Found:
    """Everything, in a directory that is gone afterwards. Raises `BenchError`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        return _Run(Path(name), stack, options, peers=peers).all()


class _Run:
    def __init__(self, directory: Path, stack: ExitStack, options: Options, *, peers: bool) -> None:
        self._directory = directory
        self._stack = stack
        self._options = options
        self._measured, self._load = cores()
        if self._load is not None:
            os.sched_setaffinity(0, {self._load})
        self._whole, self._streams = free_port(), free_port()
        self._found = Found(_machine())
        self._others: list[Target] = []
        self._peers = peers

    def all(self) -> Found:
        self._start_upstreams()
        self._start_others()
        directories = [self._directory / f"service-{number}" for number in range(self._options.starts)]
        self._whole_answers(self._start_service("first", directories, self._whole))
        again = [directories[-1]] * self._options.starts
        self._streamed_answers(self._start_service("second", again, self._streams))
        return self._found

    def _start_upstreams(self) -> None:
        self._stack.enter_context(nginx.upstream(self._directory / "upstream", self._whole, self._load))
        directory = self._directory / "streams"
        directory.mkdir()
        command = [sys.executable, str(Path(__file__).with_name("upstream.py")), str(self._streams)]
        process = self._stack.enter_context(Process(command, directory=directory, core=self._load))
        wait_for(process, lambda: status_of(self._streams, "/") == _OK, seconds=10, what="the fake provider")

    def _start_others(self) -> None:
        upstreams = (self._whole, self._streams)
        proxy = nginx.proxy(self._directory / "nginx", free_port(), upstreams, self._measured)
        self._stack.enter_context(proxy.process)
        self._others.append(proxy)
        for module in (litellm, portkey) if self._peers else ():
            name = module.__name__.rpartition(".")[2]
            _say(f"starting {name} …")
            peer, first = module.start(self._directory / name, upstreams, self._measured)
            self._stack.enter_context(peer.process)
            self._others.append(peer)
            self._found.peers[peer.name] = first

    def _start_service(self, which: str, directories: Sequence[Path], upstream: int) -> Service:
        """In each of the directories, one after the other; the last goes on running, the quickest is reported."""
        _say(f"the {which} start …")
        for directory in directories[:-1]:
            ours = service.start(directory, upstream, self._measured)
            ours.process.stop()
            self._found.note_start(which, ours.start)
        ours = service.start(directories[-1], upstream, self._measured)
        self._stack.enter_context(ours.process)
        self._found.note_start(which, ours.start)
        service.govern(ours)
        return ours

    def _whole_answers(self, ours: Service) -> None:
        found = self._found
        _say("memory …")
        found.memory = measure_memory(ours, self._options, self._load)
        _say("whole answers …")
        found.calls = measure_calls(self._targets(ours), self._options, self._load)
        answered = found.calls[1].load + found.calls[2].load + found.memory.load + 1  # the first one, at its start
        found.rows.append(compare_books(ours, answered))
        ours.process.stop()

    def _streamed_answers(self, ours: Service) -> None:
        found, targets = self._found, self._targets(ours)
        _say("streamed answers …")
        found.chunks = [measure_chunks(target, self._options, self._streams, self._load) for target in targets]
        _say("time to the first token …")
        found.direct, *found.tokens = measure_tokens(chat(self._streams, stream=True), targets, self._options)
        streams = [*(each.load for each in found.chunks[1:3]), *(each.load for each in found.tokens[1:3])]
        found.rows.append(compare_books(ours, sum(streams) + 1))

    def _targets(self, ours: Service) -> list[Target]:
        """nginx, which the others are compared with, first; then AI Proxy's two ways to ask, then the others."""
        return [self._others[0], ours.chat, ours.ask, *self._others[1:]]


def _machine() -> str:
    """In words, with how busy it was before the bench began."""
    cpus, load = os.cpu_count(), os.getloadavg()[0]
    return f"{cpus} cores, load average {load:.1f} before; Python {platform.python_version()}, nginx {nginx.version()}"


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)
