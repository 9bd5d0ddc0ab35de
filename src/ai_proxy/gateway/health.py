"""How a target has been doing: its circuit breaker, its cool-down, its latency."""

import math
from array import array
from typing import Literal, NamedTuple

import structlog

from ai_proxy.core.upstream_errors import (
    ProviderAuth,
    ProviderQuota,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)

log = structlog.get_logger()

State = Literal["closed", "open", "half-open"]

_FAULTS_IN_A_ROW = 5
_ALL_RECENT = (1 << 20) - 1  # one bit for each of the answers that the failure rate is of
_MANY_FAULTS = 10  # of these
_FIRST_OPEN = 5.0  # seconds; doubled each time that the probe fails
_LONGEST_OPEN = 60.0
_COOL_DOWN = 1.0  # after a 429 that does not say how long
_LONGEST_COOL_DOWN = 300.0  # a provider that says "tomorrow" is asked again before that: somebody may have paid
_PARKED = 60.0
_FORBIDDEN = 403
_RATE_LIMITED = 429

_DECAY = 30.0  # seconds in which an old latency loses two thirds of its weight
_SAMPLES = 64
_FEWEST_SAMPLES = 20  # the 95th percentile of fewer is their maximum


class Account:
    """One key with a provider, which all targets behind it share."""

    __slots__ = ("parked_until",)

    def __init__(self) -> None:
        self.parked_until = 0.0


class Latency:
    """Peak EWMA, which jumps up at once and comes down slowly, and the last latencies one by one. In seconds."""

    __slots__ = ("_next", "_peak", "_samples", "_stamp")

    def __init__(self) -> None:
        self._peak = 0.0
        self._stamp = 0.0
        self._samples = array("d")
        self._next = 0

    def note(self, seconds: float, now: float) -> None:
        if seconds >= self._peak:
            self._peak = seconds
        else:
            self._peak = seconds + (self._peak - seconds) * math.exp((self._stamp - now) / _DECAY)
        self._stamp = now
        if len(self._samples) < _SAMPLES:
            self._samples.append(seconds)
        else:
            self._samples[self._next] = seconds
            self._next = (self._next + 1) % _SAMPLES

    def peak(self, now: float) -> float:
        """Fades while nobody asks, so that a target that was slow once is tried again. 0 when nothing is known."""
        return self._peak * math.exp((self._stamp - now) / _DECAY) if self._peak else 0.0

    def p95(self) -> float | None:
        """None while too little is known."""
        if len(self._samples) < _FEWEST_SAMPLES:
            return None
        ordered = sorted(self._samples)
        return ordered[math.ceil(0.95 * len(ordered)) - 1]


class Try(NamedTuple):
    """One try of a target, under way. `probe` when it is the one that a half-open breaker lets through."""

    started: float
    stream: bool
    probe: bool


class Health:
    """Of one target: a provider's model behind one key.

    Each try is announced with `begin` and ended with one of `succeeded`, `failed` and `released`. Only the provider's
    own faults speak against it, never a refusal of what the caller sent and never a client that went away.
    """

    __slots__ = (
        "_account",
        "_faults",
        "_kept_until",
        "_latencies",
        "_open_for",
        "_out_until",
        "_probing",
        "_recent",
        "_told_status",
        "_told_until",
        "label",
        "running",
    )

    def __init__(self, label: str, account: Account) -> None:
        self.running = 0
        self.label = label
        self._account = account
        self._faults = 0  # in a row
        self._recent = 0  # one bit an answer, the latest lowest; set for a fault
        self._open_for = 0.0  # seconds; 0 while the breaker is closed
        self._probing = False
        self._out_until = 0.0  # of the breaker, or the cool-down
        self._told_until = 0.0  # when the provider itself said that we may come back,
        self._kept_until = 0.0  # and how long we keep to that
        self._told_status: int | None = None
        self._latencies = (Latency(), Latency())

    def latency(self, *, stream: bool) -> Latency:
        """Until the answer, or until a stream's first content."""
        return self._latencies[stream]

    def ready(self, now: float) -> bool:
        """Whether it may be asked. One at a time while the breaker is half open."""
        return now >= self._out_until and now >= self._account.parked_until and not self._probing

    def due(self) -> float:
        """When it may be asked again."""
        return max(self._out_until, self._account.parked_until)

    def told_until(self, now: float) -> float:
        """Until when the provider has asked us to leave it alone; `now` if it has not."""
        return max(self._kept_until, now)

    def state(self, now: float) -> State:
        if not self._open_for:
            return "closed"
        return "open" if now < self._out_until else "half-open"

    def begin(self, now: float, *, stream: bool) -> Try:
        """A try: to be handed to what ends it."""
        self.running += 1
        probe = self._open_for > 0 and now >= self._out_until and not self._probing
        if probe:
            self._probing = True
        return Try(now, stream, probe)

    def released(self, this: Try) -> None:
        """The try ended without a word on the target's health."""
        self.running -= 1
        if this.probe:
            self._probing = False

    def succeeded(self, this: Try, now: float) -> None:
        """It answered, or a stream has come to its first content."""
        self.released(this)
        self._recent = (self._recent << 1) & _ALL_RECENT
        self._faults = 0
        self._latencies[this.stream].note(now - this.started, now)
        if self._open_for:
            self._close()

    def failed(self, this: Try, error: UpstreamError, now: float) -> None:
        self.released(this)
        if isinstance(error, UpstreamRejected):
            if this.probe:  # it works: it has read the request and did not like it
                self._close()
            return
        if isinstance(error, ProviderAuth | ProviderQuota):
            self._park(error, now)
            return
        self._count(now, probe=this.probe)
        if isinstance(error, UpstreamRateLimited | UpstreamOverloaded):
            self._cool(error, now)
        elif isinstance(error, UpstreamTimeout):  # it would have taken that long at least
            self._latencies[this.stream].note(now - this.started, now)

    def broke(self, error: UpstreamError, now: float) -> None:
        """A stream failed after its first content, when its try had succeeded already."""
        if not isinstance(error, UpstreamRejected):
            self._count(now, probe=False)

    def refusal(self, provider: str, now: float) -> UpstreamError:
        """What a call is told that may not wait until the provider's own cool-down is over."""
        wait = self._told_until - now
        if self._told_status == _RATE_LIMITED:
            message = "limits the rate of our calls: try again later"
            return UpstreamRateLimited(provider, message, upstream_status=self._told_status, retry_after=wait)
        message = "is overloaded: try again later"
        return UpstreamOverloaded(provider, message, upstream_status=self._told_status, retry_after=wait)

    def _count(self, now: float, *, probe: bool) -> None:
        """What was still under way when the breaker opened says nothing new."""
        self._recent = ((self._recent << 1) | 1) & _ALL_RECENT
        self._faults += 1
        if self._open_for and not probe:
            return
        if probe or self._faults >= _FAULTS_IN_A_ROW or self._recent.bit_count() >= _MANY_FAULTS:
            self._open_for = min(2 * self._open_for, _LONGEST_OPEN) or _FIRST_OPEN
            self._out_until = max(self._out_until, now + self._open_for)
            log.warning("routing: breaker opened", target=self.label, seconds=self._open_for)

    def _close(self) -> None:
        self._open_for = 0.0
        self._out_until = self._kept_until
        self._faults = 0
        self._recent = 0
        log.info("routing: breaker closed", target=self.label)

    def _cool(self, error: UpstreamError, now: float) -> None:
        """Of this target and key only: limits of rate are of a model and an account."""
        if error.wait is not None:
            self._told_until = max(self._told_until, now + error.wait)
            self._kept_until = max(self._kept_until, now + min(error.wait, _LONGEST_COOL_DOWN))
            self._told_status = error.upstream_status
            self._out_until = max(self._out_until, self._kept_until)
        elif isinstance(error, UpstreamRateLimited):  # who is overloaded for a moment may take the next call
            self._out_until = max(self._out_until, now + _COOL_DOWN)

    def _park(self, error: UpstreamError, now: float) -> None:
        """A 403 is the target's alone: a key may be good for some models only, or a firewall dislikes one prompt."""
        whole = isinstance(error, ProviderQuota) or error.upstream_status != _FORBIDDEN
        if (self._account.parked_until if whole else self._out_until) <= now:
            what = "key" if whole else "target"
            log.error("routing: the provider refuses our key", target=self.label, error=error.code, parked=what)
        if whole:
            self._account.parked_until = now + _PARKED
        else:
            self._out_until = max(self._out_until, now + _PARKED)
