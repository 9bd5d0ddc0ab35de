"""What is counted, as Prometheus sees it at /metrics. Labels are bounded: never a key or a client's own text."""

from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from ai_proxy import __version__
from ai_proxy.core.money import DOLLAR
from ai_proxy.core.types import Exchange

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """One registry an application. Label look-ups are kept: they cost more than counting."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        Gauge("aiproxy_build_info", "Version.", ["version"], registry=registry).labels(__version__).set(1)
        self._requests = Counter(
            "aiproxy_requests_total", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._durations = Histogram(
            "aiproxy_request_duration_seconds",
            "Time to the end of the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_tokens = Histogram(
            "aiproxy_time_to_first_token_seconds",
            "Time to a stream's first token.",
            ["provider"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._calls = Counter(
            "aiproxy_calls_total", "Calls, by who answered last.", ["provider", "outcome"], registry=registry
        )
        self._upstream = Counter(
            "aiproxy_upstream_requests_total", "Tries at providers.", ["provider", "outcome"], registry=registry
        )
        self._tokens = Counter("aiproxy_tokens_total", "Tokens.", ["provider", "direction"], registry=registry)
        self._spent = Counter("aiproxy_cost_usd_total", "US dollars that calls cost.", ["provider"], registry=registry)
        self._unpriced = Counter("aiproxy_unpriced_calls_total", "Calls whose cost nobody knows.", registry=registry)
        self._aborted = Counter("aiproxy_streams_aborted_total", "Streams that broke off.", ["by"], registry=registry)
        self._refused = Counter(
            "aiproxy_refused_connections_total",
            "Connections refused before there was a request.",
            ["code"],
            registry=registry,
        )
        self._limited = Counter(
            "aiproxy_rate_limited_total", "Calls that the caller's own limits refused.", ["scope"], registry=registry
        )
        self.inflight = 0
        self.watch("aiproxy_inflight_requests", "Requests being served.", lambda: self.inflight)
        self._request_children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._call_children: dict[tuple[str, str], tuple[Counter, Counter, Counter]] = {}
        self._spent_children: dict[str, Counter] = {}
        self._attempt_children: dict[tuple[str, str], Counter] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the route's pattern, not the path that the client sent."""
        key = (method, route, status)
        children = self._request_children.get(key)
        if children is None:
            children = (self._requests.labels(method, route, str(status)), self._durations.labels(route))
            self._request_children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def call(self, exchange: Exchange) -> None:
        """Count a call, by its outcome (`completed`, `cancelled` or an error's code), and what it took at providers."""
        key = (exchange.provider, exchange.error or exchange.status)
        children = self._call_children.get(key)
        if children is None:
            children = (
                self._calls.labels(*key),
                self._tokens.labels(exchange.provider, "input"),
                self._tokens.labels(exchange.provider, "output"),
            )
            self._call_children[key] = children
        children[0].inc()
        if not exchange.cached:  # else no provider counted them
            children[1].inc(exchange.usage.input_tokens)
            children[2].inc(exchange.usage.output_tokens)
        self._cost(exchange)
        for attempt in exchange.attempts:
            self._attempt(attempt.provider, attempt.outcome)

    def _cost(self, exchange: Exchange) -> None:
        if exchange.cost is None:
            self._unpriced.inc()
        elif exchange.cost:
            child = self._spent_children.get(exchange.provider)
            if child is None:
                child = self._spent_children[exchange.provider] = self._spent.labels(exchange.provider)
            child.inc(exchange.cost / DOLLAR)

    def _attempt(self, provider: str, outcome: str) -> None:
        child = self._attempt_children.get((provider, outcome))
        if child is None:
            child = self._attempt_children[provider, outcome] = self._upstream.labels(provider, outcome)
        child.inc()

    def first_token(self, provider: str, seconds: float) -> None:
        self._first_tokens.labels(provider).observe(seconds)

    def stream_aborted(self, by: str) -> None:
        """Count a stream that broke off. `by` is `client`, `provider` or `gateway`."""
        self._aborted.labels(by).inc()

    def refused(self, code: str) -> None:
        """Count a connection that was refused for what came on it, or for want of room. `code` is the error's."""
        self._refused.labels(code).inc()

    def limited(self, scope: str) -> None:
        """Count a call that a limit refused. `scope` is `requests`, `tokens`, `concurrent` or `budget`."""
        self._limited.labels(scope).inc()

    def watch(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Show a number that somebody else keeps. One that only grows is named `…_total`, and is a counter."""
        if name.endswith("_total"):
            self._registry.register(_Growing(name, description, read))
        else:
            Gauge(name, description, registry=self._registry).set_function(read)

    def render(self) -> bytes:
        """The text form, version 0.0.4 of the Prometheus exposition format."""
        return generate_latest(self._registry)


class _Growing(Collector):
    """A counter whose number is asked for: the library's own can only be counted up."""

    def __init__(self, name: str, description: str, read: Callable[[], float]) -> None:
        self._name = name
        self._description = description
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._description, value=self._read())
